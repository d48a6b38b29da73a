"""Transition metadata: what a move from state to state needs to know and does to the guest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hyperlight_core.guests import BootRequest
from hyperlight_core.machine import CallContext

__all__ = ["NOTHING", "Boot", "GuestCallback", "Nothing", "Transition"]


class Transition:
    """What a move needs to know and does to the guest; authors derive their own, as dataclasses."""

    def move(self, calls: CallContext) -> None:
        """Change the guest, while the state that is being left still has its host functions.

        If it raises, the move does not happen.
        """


@dataclass(frozen=True)
class Nothing(Transition):
    """A move that needs nothing."""


#: The one value of Nothing that is ever needed.
NOTHING = Nothing()


@dataclass(frozen=True)
class GuestCallback(Transition):
    """A move during which a function of the author's calls into the guest."""

    callback: Callable[[CallContext], object]

    def move(self, calls: CallContext) -> None:
        """Call it."""
        self.callback(calls)


@dataclass(frozen=True)
class Boot(Transition):
    """Starts a guest that was only loaded, up to where it waits for its first request."""

    request: BootRequest | None = None

    def move(self, calls: CallContext) -> None:
        """Run the guest until it waits."""
        calls.boot(self.request)
