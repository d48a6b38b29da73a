"""What a guest is told of the host functions within its reach, with the test as the host."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

STATUS = {"type": "object", "properties": {"size": {"type": "integer", "description": "Bytes."}}}
SCHEMAS = {"Status": STATUS, "Tree": {"type": "array", "items": {"$ref": "#/c/s/Tree"}}}


def parameter(name: str, schema: Any, *, required: bool = True) -> dict[str, Any]:
    return {"name": name, "required": required, "schema": schema}


def method(name: str, *params: dict[str, Any], result: str = "Status") -> dict[str, Any]:
    return {
        "name": name,
        "summary": f"Do {name}.",
        "params": list(params),
        "result": {"name": "result", "schema": {"$ref": f"#/c/s/{result}"}},
        "errors": [{"code": -32001, "message": "Not allowed."}],
    }


@pytest.fixture
def told(driver: Any) -> Callable[..., str]:
    """Prints an expression in a guest whose host has these methods."""

    def show(expression: str, *methods: dict[str, Any]) -> str:
        code = f"import hyperlight, inspect\nprint({expression})"
        with ThreadPoolExecutor(1) as host:
            future = host.submit(driver.run, code)
            request, _ = driver.calls.receive()
            assert (request["method"], request["params"]) == ("rpc.discover", {})
            document = {"methods": methods, "components": {"schemas": SCHEMAS}}
            driver.calls.send({"jsonrpc": "2.0", "id": request["id"], "result": document})
            status, printed, errors = future.result(timeout=60)
        assert (status, errors) == (0, "")
        return str(printed)

    return show


@pytest.mark.parametrize(
    ("schema", "shown"),
    [
        ({"type": "integer"}, "int"),
        ({"type": "number"}, "float"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "str | None"),
        ({"type": "array", "items": {"type": "boolean"}}, "list[bool]"),
        ({"type": "object", "additionalProperties": {"type": "string"}}, "dict[str, str]"),
        ({"enum": ["a", 1]}, "Literal['a', 1]"),
        ({"const": "a"}, "Literal['a']"),
        ({"$ref": "#/c/s/Status"}, "dict[str, typing.Any]"),
        ({"$ref": "#/c/s/Tree"}, "list[list[list[list[typing.Any]]]]"),
        ({"type": ["string", "null"]}, "Any"),
        ({}, "Any"),
        (True, "Any"),
    ],
)
def test_a_parameter_has_its_type(told: Any, schema: Any, shown: str) -> None:
    """A schema that contains itself ends as well."""
    printed = told("inspect.signature(hyperlight.a.b)", method("a.b", parameter("p", schema)))
    assert printed == f"(*, p: {shown}) -> dict[str, typing.Any]\n"


def test_a_parameter_has_its_default(told: Any) -> None:
    params = [
        parameter("p", {"type": "integer", "default": 3}, required=False),
        parameter("q", {"type": "integer"}, required=False),
    ]
    printed = told("inspect.signature(hyperlight.a.b)", method("a.b", *params))
    assert printed.startswith("(*, p: int = 3, q: int = Ellipsis) ->")


def test_a_parameter_that_python_cannot_name_is_left_out(told: Any) -> None:
    names = ["class", "a-b", "fine"]
    params = [parameter(name, {"type": "integer"}) for name in names]
    printed = told("inspect.signature(hyperlight.a.b)", method("a.b", *params))
    assert printed.startswith("(*, fine: int) ->")


def test_help_shows_all_there_is_to_know(told: Any) -> None:
    described = method("fs.stat", parameter("path", {"type": "string", "description": "Where."}))
    printed = told("hyperlight.fs.stat.__doc__", described)
    assert printed == (
        "fs.stat(*, path: str) -> dict[str, typing.Any]\n\nDo fs.stat.\n"
        "\nParameters:\n    path: str: Where.\n"
        "\nResult:\n    size: int: Bytes.\n"
        "\nErrors:\n    -32001: Not allowed.\n"
    )


def test_help_on_a_namespace_lists_its_functions(told: Any) -> None:
    printed = told("hyperlight.fs.__doc__", method("fs.a"), method("fs.b"), method("fsx.c"))
    assert printed == "Host functions of fs:\n    fs.a: Do fs.a.\n    fs.b: Do fs.b.\n"


def test_help_on_what_is_not_granted_says_so(told: Any) -> None:
    assert told("hyperlight.net.__doc__") == "No host function net is within reach.\n"


def test_what_is_not_granted_has_the_signature_of_any_function(told: Any) -> None:
    assert "**params" in told("inspect.signature(hyperlight.net.get)")


def test_dir_lists_namespaces_and_functions(told: Any) -> None:
    methods = [method("fs.a"), method("fs.b.c"), method("net.a")]
    assert told("dir(hyperlight.fs)", *methods) == "['a', 'b']\n"
    assert "'fs', 'net'" in told("dir(hyperlight)", *methods)
