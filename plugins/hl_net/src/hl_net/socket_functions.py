"""The host functions for sockets and names; none but `net.poll` and the lookups ever waits."""

from __future__ import annotations

import errno
import os
import select
import socket
import time

from hl_net.addresses import Address, parse_address
from hl_net.budgets import milliseconds_until, poll
from hl_net.guest_socket import Context, Endpoint, GuestSocket
from hl_net.handles import Handles
from hl_net.models import (
    AcceptReply,
    AddressReply,
    BindRequest,
    ConnectRequest,
    Empty,
    HandleReply,
    HandleRequest,
    ListenRequest,
    OptionReply,
    OptionRequest,
    PollReply,
    PollRequest,
    ReadRequest,
    ReceiveReply,
    ResolveReply,
    ResolveRequest,
    SendRequest,
    SetOptionRequest,
    ShutdownRequest,
    SizeReply,
    SocketRequest,
)
from hl_net.options import OPTIONS
from hl_net.policy import Protocol
from hyperlight_core.errors import (
    CallLimitError,
    DeniedError,
    HostFunctionError,
    InvalidParamsError,
)
from hyperlight_core.functions import HostCall, host_function

__all__ = ["SocketFunctions"]

_ERRORS = (CallLimitError, DeniedError, HostFunctionError, InvalidParamsError)
_FAMILIES = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}
_HOW = {"read": socket.SHUT_RD, "write": socket.SHUT_WR, "both": socket.SHUT_RDWR}


class SocketFunctions:
    """Sockets of one sandbox. An OSError of the system reaches the guest as its errno."""

    def __init__(self, context: Context, handles: Handles) -> None:
        self._context, self._handles = context, handles

    # ---- connections -----------------------------------------------------------------------------

    @host_function("net.socket", errors=_ERRORS)
    def socket(self, request: SocketRequest) -> HandleReply:
        """Open a socket."""
        self._handles.check_room()
        protocol: Protocol = "tcp" if request.type == "stream" else "udp"
        opened = GuestSocket(self._context, protocol, _FAMILIES[request.family])
        return HandleReply(handle=self._handles.add(opened))

    @host_function("net.connect", errors=_ERRORS)
    def connect(self, request: ConnectRequest, call: HostCall) -> Empty:
        """Connect, or begin to: the error EINPROGRESS says that `net.poll` will tell the end."""
        self._context.ledger.enter(call.run)
        self._handles.socket(request.handle).connect(_address(request.address), request.port)
        return Empty()

    @host_function("net.bind", errors=_ERRORS)
    def bind(self, request: BindRequest) -> Empty:
        """Bind a socket to a granted port."""
        self._handles.socket(request.handle).bind(_address(request.address), request.port)
        return Empty()

    @host_function("net.listen", errors=_ERRORS)
    def listen(self, request: ListenRequest) -> Empty:
        """Take connections."""
        self._handles.socket(request.handle).listen(request.backlog)
        return Empty()

    @host_function("net.accept", errors=_ERRORS)
    def accept(self, request: HandleRequest, call: HostCall) -> AcceptReply:
        """The next connection, or the error EAGAIN."""
        self._context.ledger.enter(call.run)
        self._handles.check_room()
        accepted, (address, port) = self._handles.socket(request.handle).accept()
        return AcceptReply(handle=self._handles.add(accepted), address=str(address), port=port)

    @host_function("net.shutdown", errors=_ERRORS)
    def shutdown(self, request: ShutdownRequest) -> Empty:
        """Shut one direction of a connection down, or both."""
        self._handles.socket(request.handle).shutdown(_HOW[request.how])
        return Empty()

    @host_function("net.close", errors=_ERRORS)
    def close(self, request: HandleRequest) -> Empty:
        """Close a socket or an HTTP request."""
        self._handles.close(request.handle)
        return Empty()

    # ---- bytes -----------------------------------------------------------------------------------

    @host_function("net.send", errors=_ERRORS)
    def send(self, request: SendRequest, call: HostCall) -> SizeReply:
        """Send the attachment, or the part of it that fits."""
        self._context.ledger.enter(call.run)
        size = self._handles.socket(request.handle).send(call.attachment, _destination(request))
        return SizeReply(size=size)

    @host_function("net.recv", errors=_ERRORS)
    def receive(self, request: ReadRequest, call: HostCall) -> ReceiveReply:
        """Attach what has arrived; nothing at a connection's end, the error EAGAIN before."""
        self._context.ledger.enter(call.run)
        found = self._handles.socket(request.handle)
        received = found.receive(call.reply_buffer(min(request.size, call.reply_limit)))
        call.reply_size(received.size)
        address, port = received.sender or (None, None)
        return ReceiveReply(
            size=received.size,
            length=received.length,
            address=None if address is None else str(address),
            port=port,
        )

    # ---- questions -------------------------------------------------------------------------------

    @host_function("net.getsockname", errors=_ERRORS)
    def local(self, request: HandleRequest) -> AddressReply:
        """A socket's own address; the host's only where it listens."""
        address, port = self._handles.socket(request.handle).local()
        return AddressReply(address=str(address), port=port)

    @host_function("net.getpeername", errors=_ERRORS)
    def remote(self, request: HandleRequest) -> AddressReply:
        """Where a socket is connected to."""
        address, port = self._handles.socket(request.handle).remote()
        return AddressReply(address=str(address), port=port)

    @host_function("net.getsockopt", errors=_ERRORS)
    def get_option(self, request: OptionRequest) -> OptionReply:
        """A socket option of the allow list."""
        found = self._handles.socket(request.handle)
        if request.option not in OPTIONS:
            raise _error(errno.ENOPROTOOPT)
        option = OPTIONS[request.option]
        return OptionReply(value=found.get_option(option.level, option.name))

    @host_function("net.setsockopt", errors=_ERRORS)
    def set_option(self, request: SetOptionRequest) -> Empty:
        """Set a socket option of the allow list."""
        found = self._handles.socket(request.handle)
        option = OPTIONS.get(request.option)
        if option is None or not option.settable:
            raise _error(errno.ENOPROTOOPT)
        if request.value not in option.values:
            raise _error(errno.EINVAL)
        found.set_option(option.level, option.name, request.value)
        return Empty()

    @host_function("net.poll", blocking=True, errors=_ERRORS)
    def poll(self, request: PollRequest, call: HostCall) -> PollReply:
        """Wait until a socket is ready or the time is up."""
        sockets, ready = self._interest(request.interest)
        ends = [moment for moment, _ in (found.expiry() for found, _ in sockets.values())]
        until = None
        if request.timeout_ms is not None:
            until = time.monotonic() + request.timeout_ms / 1000
        timeout_ms = 0 if ready else milliseconds_until(until, call.deadline, *ends)
        numbers = {found.fileno(): number for number, (found, _) in sockets.items()}
        interest = {found.fileno(): events for found, events in sockets.values()}
        for descriptor, events in poll(interest, timeout_ms, call):
            number = numbers[descriptor]
            sockets.pop(number)[0].progressed()
            ready.append([number, events])
        ready += [
            [number, _gone(events)] for number, (found, events) in sockets.items() if found.expire()
        ]
        return PollReply(ready=ready)

    def _interest(
        self, pairs: list[list[int]]
    ) -> tuple[dict[int, tuple[GuestSocket, int]], list[list[int]]]:
        """The sockets to wait for with their events, and what is to be said of the others."""
        sockets: dict[int, tuple[GuestSocket, int]] = {}
        ready = []
        for number, events in pairs:
            found = self._handles.get(number)
            if not isinstance(found, GuestSocket):
                ready.append([number, select.POLLNVAL])
            elif found.expire():
                ready.append([number, _gone(events)])
            else:
                before = sockets[number][1] if number in sockets else 0
                sockets[number] = found, before | (events & 0xFFFF)
        return sockets, ready

    # ---- names -----------------------------------------------------------------------------------

    @host_function("net.resolve", blocking=True, errors=_ERRORS)
    def resolve(self, request: ResolveRequest, call: HostCall) -> ResolveReply:
        """The addresses of a granted name."""
        addresses = self._context.names.resolve(request.name, call)
        wanted = {"inet": (4,), "inet6": (6,)}.get(request.family, (4, 6))
        return ResolveReply(
            addresses=[str(address) for address in addresses if address.version in wanted]
        )

    @host_function("net.dns", blocking=True, errors=_ERRORS)
    def dns(self, _request: Empty, call: HostCall) -> SizeReply:
        """Answer the attached DNS query with an attached DNS response."""
        answer = self._context.names.answer(bytes(call.attachment), call)
        call.reply_buffer(len(answer))[:] = answer
        return SizeReply(size=len(answer))


def _gone(events: int) -> int:
    """What poll says of a closed socket: nothing on it would block, as poll(2) has it."""
    return (events & (select.POLLIN | select.POLLOUT)) | select.POLLERR | select.POLLHUP


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise InvalidParamsError(f"not an address: {text!a}", errno="EINVAL") from error


def _destination(request: SendRequest) -> Endpoint | None:
    if request.address is None or request.port is None:
        return None
    return _address(request.address), request.port


def _error(number: int) -> HostFunctionError:
    return HostFunctionError(os.strerror(number), errno=errno.errorcode[number])
