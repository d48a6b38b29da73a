"""The hooks a plugin may implement, and what a plugin class looks like.

An entry point of the group `hyperlight` names a plugin class. Core makes one instance of it for
every sandbox whose configuration names the plugin, so an instance may keep that sandbox's handles.
The hooks are methods of the instance marked with `hookimpl`; they may leave out arguments.

The order around a state: `host_functions` once, when the sandbox is built; `state_entered`, then
any number of `snapshot_taken` and `snapshot_restored`, then `state_left`; `closed` once, last.
`explain` comes whenever somebody asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import pluggy
from pydantic import BaseModel

from hyperlight_core.functions import HostFunction

__all__ = [
    "PROJECT",
    "CliOption",
    "PluginClass",
    "PluginHooks",
    "SnapshotToken",
    "StateInfo",
    "hookimpl",
    "hookspec",
]

#: The entry-point group and pluggy project name.
PROJECT = "hyperlight"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@dataclass(frozen=True)
class StateInfo:
    """The state a sandbox enters or leaves.

    Attributes:
        name: the state's name.
        functions: names of the host functions within the guest's reach in that state.
    """

    name: str
    functions: frozenset[str]


@dataclass(frozen=True, eq=False)
class SnapshotToken:
    """What the plugins remember of one snapshot.

    A plugin stores under its own name whatever it needs to bring its handles back, in this sandbox
    or in a clone; what it stores may be used by several sandboxes at once and must not change.
    """

    plugin_state: dict[str, Any] = field(default_factory=dict)
    #: What a snapshot on disk keeps, by plugin too: a JSON value, such as the numbers of the open
    #: handles. A sandbox that starts from there gets this alone, to tell the guest that they are
    #: gone; the file may have been altered meanwhile.
    on_disk: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CliOption:
    """An option a plugin adds to `hyperlight run` and `hyperlight exec`.

    Attributes:
        flag: such as "--mount".
        metavar: shown in the help, such as "HOST:GUEST[:ro|rw]".
        help: one line.
    """

    flag: str
    metavar: str
    help: str


class PluginClass(Protocol):
    """The class an entry point names."""

    #: The pydantic model of the plugin's configuration, the value under its name in `plugins=`.
    configuration: ClassVar[type[BaseModel]]
    #: Options for the command line; `configuration_from_options` turns their values into
    #: a configuration. Both may be left out.
    cli_options: ClassVar[tuple[CliOption, ...]]
    #: What the names of its host functions may begin with, as "fs" in `fs.read`; if left out, the
    #: plugin's own name only. It cannot be the name of another installed plugin.
    namespaces: ClassVar[tuple[str, ...]]

    def __init__(self, configuration: Any) -> None: ...

    @staticmethod
    def configuration_from_options(options: Mapping[str, tuple[str, ...]]) -> dict[str, Any] | None:
        """A configuration from the values given for each flag, or None if none was given.

        Raises:
            ValueError: a value is malformed; the message says which and why.
        """


class PluginHooks:
    """The hooks, in the order in which they are called."""

    @hookspec
    def host_functions(self) -> Iterable[HostFunction]:  # type: ignore[empty-body]
        """The host functions this plugin offers under its configuration.

        Every name begins with one of the plugin's `namespaces`. Called once for a sandbox.
        """

    @hookspec
    def explain(self) -> Iterable[str]:  # type: ignore[empty-body]
        """What its configuration grants, one line for people each; nothing secret.

        Called when somebody asks, as `hyperlight run --explain` does.
        """

    @hookspec
    def state_entered(self, state: StateInfo) -> None:
        """The guest is about to run in `state`, with just the functions it lists."""

    @hookspec
    def snapshot_taken(self, snapshot: SnapshotToken) -> None:
        """Remember in `snapshot.plugin_state` which handles are open, under the plugin's name."""

    @hookspec
    def snapshot_restored(self, snapshot: SnapshotToken) -> None:
        """Go back to the handles of `snapshot`: close newer ones, bring those back.

        Also called in a clone, whose instance has never seen `snapshot` before.
        """

    @hookspec
    def state_left(self, state: StateInfo) -> None:
        """The guest runs no more in `state`."""

    @hookspec
    def closed(self) -> None:
        """The sandbox is closed: let go of everything."""
