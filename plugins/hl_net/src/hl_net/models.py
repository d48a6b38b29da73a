"""Requests and responses of the `net.*` host functions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hyperlight_core.functions import Model

__all__ = [
    "AcceptReply",
    "AddressReply",
    "BindRequest",
    "ConnectRequest",
    "Empty",
    "HandleReply",
    "HandleRequest",
    "HttpReply",
    "HttpRequest",
    "ListenRequest",
    "OptionReply",
    "OptionRequest",
    "PollReply",
    "PollRequest",
    "ReadReply",
    "ReadRequest",
    "ReceiveReply",
    "ResolveReply",
    "ResolveRequest",
    "SendRequest",
    "SetOptionRequest",
    "ShutdownRequest",
    "SizeReply",
    "SocketRequest",
    "WriteRequest",
]

Handle = Annotated[int, Field(ge=1, lt=1 << 53)]
Port = Annotated[int, Field(ge=0, le=0xFFFF)]
AddressText = Annotated[str, Field(max_length=64)]
Size = Annotated[int, Field(ge=0, le=1 << 30)]
HeaderPair = Annotated[list[str], Field(min_length=2, max_length=2)]
Family = Literal["inet", "inet6"]


class Empty(Model):
    """No parameters, or no result."""


class HandleRequest(Model):
    """What the function is about."""

    handle: Handle


class HandleReply(Model):
    """What the function opened."""

    handle: int


class SizeReply(Model):
    """How many bytes were taken or given."""

    size: int


# ---- HTTP ---------------------------------------------------------------------------------------


class HttpRequest(Model):
    """An HTTP request; `body` says where its body comes from, `body_size` its size if streamed."""

    method: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9-]{0,31}$")]
    url: Annotated[str, Field(max_length=8192)]
    headers: Annotated[list[HeaderPair], Field(max_length=128, default_factory=list)]
    credential: Annotated[str, Field(max_length=256)] | None = None
    body: Literal["none", "attached", "streamed"] = "none"
    body_size: Annotated[int, Field(ge=0, lt=1 << 53)] | None = None
    follow_redirects: bool = True


class WriteRequest(Model):
    """The next part of a request's body; `end` says that it is the last one."""

    handle: Handle
    end: bool = False


class HttpReply(Model):
    """The head of a response, with the first `size` bytes of its body attached.

    `handle` is null once the body has ended; `status` is null while the request is being sent.
    """

    handle: int | None
    status: int | None = None
    url: str
    headers: list[HeaderPair] = Field(default_factory=list)
    size: int = 0
    end: bool = False


class ReadRequest(Model):
    """How many bytes to read at most."""

    handle: Handle
    size: Annotated[int, Field(ge=1, le=1 << 30)]


class ReadReply(Model):
    """How many bytes are attached, and whether the body has ended with them."""

    size: int
    end: bool


# ---- sockets ------------------------------------------------------------------------------------


class SocketRequest(Model):
    """The kind of a socket."""

    family: Family
    type: Literal["stream", "dgram"]


class ConnectRequest(Model):
    """Where to connect."""

    handle: Handle
    address: AddressText
    port: Port


class BindRequest(ConnectRequest):
    """The local address; an unspecified one stands for what the policy says."""


class ListenRequest(Model):
    """How many connections may wait to be accepted."""

    handle: Handle
    backlog: int = 128


class AddressReply(Model):
    """An address and port."""

    address: str
    port: int


class AcceptReply(AddressReply):
    """A connection and where it comes from."""

    handle: int


class SendRequest(Model):
    """Where to send the attachment; without an address, to where the socket is connected."""

    handle: Handle
    address: AddressText | None = None
    port: Port | None = None


class ReceiveReply(Model):
    """What arrived: `size` bytes are attached, of the `length` that a datagram had."""

    size: int
    length: int
    address: str | None = None
    port: int | None = None


class ShutdownRequest(Model):
    """Which direction to shut down."""

    handle: Handle
    how: Literal["read", "write", "both"]


class OptionRequest(Model):
    """The name of a socket option."""

    handle: Handle
    option: Annotated[str, Field(max_length=64)]


class SetOptionRequest(OptionRequest):
    """The option's new value."""

    value: Annotated[int, Field(ge=-(1 << 31), lt=1 << 31)]


class OptionReply(Model):
    """The option's value."""

    value: int


Interest = Annotated[
    list[Annotated[int, Field(ge=0, lt=1 << 53)]], Field(min_length=2, max_length=2)
]


class PollRequest(Model):
    """Pairs of handle and events (as of poll(2)), and how long to wait; null is for ever."""

    interest: Annotated[list[Interest], Field(max_length=4096)]
    timeout_ms: Annotated[int, Field(ge=0, lt=1 << 31)] | None = None


class PollReply(Model):
    """Pairs of handle and events that are there; empty when the time is up."""

    ready: list[list[int]]


# ---- names --------------------------------------------------------------------------------------


class ResolveRequest(Model):
    """A host name."""

    name: Annotated[str, Field(max_length=255)]
    family: Literal["any", "inet", "inet6"] = "any"


class ResolveReply(Model):
    """Its addresses, in the order in which to try them."""

    addresses: list[str]
