"""Tools of MCP servers, through the official SDK; needs the extra `mcp`."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

from hl_tools.described import DescribedTool
from hl_tools.models import McpServer
from hl_tools.worker import EventLoop
from hyperlight_core.errors import ConfigurationError, ToolError

__all__ = ["mcp_tools"]

_log = logging.getLogger(__name__)
#: Of these, core makes the name of a host function.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def mcp_tools(name: str, server: McpServer, loop: EventLoop) -> Iterator[DescribedTool]:
    """Connect to a server, until the loop is closed, and yield its tools.

    Raises:
        ConfigurationError: the SDK is not installed, or the server does not answer.
    """
    try:
        import mcp  # noqa: PLC0415 - comes with the extra
    except ImportError as error:
        raise ConfigurationError("to mend it: pip install 'hl-tools[mcp]'") from error
    target: Any = server.url
    if server.command:
        program, *arguments = server.command
        target = mcp.StdioServerParameters(command=program, args=arguments, env=server.env)
    connected: Future[tuple[Any, Any]] = Future()
    loop.submit(_stay_connected(mcp.Client(target), connected))
    try:
        client, listed = connected.result(server.start_timeout)
    except Exception as error:
        raise ConfigurationError(f"MCP server {name!r}: {type(error).__name__}: {error}") from error
    for tool in listed:
        if _NAME.fullmatch(tool.name):
            yield _tool(client, tool)
        else:
            _log.warning("the tool %r of MCP server %r cannot be named", tool.name, name)


async def _stay_connected(client: Any, connected: Future[tuple[Any, Any]]) -> None:
    try:
        async with client:
            connected.set_result((client, [tool async for tool in _all_tools(client)]))
            await asyncio.Event().wait()
    except Exception as error:
        if connected.done():
            raise
        connected.set_exception(error)


async def _all_tools(client: Any) -> Any:
    cursor = None
    while True:
        page = await client.list_tools(cursor=cursor)
        for tool in page.tools:
            yield tool
        cursor = page.next_cursor
        if cursor is None:
            return


def _tool(client: Any, tool: Any) -> DescribedTool:
    async def call(**arguments: Any) -> Any:
        return _value(await client.call_tool(tool.name, arguments))

    return DescribedTool(tool.name, tool.description or "", tool.input_schema, call)


def _value(result: Any) -> Any:
    """The structured content if there is some, else the text, else the list of contents."""
    texts = [part.text for part in result.content if part.type == "text"]
    if result.is_error:
        raise ToolError("\n".join(texts) or "the tool failed")
    if result.structured_content is not None:
        return result.structured_content
    if len(texts) == len(result.content):
        return "\n".join(texts)
    return [part.model_dump(mode="json", by_alias=True) for part in result.content]
