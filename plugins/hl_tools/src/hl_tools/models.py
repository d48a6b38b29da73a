"""The configuration of the tools plugin, and the messages of its own host function."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from hl_tools.described import DescribedTool, described
from hyperlight_core.functions import Model

__all__ = [
    "ListRequest",
    "ListResponse",
    "McpServer",
    "ToolDescription",
    "ToolLimits",
    "ToolsConfiguration",
]

#: What a guest calls as `hyperlight.tools.<name>`.
_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")

#: The host function that lists the tools.
RESERVED = "list"


class ToolLimits(BaseModel):
    """What a guest may ask of one tool.

    Attributes:
        timeout: seconds until the guest gets an error instead; None for no bound.
        calls_per_run: how often it may be called in one run of the sandbox.
        concurrent: how many calls may still be at work after their timeout; a further one is
            refused.
        result_size: the largest result in bytes of JSON.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    timeout: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    calls_per_run: int | None = Field(default=None, ge=0)
    concurrent: int = Field(default=4, ge=1)
    result_size: int | None = Field(default=None, ge=1)


class McpServer(BaseModel):
    """An MCP server whose tools are granted as `mcp.<server>.<tool>`.

    Attributes:
        command: program and arguments of a server that is started, and talks over stdio.
        env: its environment; None for the few variables that the SDK hands on.
        url: address of a server that talks streamable HTTP; instead of `command`.
        tools: which of its tools are granted; None for all.
        limits: of each.
        start_timeout: seconds until it must have listed its tools.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: list[str] = Field(default_factory=list)
    env: dict[str, str] | None = None
    url: str | None = None
    tools: frozenset[str] | None = None
    limits: ToolLimits = ToolLimits(timeout=60.0)
    start_timeout: float = Field(default=30.0, gt=0)

    @model_validator(mode="after")
    def _one_way(self) -> McpServer:
        if bool(self.command) == bool(self.url):
            raise ValueError("give either a command or a url")
        return self


class ToolsConfiguration(BaseModel):
    """What stands under "tools" in a sandbox's `plugins`.

    Attributes:
        functions: the granted callables by tool name; a list takes the names of the functions.
        default_limits: the limits of every tool that has none of its own.
        limits: limits by tool name.
        mcp: MCP servers by name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    functions: Mapping[str, Callable[..., Any] | DescribedTool] = Field(default_factory=dict)
    default_limits: ToolLimits = ToolLimits()
    limits: dict[str, ToolLimits] = Field(default_factory=dict)
    mcp: dict[Annotated[str, Field(pattern=_NAME.pattern)], McpServer] = Field(default_factory=dict)

    @field_validator("functions", mode="before")
    @classmethod
    def _by_name(cls, functions: Any) -> Any:
        if isinstance(functions, Mapping):
            return {name: described(tool) or tool for name, tool in functions.items()}
        if not isinstance(functions, Iterable):
            return functions
        named: dict[str, Any] = {}
        for tool in functions:
            function = described(tool) or tool
            plain = getattr(function, "__name__", type(function).__name__)
            name = function.name if isinstance(function, DescribedTool) else plain
            if name in named:
                raise ValueError(f"two functions are called {name!r}: give a mapping of names")
            named[name] = function
        return named

    @field_validator("functions")
    @classmethod
    def _well_named(cls, functions: dict[str, Any]) -> dict[str, Any]:
        for name in functions:
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no tool name: give a mapping of identifiers")
            if name == RESERVED:
                raise ValueError(f"a tool cannot be called {RESERVED!r}: tools.{RESERVED} is taken")
        return functions

    @model_validator(mode="after")
    def _limits_of_tools(self) -> ToolsConfiguration:
        unknown = self.limits.keys() - self.functions.keys()
        if unknown:
            raise ValueError(f"limits for tools that are not granted: {', '.join(sorted(unknown))}")
        return self


class ListRequest(Model):
    """`tools.list` takes no parameters."""


class ToolDescription(Model):
    """One tool, in terms a model understands.

    Attributes:
        name: it is called as `tools.<name>`, or by this name if it has dots.
        description: the callable's docstring.
        parameters: JSON Schema of the arguments, an object.
        result: JSON Schema of the result.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    result: dict[str, Any]


class ListResponse(Model):
    """The tools within the guest's reach."""

    tools: list[ToolDescription]
