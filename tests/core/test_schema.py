"""Any table makes a document that follows the OpenRPC specification and JSON Schema draft 7."""

from __future__ import annotations

import enum
import importlib
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, RootModel

from hyperlight_core.errors import CallLimitError, DeniedError
from hyperlight_core.functions import HostFunction, Model
from hyperlight_core.openrpc import openrpc_document
from hyperlight_core.table import HostFunctionTable
from tests.core.metaschema import faults


class Color(enum.Enum):
    RED = "red"


class Tree(Model):
    """A model that contains itself."""

    children: list[Tree] = Field(default_factory=list)


class Everything(Model):
    """One field of every kind."""

    number: Annotated[float, Field(ge=0)] = 1.0
    text: Annotated[str, Field(max_length=9)] | None = None
    choice: Literal["a", 1] = "a"
    pair: tuple[int, str]
    mapping: dict[str, list[Tree]]
    color: Color
    day: date
    anything: Any
    schema_: int = Field(alias="schema", description="A name that is taken.")


class Number(RootModel[int]):
    """A result that is no object."""


class Empty(Model):
    pass


def function(name: str, request: Any, response: Any, **more: Any) -> HostFunction:
    """A declared function; nothing calls it."""
    return HostFunction(name, lambda _: None, request, response, **more)


FUNCTIONS = {
    "nothing": [],
    "empty models": [function("a.b", Empty, Empty)],
    "every kind of field": [
        function("a.b", Everything, Everything, doc="Do it.", plugin="p", errors=(DeniedError,))
    ],
    "a model that contains itself": [function("a.b", Tree, Tree, plugin="p")],
    "a result that is no object": [function("a.b", Empty, Number, plugin="p")],
    "shared models": [
        function("b.c", Everything, Tree, plugin="p", errors=(DeniedError, CallLimitError)),
        function("a.b", Tree, Everything, plugin="q", errors=(OSError,)),
    ],
}


def references(value: Any) -> Iterator[str]:
    """The target of every $ref."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for member in value.values():
            yield from references(member)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


@pytest.mark.parametrize("functions", FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_document_follows_the_specification(functions: list[HostFunction]) -> None:
    document = openrpc_document(HostFunctionTable(functions).values())
    assert faults(document) == []
    names = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) <= names
    assert [method["name"] for method in document["methods"]] == sorted(
        function.name for function in functions
    )


def test_an_installed_plugin_makes_a_document(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "plugins"))
    plugins = importlib.import_module("hyperlight_core.plugins").load_plugins({"echo": {}})
    document = openrpc_document(plugins.table.values())
    assert faults(document) == []
    assert document["methods"][0]["tags"] == [{"name": "echo"}]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("openrpc", "2.0.0"),
        ("info", {"title": "t"}),
        ("methods", [{"name": "a.b", "params": []}]),
        ("methods", [{"name": "", "params": [], "result": {"name": "r", "schema": {}}}]),
        (
            "methods",
            [{"name": "a.b", "params": [{"name": "p"}], "result": {"name": "r", "schema": {}}}],
        ),
        (
            "methods",
            [{"name": "a.b", "params": [], "result": {"name": "r", "schema": {"type": "no"}}}],
        ),
        ("components", {"schemas": {"a b": {}}}),
        ("servers_", []),
    ],
)
def test_the_check_finds_what_breaks_the_specification(path: str, value: Any) -> None:
    document = openrpc_document([function("a.b", Empty, Empty)])
    assert faults(document) == []
    assert faults(document | {path: value})
