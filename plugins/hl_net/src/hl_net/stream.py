"""One TCP connection to a checked address, with or without TLS, every byte of it counted."""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from hl_net.addresses import Address
from hl_net.budgets import Deadline, Ledger
from hyperlight_core.errors import HostFunctionError
from hyperlight_core.functions import HostCall

__all__ = ["Place", "Stream"]

_T = TypeVar("_T")
_MOMENT_MS = 1


@dataclass(frozen=True)
class Place:
    """What requests must share to go over one connection, one after another.

    Attributes:
        origin: of their URLs.
        credentials: names of those that went along. Some servers take who a connection's first
            request came from for everybody who uses it.
    """

    origin: tuple[str, str | Address, int]
    credentials: tuple[str, ...]


class Stream:
    """Sends and receives until a deadline, and stops when the sandbox is killed.

    The methods with a deadline may raise CallLimitError, when a budget is used up or the deadline
    passed, and HostFunctionError, when the connection failed or the sandbox was killed.

    Attributes:
        place: what it was opened for.
        address: where it leads.
        opened, idle_since: when, on the clock of `time.monotonic`.
        reused: whether it has carried a request before.
    """

    def __init__(
        self, connection: socket.socket, ledger: Ledger, place: Place, address: Address
    ) -> None:
        self._socket, self._ledger = connection, ledger
        self.place, self.address = place, address
        self.opened = self.idle_since = time.monotonic()
        self.reused = False

    def close(self) -> None:
        """Close the connection, at once."""
        self._socket.close()

    def is_silent(self) -> bool:
        """Whether it is open and nothing has arrived: whatever did would be no answer."""
        try:
            self._socket.recv(1)
        except (ssl.SSLWantReadError, BlockingIOError):
            return True
        except OSError:
            pass
        return False

    def stirs(self) -> bool:
        """Whether something arrives within a moment."""
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        return bool(poller.poll(_MOMENT_MS))

    def start_tls(
        self, context: ssl.SSLContext, host: str, deadline: Deadline, call: HostCall
    ) -> None:
        """Speak TLS from here on, with a server that proves to be `host`."""
        # A connection that ends without TLS's own farewell may have been cut: that is an error.
        wrapped = context.wrap_socket(
            self._socket,
            server_hostname=host,
            do_handshake_on_connect=False,
            suppress_ragged_eofs=False,
        )
        self._socket = wrapped
        self._finish(wrapped.do_handshake, select.POLLIN, deadline, call)

    def send(self, data: bytes | memoryview, deadline: Deadline, call: HostCall) -> None:
        """Send all of `data`, or as much as the budget allows before it raises."""
        left = memoryview(data)
        while left:
            part = left[: self._ledger.sendable(len(left))]
            sent = self._finish(partial(self._socket.send, part), select.POLLOUT, deadline, call)
            self._ledger.sent_bytes += sent
            left = left[sent:]

    def receive_into(self, buffer: memoryview, deadline: Deadline | None, call: HostCall) -> int:
        """Receive what fits, at least one byte; 0 at the end.

        Without a deadline it does not wait: BlockingIOError if nothing has arrived.
        """
        target = buffer[: self._ledger.receivable(len(buffer))]
        operation = partial(self._socket.recv_into, target)
        if deadline is None:
            size = _at_once(operation)
        else:
            size = self._finish(operation, select.POLLIN, deadline, call)
        self._ledger.received_bytes += size
        return size

    def _finish(
        self, operation: Callable[[], _T], events: int, deadline: Deadline, call: HostCall
    ) -> _T:
        """Repeat a non-blocking operation until it is done."""
        while True:
            try:
                return _translated(operation)
            except ssl.SSLWantReadError:
                wanted = select.POLLIN
            except ssl.SSLWantWriteError:
                wanted = select.POLLOUT
            except BlockingIOError:
                wanted = events
            deadline.wait(self._socket.fileno(), wanted, call)


def _at_once(operation: Callable[[], _T]) -> _T:
    """Its result; BlockingIOError if it would have to wait."""
    try:
        return _translated(operation)
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
        raise BlockingIOError from error


def _translated(operation: Callable[[], _T]) -> _T:
    """Its result; errors as the guest shall see them, except those that mean "not yet"."""
    try:
        return operation()
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
        raise
    except ssl.SSLCertVerificationError as error:
        message = f"the server's certificate: {error.verify_message}"
        raise HostFunctionError(message, errno="EPROTO") from error
    except ssl.SSLError as error:
        reason = (error.reason or "failed").replace("_", " ").lower()
        raise HostFunctionError(f"TLS: {reason}", errno="EPROTO") from error
    except OSError as error:
        raise HostFunctionError.from_os_error(error) from error
