"""What a program and the processes of its VMs say to each other: messages of fixed structures.

Every socket keeps messages apart (SOCK_SEQPACKET). What a process of a VM says is as little trusted
as what a guest says: it is what an attacker has who got out of the VM.
"""

from __future__ import annotations

import socket
import struct
from enum import IntEnum
from typing import Final, NamedTuple

from hyperlight_core.errors import (
    ConfigurationError,
    GuestImageError,
    HyperlightError,
    HypervisorError,
    StateError,
)

__all__ = [
    "CHUNK",
    "CREATE",
    "MESSAGE_LIMIT",
    "REQUEST",
    "Op",
    "Reply",
    "error_of",
    "failure",
    "pair",
    "parse_reply",
]

#: Bytes of memory that one message carries at most; others go through shared memory or files.
CHUNK: Final = 32768
MESSAGE_LIMIT: Final = CHUNK + 1024

#: Operation and four arguments.
REQUEST: Final = struct.Struct("=q4q")
#: memory, in_size, out_size, console_size; whether console output leaves at once, whether there are
#: a program and an image, whose descriptors come along.
CREATE: Final = struct.Struct("=4Q3?")
_REPLY: Final = struct.Struct("=6qQ")


class Op(IntEnum):
    """What a VM's process is asked for; the arguments stand behind each."""

    RUN = 1  # deadline, CPU time, table version, bytes written to the guest
    RESTORE = 2  # number of the snapshot, the epoch that begins
    SNAPSHOT = 3  # with the numbers of those nobody has any more
    LOAD = 4  # with the descriptors of memory and state
    READ = 5  # address, size
    WRITE = 6  # address; with the bytes
    DESCRIBE = 7
    CLOSE = 8  # without a reply
    KILL = 9  # the epoch that it is for; without a reply; on the second socket
    COUNTERS = 11
    EXPORT = 10  # number of the snapshot; with the descriptors to fill; on the second socket


class Reply(NamedTuple):
    """An answer.

    Attributes:
        code: 0, or what went wrong; see `error_of`.
        errno: of a HypervisorError.
        kind, value, console_used, cpu_ns: those of `vm.Exit`; `value` is also a new number.
        frame_used: bytes of the guest's frame.
        payload: bytes or text.
    """

    code: int
    errno: int
    kind: int
    value: int
    console_used: int
    cpu_ns: int
    frame_used: int
    payload: bytes = b""

    def pack(self) -> bytes:
        """As a message."""
        return _REPLY.pack(*self[:-1]) + self.payload


_ERRORS: Final = (HypervisorError, ConfigurationError, GuestImageError, StateError)


def parse_reply(message: bytes) -> Reply:
    """Read what a VM's process said.

    Raises:
        HypervisorError: it said nothing, because it has ended, or nonsense.
    """
    if len(message) < _REPLY.size:
        raise HypervisorError(32, "the process of the VM has ended")
    return Reply._make((*_REPLY.unpack_from(message), message[_REPLY.size :]))


def failure(error: BaseException) -> Reply:
    """The answer that something went wrong."""
    known = [code for code, kind in enumerate(_ERRORS, 1) if isinstance(error, kind)]
    number = getattr(error, "errno", None) or 5
    text = getattr(error, "strerror", None) or f"{error}"
    return Reply(known[-1] if known else 1, number, 0, 0, 0, 0, 0, text.encode()[:CHUNK])


def error_of(reply: Reply) -> HyperlightError:
    """The exception that an answer with a code other than 0 stands for."""
    text = reply.payload.decode(errors="replace")
    if 1 < reply.code <= len(_ERRORS):
        return _ERRORS[reply.code - 1](text)
    return HypervisorError(reply.errno & 0xFFF, text)


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected sockets, which no program started later inherits."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
