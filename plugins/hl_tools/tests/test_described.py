"""Tools given with a JSON Schema: objects of agent frameworks, and those of MCP servers."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from hyperlight_core.errors import CallLimitError, ConfigurationError, InvalidParamsError, ToolError
from hyperlight_core.openrpc import openrpc_document
from hyperlight_core.plugins import PluginSet, load_plugins
from hyperlight_core.testing import Answer, call_host_function

SCHEMA = {
    "type": "object",
    "properties": {"sku": {"$ref": "#/$defs/Sku"}, "count": {"type": "integer", "minimum": 1}},
    "required": ["sku"],
    "additionalProperties": False,
    "$defs": {"Sku": {"type": "string", "maxLength": 3}},
}


@dataclass
class FrameworkTool:
    """As agent frameworks have them."""

    name: str
    description: str
    input_schema: Any
    handler: Any


class Arguments(BaseModel):
    sku: str


@dataclass
class OtherTool:
    name: str
    description: str
    parameters: Any
    func: Any


def look_up(sku: str, count: int = 1) -> dict[str, Any]:
    return {"sku": sku, "count": count}


async def look_up_later(sku: str, count: int = 1) -> dict[str, Any]:
    return look_up(sku, count)


def call(plugins: PluginSet, method: str, **params: Any) -> Answer:
    return call_host_function(plugins.table, method, params)


@pytest.fixture
def make() -> Iterator[Any]:
    made = []

    def start(**configuration: Any) -> PluginSet:
        made.append(load_plugins({"tools": configuration}))
        return made[-1]

    yield start
    for plugins in made:
        plugins.closed()


@pytest.mark.parametrize(
    "tool",
    [
        FrameworkTool("stock", "Look it up.\n\nMore.", SCHEMA, look_up),
        FrameworkTool("stock", "Look it up.", SCHEMA, look_up_later),
        OtherTool("stock", "Look it up.", Arguments, look_up),
    ],
    ids=["plain", "async", "model"],
)
def test_an_object_of_a_framework_is_a_tool(make: Any, tool: object) -> None:
    plugins = make(functions=[tool])
    assert call(plugins, "tools.stock", sku="A1").result == {"sku": "A1", "count": 1}
    assert plugins.table["tools.stock"].doc == "Look it up."


@pytest.mark.parametrize(
    "params", [{}, {"sku": "A1234"}, {"sku": 1}, {"sku": "A", "count": 0}, {"sku": "A", "x": 1}]
)
def test_arguments_are_checked_against_the_schema(make: Any, params: dict[str, Any]) -> None:
    plugins = make(functions=[FrameworkTool("stock", "Doc.", SCHEMA, look_up)])
    answer = call(plugins, "tools.stock", **params)
    assert answer.error is not None
    assert answer.error["code"] == InvalidParamsError.code


def test_the_schema_is_published_without_references(make: Any) -> None:
    plugins = make(functions=[FrameworkTool("stock", "Doc.", SCHEMA, look_up)])
    (method,) = openrpc_document([plugins.table["tools.stock"]])["methods"]
    assert method["params"] == [
        {"name": "sku", "required": True, "schema": {"type": "string", "maxLength": 3}},
        {"name": "count", "required": False, "schema": {"type": "integer", "minimum": 1}},
    ]
    (tool,) = call(plugins, "tools.list").result["tools"]
    assert tool["parameters"]["required"] == ["sku"]


def test_a_schema_that_contains_itself_is_published_to_some_depth(make: Any) -> None:
    tree = {"type": "object", "properties": {"c": {"$ref": "#/$defs/T"}}}
    tool = FrameworkTool("t", "Doc.", {**tree, "$defs": {"T": tree}}, lambda **_: None)
    assert call(make(functions=[tool]), "tools.t", c={"c": {}}).error is None


def test_a_schema_that_is_none_is_refused(make: Any) -> None:
    with pytest.raises(ConfigurationError, match="schema is none"):
        make(functions=[FrameworkTool("t", "", {"type": "nonsense"}, look_up)])


# ---- MCP ---------------------------------------------------------------------------------------

SERVER = """
import sys, anyio
from mcp.server import MCPServer
server = MCPServer("shop")

@server.tool()
def price(sku: str, count: int = 1) -> dict[str, float]:
    "What it costs."
    if sku == "none":
        raise ValueError("no such article")
    return {"total": 2.5 * count}

@server.tool(name="odd name")
def odd() -> str:
    return ""

@server.tool()
async def slow() -> str:
    "Never ends."
    await anyio.sleep_forever()
    return ""

if sys.argv[1:]:
    server.run("streamable-http", port=int(sys.argv[1]))
else:
    server.run("stdio")
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "server.py"
    path.write_text(SERVER)
    return path


@pytest.fixture(params=["stdio", "http"])
def server(request: pytest.FixtureRequest, script: Path) -> Iterator[dict[str, Any]]:
    """The configuration of a server that is there."""
    if request.param == "stdio":
        yield {"command": [sys.executable, str(script)]}
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, str(script), str(port)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "running on" in line:
                break
        drain = threading.Thread(target=process.stderr.read)
        drain.start()
        yield {"url": f"http://127.0.0.1:{port}/mcp"}
        process.terminate()
        drain.join()


def test_the_tools_of_an_mcp_server_are_host_functions(make: Any, server: dict[str, Any]) -> None:
    """All but those whose names cannot be written."""
    plugins = make(mcp={"shop": {**server, "limits": {"timeout": 4.0}}})
    assert sorted(plugins.table) == ["mcp.shop.price", "mcp.shop.slow", "tools.list"]
    assert plugins.table["mcp.shop.price"].doc == "What it costs."
    assert call(plugins, "mcp.shop.price", sku="A1", count=2).result == {"total": 5.0}
    codes = {
        "wrong": call(plugins, "mcp.shop.price", sku=1),
        "failing": call(plugins, "mcp.shop.price", sku="none"),
        "slow": call(plugins, "mcp.shop.slow"),
    }
    assert {name: (answer.error or {})["code"] for name, answer in codes.items()} == {
        "wrong": InvalidParamsError.code,
        "failing": ToolError.code,
        "slow": CallLimitError.code,
    }


def test_only_the_tools_named_are_granted(make: Any, script: Path) -> None:
    command = [sys.executable, str(script)]
    plugins = make(mcp={"shop": {"command": command, "tools": ["price"]}})
    assert sorted(plugins.table) == ["mcp.shop.price", "tools.list"]
    with pytest.raises(ConfigurationError, match="has no tool 'prize'"):
        make(mcp={"shop": {"command": command, "tools": ["prize"]}})


def test_a_server_that_is_not_there_fails_the_sandbox(make: Any) -> None:
    with pytest.raises(ConfigurationError, match="MCP server 'shop'"):
        make(mcp={"shop": {"command": ["/no/such/program"]}})


@pytest.mark.parametrize("server", [{}, {"command": ["x"], "url": "http://x"}])
def test_a_server_is_reached_in_one_way(make: Any, server: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="either a command or a url"):
        make(mcp={"shop": server})
