"""Packets of the GDB remote serial protocol over a socket; "Debugging with GDB", appendix E."""

from __future__ import annotations

import re
import select
import socket

__all__ = ["INTERRUPT", "PACKET_SIZE", "GdbConnection", "hexadecimal"]

#: What either side may put into a packet; gdb is told in its `qSupported`.
PACKET_SIZE = 0x4000
#: What gdb sends, outside of packets, on Ctrl-C.
INTERRUPT = b"\x03"
_NUMBER = re.compile(rb"[0-9a-fA-F]{1,16}")


def hexadecimal(text: bytes) -> int:
    """A number of at most 64 bits, as the protocol writes it; ValueError if it is none."""
    if not _NUMBER.fullmatch(text):
        raise ValueError("not a hexadecimal number")
    return int(text, 16)


def _sum(data: bytes) -> bytes:
    return b"%02x" % (sum(data) & 0xFF)


def _escaped(data: bytes) -> bytes:
    return re.sub(rb"[#$}*]", lambda found: b"}" + bytes([found[0][0] ^ 0x20]), data)


def _readable(descriptors: list[int], timeout: int | None) -> list[int]:
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return [descriptor for descriptor, _ in poll.poll(timeout)]


class GdbConnection:
    """One gdb; whatever it sends, a packet is at most `PACKET_SIZE` bytes.

    Args:
        connected: its socket, which becomes the connection's.
    """

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = bytearray()
        self._sent = b""
        self.acknowledges = True

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()

    def send(self, packet: bytes) -> None:
        """Send a packet; what gdb has gone away from is lost."""
        data = _escaped(packet)
        self._sent = b"$" + data + b"#" + _sum(data)
        self._write(self._sent)

    def _write(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError:
            # The next read finds the end.
            return

    def receive(self, wake_fd: int) -> bytes | None:
        """The next packet, or `INTERRUPT`; None if gdb has gone or `wake_fd` is readable."""
        while (packet := self._take()) is None:
            if not self._fill(wake_fd):
                return None
        return packet

    def interrupted(self) -> bool:
        """Whether gdb wants the running guest to stop, or has gone; does not wait."""
        while _readable([self._socket.fileno()], 0):
            if not self._fill(-1):
                return True
        found = INTERRUPT in self._received
        if found:
            del self._received[: self._received.index(INTERRUPT) + 1]
        return found

    def _fill(self, wake_fd: int) -> bool:
        wanted = [self._socket.fileno(), *([wake_fd] if wake_fd >= 0 else [])]
        if wake_fd in _readable(wanted, None):
            return False
        try:
            data = self._socket.recv(PACKET_SIZE)
        except OSError:
            data = b""
        self._received += data
        return bool(data)

    def _take(self) -> bytes | None:
        """A packet out of what has been received; what is no packet is dropped."""
        while self._received:
            first = self._received[:1]
            if first == b"$":
                end = self._received.find(b"#")
                if end < 0 or len(self._received) < end + 3:
                    self._drop_endless()
                    return None
                data, given = bytes(self._received[1:end]), self._received[end + 1 : end + 3]
                del self._received[: end + 3]
                if self._accept(data, bytes(given)):
                    return re.sub(
                        rb"}(.)", lambda m: bytes([m[1][0] ^ 0x20]), data, flags=re.DOTALL
                    )
                continue
            del self._received[:1]
            if first == b"-":
                self._write(self._sent)
            elif first == INTERRUPT:
                return INTERRUPT
        return None

    def _drop_endless(self) -> None:
        if len(self._received) > PACKET_SIZE + 4:
            self._received.clear()

    def _accept(self, data: bytes, given: bytes) -> bool:
        right = not self.acknowledges or given.lower() == _sum(data)
        if self.acknowledges:
            self._write(b"+" if right else b"-")
        return right
