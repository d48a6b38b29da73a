"""One TCP connection to a checked address, with or without TLS, every byte of it counted."""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from hl_net.addresses import Address
from hl_net.budgets import Deadline, Deadlines, Ledger
from hyperlight_core.errors import HostFunctionError
from hyperlight_core.functions import HostCall

__all__ = ["Place", "Stream"]

_A = TypeVar("_A")
_T = TypeVar("_T")
_MOMENT_MS = 1
# How long to look for an answer before sleeping: about as long as sleeping takes by itself, with
# waking, and with all that is cold after it on the host and in the guest.
_SOON_SECONDS = 100e-6


class Place(NamedTuple):
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
        self.reused = self._encrypted = self._prompt = False
        self._arrivals = select.poll()
        self._arrivals.register(connection, select.POLLIN)

    def close(self) -> None:
        """Close the connection, at once."""
        self._socket.close()

    def is_silent(self) -> bool:
        """Whether it is open and nothing has arrived: whatever did would be no answer."""
        if not self._encrypted:
            return not self._arrivals.poll(0)
        # What TLS itself says is no answer either, and what it has decrypted no poll shows.
        try:
            self._socket.recv(1)
        except (ssl.SSLWantReadError, BlockingIOError):
            return True
        except OSError:
            pass
        return False

    def stirs(self) -> bool:
        """Whether something arrives within a moment."""
        return bool(self._arrivals.poll(_MOMENT_MS))

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
        self._socket, self._encrypted = wrapped, True
        self._finish(wrapped.do_handshake, False, deadline, call)

    def send(self, data: bytes | memoryview, deadlines: Deadlines, call: HostCall) -> None:
        """Send all of `data`, or as much as the budget allows before it raises."""
        deadline, ledger = None, self._ledger
        while data:
            size = ledger.sendable(len(data))
            part = data if size == len(data) else memoryview(data)[:size]
            try:
                sent = self._socket.send(part)
            except OSError as error:
                wanted = _awaited(error, select.POLLOUT)
                deadline = deadline or deadlines.begin("idle_seconds")
                deadline.wait(self._socket.fileno(), wanted, call)
                continue
            ledger.sent_bytes += sent
            if sent == len(data):
                return
            data = memoryview(data)[sent:]

    def expect(self, deadline: Deadline, call: HostCall) -> None:
        """Wait for an answer to begin, where that can be told from outside.

        Looks a while before it sleeps if the last answer came as soon as that.
        """
        if self._encrypted:
            return
        began = time.monotonic()
        if not (self._prompt and self._arrives_before(began + _SOON_SECONDS)):
            deadline.wait(self._socket.fileno(), select.POLLIN, call)
            self._prompt = time.monotonic() - began < _SOON_SECONDS

    def _arrives_before(self, end: float) -> bool:
        arrivals = self._arrivals.poll
        while not arrivals(0):
            if time.monotonic() > end:
                return False
        return True

    def receive(self, size: int, deadline: Deadline | None, call: HostCall) -> bytes:
        """Receive up to `size` bytes as `receive_into` does."""
        ledger = self._ledger
        part = self._finish(self._socket.recv, ledger.receivable(size), deadline, call)
        ledger.received_bytes += len(part)
        return part

    def receive_into(self, buffer: memoryview, deadline: Deadline | None, call: HostCall) -> int:
        """Receive what fits, at least one byte; 0 at the end.

        Without a deadline it does not wait: BlockingIOError if nothing has arrived.
        """
        target = buffer[: self._ledger.receivable(len(buffer))]
        size = self._finish(self._socket.recv_into, target, deadline, call)
        self._ledger.received_bytes += size
        return size

    def _finish(
        self,
        operation: Callable[[_A], _T],
        argument: _A,
        deadline: Deadline | None,
        call: HostCall,
    ) -> _T:
        """Repeat a non-blocking operation that waits for bytes until it is done."""
        while True:
            try:
                return operation(argument)
            except OSError as error:
                wanted = _awaited(error, select.POLLIN)
                if deadline is None:
                    raise BlockingIOError from error
            deadline.wait(self._socket.fileno(), wanted, call)


def _awaited(error: OSError, events: int) -> int:
    """What to wait for if `error` means "not yet"; others are raised as the guest shall see them.

    Args:
        error: of a non-blocking operation.
        events: what that operation itself waits for.
    """
    if isinstance(error, BlockingIOError):
        return events
    if isinstance(error, ssl.SSLWantReadError):
        return select.POLLIN
    if isinstance(error, ssl.SSLWantWriteError):
        return select.POLLOUT
    if isinstance(error, ssl.SSLCertVerificationError):
        message = f"the server's certificate: {error.verify_message}"
        raise HostFunctionError(message, errno="EPROTO") from error
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or "failed").replace("_", " ").lower()
        raise HostFunctionError(f"TLS: {reason}", errno="EPROTO") from error
    raise HostFunctionError.from_os_error(error) from error
