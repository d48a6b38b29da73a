"""Keeps the last host calls of a guest, for the case that it crashes."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from hyperlight_core.table import CallObserver, CallRecord

__all__ = ["HostCallOutcome", "LastCalls"]

_CALLS_KEPT = 8


class HostCallOutcome(NamedTuple):
    """A host call that was answered.

    Attributes:
        name: the host function, or what the guest asked for in vain, as ASCII.
        code: the JSON-RPC error code of the answer, or None.
    """

    name: str
    code: int | None


class LastCalls:
    """Keeps the names and outcomes of the last host calls, for a crash report.

    Give it as `after_host_call` to a `Sandbox` or as `observe` to a `MachineSpec`.

    Args:
        then: told of each call, too.
    """

    def __init__(self, then: CallObserver | None = None) -> None:
        self._then = then
        self._calls: deque[HostCallOutcome] = deque(maxlen=_CALLS_KEPT)

    def __call__(self, record: CallRecord) -> None:
        """Keep it."""
        self._calls.append(HostCallOutcome(ascii(record.method)[1:-1], record.code))
        if self._then is not None:
            self._then(record)

    def taken(self) -> tuple[HostCallOutcome, ...]:
        """The last ones, the latest at the end."""
        return tuple(self._calls)
