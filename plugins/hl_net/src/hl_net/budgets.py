"""What a run has used of its budgets, and how long a wait may last."""

from __future__ import annotations

import errno
import os
import select
import time
from collections.abc import Mapping
from typing import Literal, NamedTuple

from hl_net.configuration import Budgets
from hyperlight_core.errors import CallLimitError, HostFunctionError
from hyperlight_core.functions import HostCall

__all__ = [
    "Deadline",
    "Deadlines",
    "Ledger",
    "milliseconds_until",
    "over_budget",
    "poll",
    "timed_out",
]

DeadlineName = Literal["connect_seconds", "first_byte_seconds", "idle_seconds", "total_seconds"]


def over_budget(budget: str, limit: int, errno_name: str = "EDQUOT") -> CallLimitError:
    """The error for a budget that is used up."""
    message = f"the budget {budget} of {limit} is used up"
    return CallLimitError(message, errno=errno_name, data={"budget": budget, "limit": limit})


def timed_out(budget: str) -> CallLimitError:
    """The error for a deadline that passed."""
    message = f"the deadline {budget} passed"
    return CallLimitError(message, errno="ETIMEDOUT", data={"budget": budget})


class Ledger:
    """Counts connections and bytes of one run, exactly."""

    def __init__(self, budgets: Budgets) -> None:
        self._budgets, self._run = budgets, -1
        self._sendable, self._receivable = budgets.sent_bytes, budgets.received_bytes
        self.connections = self.sent_bytes = self.received_bytes = 0

    def enter(self, run: int) -> None:
        """Start to count anew if `run` is another run than before."""
        if run != self._run:
            self._run = run
            self.connections = self.sent_bytes = self.received_bytes = 0

    def connect(self) -> None:
        """Count one connection.

        Raises:
            CallLimitError: there were as many as a run may have.
        """
        if self.connections >= self._budgets.connections:
            raise over_budget("connections", self._budgets.connections)
        self.connections += 1

    def sendable(self, size: int) -> int:
        """How many of `size` bytes may still be sent.

        Raises:
            CallLimitError: none of them.
        """
        left = self._sendable - self.sent_bytes
        if size <= left:
            return size
        if not left:
            raise over_budget("sent_bytes", self._sendable)
        return left

    def receivable(self, size: int) -> int:
        """How many bytes may still be received, at most `size`.

        Raises:
            CallLimitError: none.
        """
        left = self._receivable - self.received_bytes
        if size <= left:
            return size
        if not left:
            raise over_budget("received_bytes", self._receivable)
        return left


class Deadline(NamedTuple):
    """When a wait ends, and under which name.

    Attributes:
        at: on the clock of `time.monotonic`.
        budget: the budget that set it.
    """

    at: float
    budget: str

    def wait(self, descriptor: int, events: int, call: HostCall) -> None:
        """Wait until `descriptor` has one of `events` (as of `select.poll`) or an error.

        Raises:
            CallLimitError: the deadline, or that of the sandbox, came first.
            HostFunctionError: EINTR: the sandbox was killed.
        """
        if not poll({descriptor: events}, milliseconds_until(self.at, call.deadline), call):
            raise timed_out(self.budget)


class Deadlines:
    """The deadlines of one connection or request, which starts now."""

    __slots__ = ("_budgets", "_started")

    def __init__(self, budgets: Budgets) -> None:
        self._budgets, self._started = budgets, time.monotonic()

    def begin(self, budget: DeadlineName) -> Deadline:
        """The deadline `budget` from now on, or the total one if that comes first."""
        seconds: float = getattr(self._budgets, budget)
        at, total = time.monotonic() + seconds, self._started + self._budgets.total_seconds
        return Deadline(at, budget) if at < total else Deadline(total, "total_seconds")


def poll(
    interest: Mapping[int, int], timeout_ms: int | None, call: HostCall
) -> list[tuple[int, int]]:
    """Wait for events (as of `select.poll`) on file descriptors.

    Raises:
        HostFunctionError: EINTR: the sandbox was killed.
    """
    poller, wake = select.poll(), call.wake_fd
    for descriptor, events in interest.items():
        poller.register(descriptor, events)
    if wake >= 0:
        poller.register(wake, select.POLLIN)
    ready = poller.poll(timeout_ms)
    for descriptor, _ in ready:
        if descriptor == wake:
            raise HostFunctionError(os.strerror(errno.EINTR), errno="EINTR")
    return ready


def milliseconds_until(*times: float | None) -> int | None:
    """From now to the first of `times`, rounded up; None for never."""
    given = [moment for moment in times if moment is not None and moment != float("inf")]
    if not given:
        return None
    return max(0, -int(-(min(given) - time.monotonic()) * 1000 // 1))
