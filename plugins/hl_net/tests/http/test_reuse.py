"""Connections are kept for the next request, and give nobody more than a new one would."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Speaker:
    """Answers request after request on a connection, until an answer is the last one."""

    def __init__(self, *answers: bytes) -> None:
        self.answers, self.requests = answers, [b""] * 0
        self.closed = threading.Semaphore(0)  # once for each connection that the client closed

    def __call__(self, connection: Any) -> None:
        for answer in self.answers:
            request = b""
            while not request.endswith(b"\r\n\r\n"):
                if not (part := connection.recv(1 << 16)):
                    self.closed.release()
                    return
                request += part
            self.requests.append(request)
            connection.sendall(answer)


@pytest.fixture
def speak(serve: Any) -> Callable[..., Any]:
    """Start a server that gives these answers on every connection; the last one for ever."""

    def start(*answers: bytes, address: str = "127.0.0.1") -> Any:
        speaker = Speaker(*answers, *[answers[-1]] * 100)
        server = serve(speaker, address)
        server.speaker, server.url = speaker, f"http://{address}:{server.port}"
        return server

    return start


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nTrailer: x\r\n\r\n"


@pytest.mark.parametrize("answer", [OK, CHUNKED], ids=["sized", "chunked"])
def test_connection_is_kept(make_guest: Any, speak: Any, answer: bytes) -> None:
    server = speak(answer)
    guest = make_guest(allow=server.url, budgets={"connections": 1})
    assert [guest.fetch(server.url) for _ in range(3)] == [(200, b"ok")] * 3
    assert (server.connections, len(server.speaker.requests)) == (1, 3)


def test_tls_connection_is_kept(make_guest: Any, nginx: Any) -> None:
    origin = f"https://127.0.0.1:{nginx.https}"
    guest = make_guest(allow=origin, authorities=[nginx.authority], budgets={"connections": 1})
    for number in range(3):
        assert guest.fetch(f"{origin}/echo?{number}")[1].endswith(b"?%d" % number)


def test_sandboxes_share_no_connection(make_guest: Any, speak: Any) -> None:
    server = speak(OK)
    for _ in range(2):
        make_guest(allow=server.url).fetch(server.url)
    assert server.connections == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        CHUNKED + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        CHUNKED + b"x",
    ],
    ids=["close", "http-1.0", "more-sized", "more-chunked", "garbage"],
)
def test_connection_that_says_more_or_ends_is_given_up(
    make_guest: Any, speak: Any, answer: bytes
) -> None:
    """What a server sends unasked is never taken for the next answer."""
    server = speak(answer)
    guest = make_guest(allow=server.url)
    assert [guest.fetch(server.url) for _ in range(2)] == [(200, b"ok")] * 2
    assert server.connections == 2


def test_answer_sent_while_nobody_asks_is_never_read(make_guest: Any, serve: Any) -> None:
    sent = threading.Event()

    def run(connection: Any) -> None:
        connection.recv(1 << 16)
        connection.sendall(OK)
        if server.connections == 1:
            connection.sendall(OK.replace(b"ok", b"no"))
        sent.set()
        connection.recv(1 << 16)

    server = serve(run)
    url = f"http://127.0.0.1:{server.port}"
    guest = make_guest(allow=url)
    assert guest.fetch(url) == (200, b"ok")
    assert sent.wait(20)
    assert guest.fetch(url) == (200, b"ok")
    assert server.connections == 2


def test_every_request_is_decided(make_guest: Any, speak: Any) -> None:
    server = speak(OK)
    guest = make_guest(allow=f"GET {server.url}/v1")
    guest.fetch(f"{server.url}/v1")
    for method, path in (("GET", "/v2"), ("DELETE", "/v1")):
        error = guest.refused("net.request", method=method, url=server.url + path)
        assert error.errno == "EACCES"
    assert len(server.speaker.requests) == 1


def test_address_of_a_kept_connection_is_decided_too(
    make_guest: Any, speak: Any, dns_stub: Any
) -> None:
    """One path of a name may lead where another one may not."""
    server = speak(OK, address="127.0.0.2")
    dns_stub.answer("a.test", ["127.0.0.2"])
    origin = f"http://a.test:{server.port}"
    guest = make_guest(
        allow=[f"{origin}/v1 via 127.0.0.2/32", f"{origin}/v2 via 127.0.0.3/32"],
        nameservers=[dns_stub.server],
    )
    guest.fetch(f"{origin}/v1")
    error = guest.refused("net.request", method="GET", url=f"{origin}/v2")
    assert error.data["reason"] == "special address"
    assert server.speaker.closed.acquire(timeout=20)
    assert len(server.speaker.requests) == 1


def test_kept_connection_stays_with_the_address_that_was_checked(
    make_guest: Any, speak: Any, dns_stub: Any
) -> None:
    server = speak(OK, address="127.0.0.2")
    dns_stub.answer("rebind.test", ["127.0.0.2"], ["127.0.0.1"])
    url = f"http://rebind.test:{server.port}"
    guest = make_guest(allow=f"{url} via 127.0.0.2/32", nameservers=[dns_stub.server])
    assert [guest.fetch(url)[0] for _ in range(2)] == [200, 200]
    assert dns_stub.queries.count("rebind.test A") == 1


def test_requests_with_other_credentials_go_another_way(make_guest: Any, speak: Any) -> None:
    server = speak(OK)
    guest = make_guest(
        allow=server.url, credentials={"key": {"rules": server.url, "value": "s3cret"}}
    )
    for credential in ("key", None, "key", None):
        guest.fetch(server.url, credential=credential)
    assert server.connections == 2


def test_what_must_not_be_sent_twice_gets_a_connection_of_its_own(
    make_guest: Any, speak: Any
) -> None:
    server = speak(OK)
    guest = make_guest(allow=server.url)
    for method in ("GET", "POST", "POST"):
        guest.call("net.request", method=method, url=server.url)
    assert server.connections == 3


def test_server_that_closes_a_kept_connection_at_the_last_moment_is_asked_again(
    make_guest: Any, serve: Any
) -> None:
    requests = []

    def run(connection: Any) -> None:
        requests.append(connection.recv(1 << 16))
        connection.sendall(OK)
        requests.append(connection.recv(1 << 16))  # and no answer

    server = serve(run)
    url = f"http://127.0.0.1:{server.port}"
    calls = iter(["first", "second"])
    credential = {"rules": url, "resolver": lambda: next(calls), "automatic": True}
    guest = make_guest(allow=url, credentials={"key": credential})
    assert [guest.fetch(url) for _ in range(2)] == [(200, b"ok")] * 2
    assert (server.connections, len(requests)) == (2, 3)


@pytest.mark.parametrize("end", ["kill", "deadline"])
def test_wait_ends_on_a_connection_whose_answers_used_to_come_soon(
    make_guest: Any, serve: Any, end: str
) -> None:
    """Looking for an answer without sleeping is no way to wait for ever."""
    stopped = threading.Event()

    def run(connection: Any) -> None:
        for _ in range(20):
            connection.recv(1 << 16)
            connection.sendall(OK)
        connection.recv(1 << 16)
        if end == "kill":
            guest.kill()
        stopped.wait(20)

    server = serve(run)
    url = f"http://127.0.0.1:{server.port}"
    guest = make_guest(allow=url, budgets={"first_byte_seconds": 20 if end == "kill" else 0.1})
    assert [guest.fetch(url) for _ in range(20)] == [(200, b"ok")] * 20
    error = guest.refused("net.request", method="GET", url=url)
    stopped.set()
    assert error.errno == ("EINTR" if end == "kill" else "ETIMEDOUT")


def test_new_connection_without_an_answer_is_an_error(make_guest: Any, serve: Any) -> None:
    server = serve(lambda connection: connection.recv(1 << 16))
    url = f"http://127.0.0.1:{server.port}"
    error = make_guest(allow=url).refused("net.request", method="GET", url=url)
    assert (error.errno, server.connections) == ("ECONNRESET", 1)


def test_connection_of_a_body_that_was_not_read_is_closed(make_guest: Any, speak: Any) -> None:
    server = speak(OK.replace(b": 2", b": 9"))
    guest = make_guest(allow=server.url)
    guest.call("net.close", handle=guest.get(server.url)["handle"])
    assert server.speaker.closed.acquire(timeout=20)


def test_restoring_and_closing_close_what_is_kept(
    make_guest: Any, speak: Any, snapshot: Any
) -> None:
    server = speak(OK)
    guest = make_guest(allow=server.url)
    token = snapshot(guest)
    guest.fetch(server.url)
    guest.plugin.snapshot_restored(token)
    assert server.speaker.closed.acquire(timeout=20)
    guest.fetch(server.url)
    guest.close()
    assert server.speaker.closed.acquire(timeout=20)
    assert server.connections == 2


@pytest.mark.parametrize("budget", ["idle_seconds", "total_seconds"])
def test_kept_connection_grows_no_older_than_others(
    make_guest: Any, speak: Any, budget: str
) -> None:
    server = speak(OK)
    guest = make_guest(allow=server.url, budgets={budget: 0.2})
    guest.fetch(server.url)
    threading.Event().wait(0.25)
    guest.fetch(server.url)
    assert server.connections == 2


def test_kept_connections_are_few(make_guest: Any, speak: Any) -> None:
    servers = [speak(OK) for _ in range(10)]
    guest = make_guest(allow=[server.url for server in servers])
    for server in servers:
        guest.fetch(server.url)
    for server in servers[:2]:
        assert server.speaker.closed.acquire(timeout=20)
    for server in servers[2:]:
        guest.fetch(server.url)
        assert server.connections == 1


def test_kept_connections_make_room_for_handles(make_guest: Any, speak: Any) -> None:
    server = speak(OK)
    guest = make_guest(allow=server.url, budgets={"open_handles": 2})
    guest.fetch(server.url)
    guest.socket()
    guest.socket()
    assert server.speaker.closed.acquire(timeout=20)
