"""The guest's `hyperlight` module, with the test as the host."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest


@pytest.fixture
def served(driver: Any) -> Callable[..., tuple[Any, Any]]:
    """Runs code that makes one call; gives the request and what the run did."""

    def run(
        code: str, reply: dict[str, Any], attachment: bytes = b""
    ) -> tuple[tuple[Any, bytes], tuple[int, str, str]]:
        with ThreadPoolExecutor(1) as host:
            future = host.submit(driver.run, f"import hyperlight\n{code}")
            request, data = driver.calls.receive()
            identifier = request.pop("id")
            driver.calls.send({"jsonrpc": "2.0", "id": identifier, **reply}, attachment)
            return (request, data), future.result(timeout=60)

    return run


def test_a_call_sends_its_parameters_and_gives_the_result(served: Any) -> None:
    code = "print(hyperlight.call('fs.stat', path='/data')['size'])"
    (request, data), done = served(code, {"result": {"size": 3}})
    assert request == {"jsonrpc": "2.0", "method": "fs.stat", "params": {"path": "/data"}}
    assert data == b""
    assert done == (0, "3\n", "")


@pytest.mark.parametrize(
    ("expression", "method"),
    [
        ("hyperlight.tools.lookup", "tools.lookup"),
        ("hyperlight.a.b.c", "a.b.c"),
        ("hyperlight.ping", "ping"),
    ],
)
def test_attributes_spell_the_name_of_a_function(served: Any, expression: str, method: str) -> None:
    (request, _), done = served(f"print({expression}(sku='A1'))", {"result": "found"})
    assert (request["method"], request["params"]) == (method, {"sku": "A1"})
    assert done == (0, "found\n", "")


def test_a_parameter_may_have_any_name(served: Any) -> None:
    (request, _), _ = served("hyperlight.call('m', **{'method': 1, 'self': 2})", {"result": None})
    assert request["params"] == {"method": 1, "self": 2}


def test_attachments_go_both_ways(served: Any) -> None:
    code = (
        "result, data = hyperlight.call_raw('fs.write', {'handle': 1}, bytes(70000))\n"
        "print(result, len(data), set(data))"
    )
    (request, data), done = served(code, {"result": {"size": 9}}, b"\x07" * 60000)
    assert request["params"] == {"handle": 1}
    assert data == bytes(70000)
    assert done == (0, "{'size': 9} 60000 {7}\n", "")


@pytest.mark.parametrize(
    ("error", "caught"),
    [
        ({"code": -32000, "data": {"errno": "ENOENT"}}, "FileNotFoundError"),
        ({"code": -32000, "data": {"errno": "EISDIR"}}, "IsADirectoryError"),
        ({"code": -32000, "data": {"errno": "EROFS"}}, "OSError"),
        ({"code": -32001, "data": {"errno": "EACCES"}}, "PermissionError"),
        ({"code": -32001}, "PermissionError"),
        ({"code": -32601}, "hyperlight.MethodNotFoundError"),
        ({"code": -32601}, "LookupError"),
        ({"code": -32602}, "hyperlight.InvalidParamsError"),
        ({"code": -32602}, "ValueError"),
        ({"code": -32002, "data": {"errno": "NONSENSE"}}, "hyperlight.HostError"),
        ({"code": -32000, "data": {"type": "KeyError"}}, "hyperlight.HostError"),
    ],
)
def test_an_error_of_the_host_is_the_exception_nearest_to_it(
    served: Any, error: dict[str, Any], caught: str
) -> None:
    code = (
        "try:\n    hyperlight.call('m')\n"
        f"except {caught} as error:\n"
        "    print(isinstance(error, hyperlight.HostError), error.message, error.code)"
    )
    _, done = served(code, {"error": {"message": "refused", **error}})
    assert done == (0, f"True refused {error['code']}\n", "")


def test_an_os_error_has_its_number_and_text(served: Any) -> None:
    code = (
        "try:\n    hyperlight.call('m')\nexcept OSError as error:\n"
        "    print(error.errno, error.strerror, error, error.data)"
    )
    reply = {"error": {"message": "gone", "code": -32000, "data": {"errno": "ENOENT"}}}
    _, done = served(code, reply)
    assert done == (0, "2 gone [Errno 2] gone {'errno': 'ENOENT'}\n", "")


@pytest.mark.parametrize("value", ["{1}", "float('inf')", "b''"])
def test_a_parameter_that_is_not_json_is_refused_before_the_call(driver: Any, value: str) -> None:
    code = (
        "import hyperlight\ntry:\n"
        f"    hyperlight.call('m', value={value})\n"
        "except (TypeError, ValueError):\n    print('refused')"
    )
    assert driver.run(code) == (0, "refused\n", "")


def test_positional_parameters_are_refused(driver: Any) -> None:
    status, _, errors = driver.run("import hyperlight\nhyperlight.tools.lookup('A1')")
    assert (status, "TypeError" in errors) == (1, True)


def test_private_names_are_no_host_functions(driver: Any) -> None:
    code = "import hyperlight\nprint(hasattr(hyperlight, '_x'), hasattr(hyperlight.a, '__len__'))"
    assert driver.run(code) == (0, "False False\n", "")
