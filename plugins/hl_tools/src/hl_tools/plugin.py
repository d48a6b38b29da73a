"""The plugin: a host function for every granted callable, and one that lists them."""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from hl_tools.mcp_servers import mcp_tools
from hl_tools.models import ListRequest, ListResponse, ToolsConfiguration
from hl_tools.tool import Tool
from hl_tools.worker import EventLoop
from hyperlight_core.errors import ConfigurationError
from hyperlight_core.functions import HostFunction, functions_of, host_function
from hyperlight_core.hookspecs import CliOption, hookimpl

__all__ = ["ToolsPlugin"]

_FLAG = "--tool"


class ToolsPlugin:
    """Grants Python callables to one sandbox."""

    configuration: ClassVar = ToolsConfiguration
    namespaces: ClassVar = ("tools", "mcp")
    cli_options: ClassVar = (
        CliOption(_FLAG, "NAME=MODULE:FUNCTION", "Let the guest call a Python function."),
    )

    def __init__(self, configuration: ToolsConfiguration) -> None:
        self._loop = EventLoop()
        try:
            self._tools = [
                *_tools(configuration, self._loop),
                *_tools_of_servers(configuration, self._loop),
            ]
        except BaseException:
            self._loop.close()
            raise

    @staticmethod
    def configuration_from_options(
        options: Mapping[str, tuple[str, ...]],
    ) -> dict[str, Any] | None:
        """The functions that `--tool` names, which are imported.

        Raises:
            ValueError: a value is malformed or names nothing that can be called.
        """
        values = options.get(_FLAG, ())
        functions = dict(map(_imported, values))
        if len(functions) < len(values):
            raise ValueError(f"{_FLAG}: two tools have the same name")
        return {"functions": functions} if functions else None

    @host_function("tools.list")
    def list_tools(self, request: ListRequest) -> ListResponse:  # noqa: ARG002 (nothing in it)
        """List the tools with their descriptions and JSON Schemas."""
        return ListResponse(tools=[tool.describe() for tool in self._tools])

    @hookimpl
    def host_functions(self) -> list[HostFunction]:
        """One function for each tool, and `tools.list`."""
        return [*functions_of(self), *(tool.host_function() for tool in self._tools)]

    @hookimpl
    def explain(self) -> list[str]:
        """The tools by name."""
        return [f"call {tool.name}" for tool in self._tools]

    @hookimpl
    def closed(self) -> None:
        """Cancel what async tools still do."""
        self._loop.close()


def _tools(configuration: ToolsConfiguration, loop: EventLoop) -> Iterator[Tool]:
    for name, function in configuration.functions.items():
        limits = configuration.limits.get(name, configuration.default_limits)
        try:
            yield Tool(f"tools.{name}", function, limits, loop)
        except ConfigurationError as error:
            raise ConfigurationError(f"tool {name!r}: {error}") from error


def _tools_of_servers(configuration: ToolsConfiguration, loop: EventLoop) -> Iterator[Tool]:
    for name, server in configuration.mcp.items():
        granted = {
            tool.name: tool
            for tool in mcp_tools(name, server, loop)
            if server.tools is None or tool.name in server.tools
        }
        missing = (server.tools or frozenset()) - granted.keys()
        if missing:
            raise ConfigurationError(f"MCP server {name!r} has no tool {min(missing)!r}")
        for tool in granted.values():
            yield Tool(f"mcp.{name}.{tool.name}", tool, server.limits, loop)


def _imported(value: str) -> tuple[str, Any]:
    name, equals, target = value.partition("=")
    if not (name and equals and ":" in target):
        raise ValueError(f"{_FLAG} {value!r} is not NAME=MODULE:FUNCTION")
    # As with `python -m`, modules beside the caller are found; a console script would not see them.
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        function = pkgutil.resolve_name(target)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{_FLAG} {value!r}: {error}") from error
    if not callable(function):
        raise ValueError(f"{_FLAG} {value!r}: {target} is not callable")
    return name, function
