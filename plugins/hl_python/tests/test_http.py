"""The guest's `hyperlight.http`, with the test as the host."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

HEAD = {"status": 200, "url": "http://a/", "headers": [["Content-Type", "text/plain"]]}
DONE = {**HEAD, "handle": None, "size": 0, "end": True}

Served = Callable[..., tuple[list[tuple[str, dict[str, Any], bytes]], tuple[int, str, str]]]


@pytest.fixture
def served(driver: Any) -> Served:
    """Runs code, answering its calls one after another; gives the calls and what the run did."""

    def run(code: str, *replies: tuple[dict[str, Any], bytes]) -> Any:
        calls = []
        with ThreadPoolExecutor(1) as host:
            future = host.submit(driver.run, f"import hyperlight\nhttp = hyperlight.http\n{code}")
            for reply, attachment in replies:
                request, data = driver.calls.receive()
                calls.append((request["method"], request["params"], data))
                response = {"jsonrpc": "2.0", "id": request["id"], **reply}
                driver.calls.send(response, attachment)
            return calls, future.result(timeout=60)

    return run


def test_a_request_says_what_the_host_has_to_know(served: Served) -> None:
    code = (
        "r = http.get('http://a/', headers={'X-A': '1'}, credential='c')\nprint(r.status, r.text)"
    )
    calls, done = served(code, ({"result": {**DONE, "size": 2}}, b"hi"))
    method, params, data = calls[0]
    assert (method, data, done) == ("net.request", b"", (0, "200 hi\n", ""))
    assert params == {
        "method": "GET",
        "url": "http://a/",
        "headers": [["X-A", "1"]],
        "credential": "c",
        "follow_redirects": True,
    }


def test_a_body_is_read_to_its_end_part_by_part(served: Served) -> None:
    code = "r = http.get('http://a/')\nprint(r.content, r.content, list(r))"
    open_head = {**DONE, "handle": 4, "size": 2, "end": False}
    parts = [({"result": {"size": 2, "end": end}}, text) for end, text in [(0, b"cd"), (1, b"ef")]]
    calls, done = served(code, ({"result": open_head}, b"ab"), *parts)
    assert [method for method, _, _ in calls[1:]] == ["net.response_read"] * 2
    assert done == (0, "b'abcdef' b'abcdef' []\n", "")


def test_json_goes_both_ways(served: Served) -> None:
    code = "print(http.post('http://a/', json={'a': 1}).json()['b'])"
    calls, done = served(code, ({"result": {**DONE, "size": 7}}, b'{"b":2}'))
    _, params, data = calls[0]
    assert (data, params["body"], done) == (b'{"a": 1}', "attached", (0, "2\n", ""))
    assert params["headers"] == [["Content-Type", "application/json"]]


def test_parts_are_sent_as_they_come(served: Served) -> None:
    code = "print(http.put('http://a/', data=(b'x' * n for n in (1, 200000))).status)"
    empty = ({"result": {"size": 0}}, b"")
    opened = ({"result": {**DONE, "handle": 9, "end": False, "status": None}}, b"")
    calls, done = served(code, opened, empty, empty, empty, empty, ({"result": DONE}, b""))
    assert [len(data) for _, _, data in calls] == [0, 1, 1 << 17, 200000 - (1 << 17), 0, 0]
    assert calls[0][1]["body_size"] is None
    assert calls[-2][:2] == ("net.request_write", {"handle": 9, "end": True})
    assert (calls[-1][0], done) == ("net.response", (0, "200\n", ""))


def test_a_body_that_fails_half_way_gives_the_request_up(served: Served) -> None:
    code = "def parts():\n    yield b'a'\n    raise ValueError\nhttp.put('http://a/', data=parts())"
    opened = ({"result": {**DONE, "handle": 9, "end": False, "status": None}}, b"")
    calls, done = served(code, opened, ({"result": {"size": 1}}, b""), ({"result": {}}, b""))
    assert calls[-1][:2] == ("net.close", {"handle": 9})
    assert done[0] == 1


def test_headers_are_found_in_any_case(served: Served) -> None:
    code = (
        "h = http.get('http://a/').headers\nprint(h['set-cookie'], h.get_all('SET-COOKIE'), len(h))"
    )
    pairs = [["Set-Cookie", "a"], ["set-cookie", "b"], ["X", "y"]]
    _, done = served(code, ({"result": {**DONE, "headers": pairs}}, b""))
    assert done == (0, "a, b ['a', 'b'] 2\n", "")


def test_a_refusal_is_a_permission_error(served: Served) -> None:
    code = (
        "try:\n    http.get('http://a/')\n"
        "except PermissionError as error:\n    print(error.data['rule'])"
    )
    data = {"errno": "EACCES", "rule": "http://a"}
    _, done = served(code, ({"error": {"code": -32001, "message": "no", "data": data}}, b""))
    assert done == (0, "http://a\n", "")


def test_leaving_a_response_closes_it(served: Served) -> None:
    code = "with http.get('http://a/'):\n    pass"
    open_head = {**DONE, "handle": 4, "end": False}
    calls, done = served(code, ({"result": open_head}, b""), ({"result": {}}, b""))
    assert (calls[-1][:2], done[0]) == (("net.close", {"handle": 4}), 0)


def test_a_response_nobody_reads_is_given_up(served: Served) -> None:
    open_head = {**DONE, "handle": 4, "end": False}
    calls, done = served(
        "http.get('http://a/')", ({"result": open_head}, b""), ({"result": {}}, b"")
    )
    assert calls[1][:2] == ("net.close", {"handle": 4})
    assert done == (0, "", "")


def test_a_response_that_breaks_off_is_given_up(served: Served) -> None:
    open_head = {**DONE, "handle": 4, "end": False}
    error = {"code": -32000, "message": "reset", "data": {"errno": "ECONNRESET"}}
    code = (
        "try:\n    http.get('http://a/').content\nexcept ConnectionResetError as e: print(e.errno)"
    )
    replies = [({"result": open_head}, b""), ({"error": error}, b""), ({"result": {}}, b"")]
    calls, done = served(code, *replies)
    assert calls[2][:2] == ("net.close", {"handle": 4})
    assert done == (0, "104\n", "")
