"""One socket of a guest: always non-blocking on the host, every destination decided."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from hl_net.addresses import Address, canonical, parse_address
from hl_net.audit import Audit
from hl_net.budgets import Ledger, over_budget, timed_out
from hl_net.configuration import Budgets
from hl_net.names import Names
from hl_net.policy import Policy, Protocol
from hl_net.rules import ListenRule
from hyperlight_core.errors import CallLimitError, HostFunctionError, InvalidParamsError

__all__ = ["Context", "Endpoint", "GuestSocket", "Received", "SavedSocket"]

_PEERS = 1024  # a datagram socket remembers at most
_STRANGERS = 64  # datagrams from others that one call drops at most
_BACKLOG = 128
_UNSPECIFIED: dict[int, Address] = {
    socket.AF_INET: ipaddress.IPv4Address(0),
    socket.AF_INET6: ipaddress.IPv6Address(0),
}
_LOOPBACK = {4: "127.0.0.1", 6: "::1"}

#: Address and port.
Endpoint = tuple[Address, int]


@dataclass(frozen=True)
class Context:
    """What every socket of a sandbox shares."""

    policy: Policy
    names: Names
    ledger: Ledger
    budgets: Budgets
    audit: Audit


@dataclass(frozen=True)
class Received:
    """What arrived: bytes put into the buffer, a datagram's whole length, and its sender."""

    size: int
    length: int
    sender: Endpoint | None = None


@dataclass(frozen=True)
class SavedSocket:
    """What a snapshot knows of a socket.

    Attributes:
        protocol: tcp or udp.
        family: AF_INET or AF_INET6.
        bound: where the guest asked to bind it, if it did.
        port: the port it got.
        backlog: what it listens with, if it does.
    """

    protocol: Protocol
    family: int
    bound: Endpoint | None = None
    port: int = 0
    backlog: int | None = None


class GuestSocket:
    """A TCP or UDP socket. Its methods raise OSError as the system does.

    Beside that they raise DeniedError where the policy refuses, CallLimitError where a budget is
    used up or a deadline passed, and from then on that same error: the socket is closed.

    Attributes:
        protocol: tcp or udp.
        family: AF_INET or AF_INET6.
    """

    def __init__(
        self,
        context: Context,
        protocol: Protocol,
        family: int,
        accepted: socket.socket | None = None,
    ) -> None:
        self._context, self.protocol, self.family = context, protocol, family
        kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
        self._socket = accepted or socket.socket(family, kind)
        self._socket.setblocking(False)
        self._failure: HostFunctionError | None = None
        self._opened = self._used = time.monotonic()
        self._connecting_since: float | None = None
        self._in_use = accepted is not None  # connected, connecting, or has sent
        self._accepted = accepted is not None
        self._bound: Endpoint | None = None  # as the guest asked for it
        self._backlog: int | None = None
        self._connected_to: Endpoint | None = None
        self._peers: dict[Endpoint, None] = {}

    # ---- life ------------------------------------------------------------------------------------

    @classmethod
    def restored(cls, context: Context, saved: SavedSocket) -> GuestSocket:
        """What a socket of a snapshot is after going back to it: bound again, or reset."""
        restored = cls(context, saved.protocol, saved.family)
        try:
            if saved.bound is None:
                raise ConnectionResetError(errno.ECONNRESET, "reset")
            restored.bind(*saved.bound, again=saved.port)
            if saved.backlog is not None:
                restored.listen(saved.backlog)
        except (OSError, HostFunctionError):
            restored.fail(HostFunctionError(os.strerror(errno.ECONNRESET), errno="ECONNRESET"))
        return restored

    def saved(self) -> SavedSocket:
        """What a snapshot has to know to restore it."""
        if self._failure is not None or self._bound is None:
            return SavedSocket(self.protocol, self.family)
        port = self._socket.getsockname()[1]
        return SavedSocket(self.protocol, self.family, self._bound, port, self._backlog)

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def fail(self, failure: HostFunctionError) -> None:
        """Close it; from now on, every use raises `failure`."""
        self._failure = failure
        self._socket.close()

    def fileno(self) -> int:
        """The host's file descriptor, for poll."""
        return self._socket.fileno()

    def expiry(self) -> tuple[float, str]:
        """When it will be closed unless it is used, and under which budget; inf for never."""
        budgets = self._context.budgets
        if self._backlog is not None or not self._in_use:
            return float("inf"), ""
        ends = [
            (self._opened + budgets.total_seconds, "total_seconds"),
            (self._used + budgets.idle_seconds, "idle_seconds"),
        ]
        if self._connecting_since is not None:
            ends.append((self._connecting_since + budgets.connect_seconds, "connect_seconds"))
        return min(ends)

    def expire(self) -> bool:
        """Close it if its time has come; whether it is closed now."""
        if self._failure is None:
            moment, budget = self.expiry()
            if moment > time.monotonic():
                return False
            if budget == "connect_seconds" and self._is_connected():
                self.progressed()
                return self.expire()
            self.fail(timed_out(budget))
        return True

    def _is_connected(self) -> bool:
        try:
            self._socket.getpeername()
        except OSError:
            return False
        return True

    def progressed(self) -> None:
        """Something happened on it: if it was connecting, it is not any more."""
        if self._connecting_since is not None:
            self._connecting_since, self._used = None, time.monotonic()

    def _check(self) -> None:
        self.expire()
        if self._failure is not None:
            raise self._failure

    # ---- connecting ------------------------------------------------------------------------------

    def connect(self, address: Address, port: int) -> None:
        """Connect, or begin to: BlockingIOError (EINPROGRESS) says so."""
        self._check()
        self._decide(address, port)
        if self.protocol == "udp":
            self._socket.connect(self._sockaddr(address, port))
            self._connected_to, self._in_use = (canonical(address), port), True
            return
        if self._connecting_since is None:
            self._context.ledger.connect()
        error = self._socket.connect_ex(self._sockaddr(address, port))
        if error in (0, errno.EINPROGRESS):
            self._in_use, self._opened = True, time.monotonic()
            self._used = self._opened
            self._connecting_since = self._opened if error else None
        if error:
            raise OSError(error, os.strerror(error))

    def bind(self, address: Address, port: int, *, again: int = 0) -> None:
        """Bind to where the policy says for this address and port.

        Port 0 is any, or `again`, the one that the host gave for it before.
        """
        self._check()
        if port == 0 and address.is_unspecified:
            decision, _ = self._context.policy.listen(self.protocol, canonical(address), 0)
            if not decision.allowed:
                return  # the system gives a port to what connects; listening will be refused
        self._bind(address, port, again)

    def _bind(self, address: Address, port: int, again: int = 0) -> None:
        decision, rule = self._context.policy.listen(self.protocol, canonical(address), port)
        self._context.audit.enforce(decision)
        if self.protocol == "tcp":
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(self._sockaddr(_listen_address(rule, canonical(address)), port or again))
        self._bound = (address, port)

    def listen(self, backlog: int) -> None:
        """Take connections; only where it was bound under a rule."""
        self._check()
        if self._bound is None:
            self._bind(_UNSPECIFIED[self.family], 0)
        self._socket.listen(max(0, min(backlog, _BACKLOG)))
        self._backlog = backlog

    def accept(self) -> tuple[GuestSocket, Endpoint]:
        """The next connection and where it comes from; BlockingIOError if there is none."""
        self._check()
        connection, sender = self._socket.accept()
        try:
            self._context.ledger.connect()
        except CallLimitError:
            connection.close()
            raise
        accepted = GuestSocket(self._context, self.protocol, self.family, connection)
        return accepted, _endpoint(sender)

    # ---- bytes -----------------------------------------------------------------------------------

    def send(self, data: memoryview, destination: Endpoint | None) -> int:
        """Send what fits, at most what the budget allows; return how many bytes."""
        self._check()
        ledger = self._context.ledger
        allowed = self._spend(ledger.sendable, len(data))
        if self.protocol == "tcp":
            sent = self._socket.send(data[:allowed])
        else:
            if allowed < len(data):
                self.fail(over_budget("sent_bytes", self._context.budgets.sent_bytes))
                self._check()
            sent = self._send_datagram(data, destination)
        ledger.sent_bytes += sent
        self._touch()
        return sent

    def _send_datagram(self, data: memoryview, destination: Endpoint | None) -> int:
        if destination is None:
            return self._socket.send(data)
        address, port = destination
        known = (canonical(address), port)
        if known not in self._peers:
            self._decide(address, port)
            self._remember(known)
        return self._socket.sendto(data, self._sockaddr(address, port))

    def receive(self, buffer: memoryview) -> Received:
        """Fill the buffer with what has arrived, at most what the budget allows."""
        self._check()
        ledger = self._context.ledger
        allowed = self._spend(ledger.receivable, len(buffer))
        if self.protocol == "tcp":
            size = self._socket.recv_into(buffer[:allowed]) if allowed else 0
            received = Received(size, size)
        else:
            received = self._receive_datagram(buffer[:allowed])
        ledger.received_bytes += received.size
        self._touch()
        return received

    def _receive_datagram(self, buffer: memoryview) -> Received:
        for _ in range(_STRANGERS):
            # MSG_TRUNC: recv(2) then returns the whole length.
            length, _, _, sender = self._socket.recvmsg_into([buffer], 0, socket.MSG_TRUNC)
            endpoint = _endpoint(sender)
            if self._bound is not None:
                self._remember(endpoint)  # it may be answered
            if endpoint == self._connected_to or endpoint in self._peers:
                return Received(min(length, len(buffer)), length, endpoint)
        raise BlockingIOError(errno.EAGAIN, "only datagrams from strangers")

    def shutdown(self, how: int) -> None:
        """Shut one direction or both down."""
        self._check()
        self._socket.shutdown(how)

    # ---- questions -------------------------------------------------------------------------------

    def local(self) -> Endpoint:
        """Its own address and port; the host's address only where others connect to it."""
        self._check()
        address, port = _endpoint(self._socket.getsockname())
        if self._bound is None and not self._accepted:
            address = _UNSPECIFIED[self.family]
        return address, port

    def remote(self) -> Endpoint:
        """Where it is connected to."""
        self._check()
        return _endpoint(self._socket.getpeername())

    def get_option(self, level: int, option: int) -> int:
        """A socket option's value; of a closed socket, the error that closed it."""
        if (level, option) != (socket.SOL_SOCKET, socket.SO_ERROR):
            self._check()
        if self.expire():
            name = (self._failure and self._failure.errno_name) or "EIO"
            return int(getattr(errno, name))
        return self._socket.getsockopt(level, option)

    def set_option(self, level: int, option: int, value: int) -> None:
        """Set a socket option."""
        self._check()
        if (level, option) == (socket.SOL_SOCKET, socket.SO_REUSEADDR):
            return  # TCP has it; for UDP it would let a guest share a port with the host's programs
        self._socket.setsockopt(level, option, value)

    # ---- inside ----------------------------------------------------------------------------------

    def _decide(self, address: Address, port: int) -> None:
        names = self._context.names.of(address)
        self._context.audit.enforce(
            self._context.policy.socket(self.protocol, address, port, names)
        )

    def _spend(self, take: Callable[[int], int], size: int) -> int:
        """Take from a budget; close the socket if it is used up."""
        try:
            return take(size)
        except CallLimitError as error:
            self.fail(error)
            raise

    def _touch(self) -> None:
        self._in_use, self._used = True, time.monotonic()
        self._connecting_since = None

    def _remember(self, peer: Endpoint) -> None:
        self._peers.pop(peer, None)
        if len(self._peers) >= _PEERS:
            del self._peers[next(iter(self._peers))]
        self._peers[peer] = None

    def _sockaddr(self, address: Address, port: int) -> tuple[str, int]:
        if self.family == socket.AF_INET6:
            return (f"::ffff:{address}" if address.version == 4 else str(address)), port
        if canonical(address).version == 6:
            raise InvalidParamsError("an IPv6 address for an IPv4 socket", errno="EAFNOSUPPORT")
        return str(canonical(address)), port


def _listen_address(rule: ListenRule | None, address: Address) -> Address:
    """Where to bind for a guest that asks for `address`."""
    if not address.is_unspecified:
        return address
    granted = rule.address if rule is not None else None
    return ipaddress.ip_address(granted or _LOOPBACK[address.version])


def _endpoint(sockaddr: tuple[str, int] | tuple[str, int, int, int]) -> Endpoint:
    return canonical(parse_address(sockaddr[0].partition("%")[0])), sockaddr[1]
