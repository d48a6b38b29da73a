"""A chain of three states, for the type checkers."""

from __future__ import annotations

from dataclasses import dataclass

from hyperlight_core.machine import CallContext
from hyperlight_core.states import (
    DevolvableSandbox,
    EvolvableSandbox,
    GuestCallback,
    Nothing,
    State,
    Transition,
    Use,
)


@dataclass(frozen=True)
class Load(Transition):
    """Metadata of the author's own."""

    path: str
    size: int = 0

    def move(self, calls: CallContext) -> None:
        """Hand it to the guest."""
        calls.call("load", {"path": self.path})


class Runtime(State, EvolvableSandbox["Loaded", Load], functions=["fs.*"]):
    """Nothing is loaded."""

    def version(self) -> str:
        """Ask the guest."""
        return str(self.call("version").result)


class Loaded(State, EvolvableSandbox["Tenant", Nothing], DevolvableSandbox[Runtime, GuestCallback]):
    """A library is loaded."""


class Tenant(State, DevolvableSandbox[Loaded, Nothing], use=Use.RESET):
    """A tenant's code is loaded."""

    def handle(self, event: str) -> str:
        """Let the tenant answer."""
        return str(self.call("handle", {"event": event}).result)
