"""The sockets and HTTP exchanges of one sandbox by number, and how they follow its state."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass

from hl_net.addresses import Address
from hl_net.budgets import over_budget
from hl_net.configuration import Budgets
from hl_net.exchange import Exchange
from hl_net.guest_socket import Context, GuestSocket, SavedSocket
from hl_net.pool import Pool
from hyperlight_core.errors import HostFunctionError

__all__ = ["Handles", "ResetExchange", "Saved"]


class ResetExchange:
    """An HTTP exchange that was under way when a snapshot was taken, after going back to it."""

    def close(self) -> None:
        """There is nothing to close."""


Handle = GuestSocket | Exchange | ResetExchange


@dataclass(frozen=True)
class Saved:
    """What a snapshot knows of the handles; None stands for an HTTP exchange."""

    next_number: int
    handles: Mapping[int, SavedSocket | None]
    names: Mapping[Address, tuple[str, ...]]


class Handles:
    """The open handles, for which idle connections make room.

    A number is never used again, so that an old one means nothing new.
    """

    def __init__(self, budgets: Budgets, pool: Pool) -> None:
        self._budgets, self._limit, self._pool = budgets, budgets.open_handles, pool
        self._handles: dict[int, Handle] = {}
        self._next = 1

    def check_room(self, *, request: bool = False) -> None:
        """Raise CallLimitError if there are as many handles, or requests, as there may be."""
        limit, handles, kept = self._limit, len(self._handles), len(self._pool)
        if handles >= limit:
            raise over_budget("open_handles", limit, "EMFILE")
        if kept and handles + kept >= limit:
            self._pool.drop_oldest()
        if request and handles >= self._budgets.requests_in_flight:
            requests = sum(not isinstance(value, GuestSocket) for value in self._handles.values())
            if requests >= self._budgets.requests_in_flight:
                limit = self._budgets.requests_in_flight
                raise over_budget("requests_in_flight", limit, "EMFILE")

    def add(self, value: GuestSocket | Exchange) -> int:
        """Give it a number."""
        number, self._next = self._next, self._next + 1
        self._handles[number] = value
        return number

    def get(self, number: int) -> Handle | None:
        """What has the number, if anything."""
        return self._handles.get(number)

    def socket(self, number: int) -> GuestSocket:
        """The socket with the number.

        Raises:
            HostFunctionError: EBADF or ENOTSOCK.
        """
        value = self._handles.get(number)
        if isinstance(value, GuestSocket):
            return value
        raise _error(errno.EBADF if value is None else errno.ENOTSOCK)

    def exchange(self, number: int) -> Exchange:
        """The HTTP exchange with the number.

        Raises:
            HostFunctionError: EBADF, or ECONNRESET if a snapshot was restored since.
        """
        value = self._handles.get(number)
        if isinstance(value, Exchange):
            return value
        raise _error(errno.ECONNRESET if isinstance(value, ResetExchange) else errno.EBADF)

    def close(self, number: int) -> None:
        """Close what has the number, and forget it.

        Raises:
            HostFunctionError: EBADF.
        """
        value = self._handles.pop(number, None)
        if value is None:
            raise _error(errno.EBADF)
        value.close()

    def close_all(self) -> None:
        """Close everything, and what the pool keeps."""
        self._pool.close()
        while self._handles:
            self._handles.popitem()[1].close()

    def save(self, names: Mapping[Address, tuple[str, ...]]) -> Saved:
        """What a snapshot has to know."""
        handles = {
            number: value.saved() if isinstance(value, GuestSocket) else None
            for number, value in self._handles.items()
        }
        return Saved(self._next, handles, names)

    def restore(self, saved: Saved, context: Context) -> None:
        """Close everything, and bring back what can be; the rest reads as reset."""
        self.close_all()
        self._next = max(self._next, saved.next_number)
        for number, socket in saved.handles.items():
            self._handles[number] = (
                ResetExchange() if socket is None else GuestSocket.restored(context, socket)
            )


def _error(number: int) -> HostFunctionError:
    return HostFunctionError(os.strerror(number), errno=errno.errorcode[number])
