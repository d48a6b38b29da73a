"""A real gdb in batch mode, and a bare client of its protocol; for tests of debugging."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

#: gdb's start files are the user's own, and so are its questions.
_OPTIONS = ("gdb", "-nx", "-q", "-batch", "-ex", "set sysroot /", "-ex", "set height 0")


def gdb_command(program: Path, *commands: str) -> list[str]:
    """The command line of a gdb that runs these commands and ends."""
    return [*_OPTIONS, *(word for line in commands for word in ("-ex", line)), str(program)]


class Gdb:
    """A gdb that is at work while the test is; `output` has all of it in the end.

    Args:
        program: the ELF file it takes symbols from.
        port: of the debugger.
        commands: what it does once it is connected.
    """

    def __init__(self, program: Path, port: int, *commands: str) -> None:
        self.process = subprocess.Popen(
            gdb_command(program, f"target remote localhost:{port}", *commands),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.output = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if error is not None:
            self.process.kill()
        self.output = self.process.communicate(timeout=30)[0]


class BareClient:
    """Sends whatever it is told to a debugger's port.

    Args:
        port: of the debugger.
    """

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._input = self._socket.makefile("rb")

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(data)

    def ask(self, packet: bytes) -> bytes:
        """The content of the answer to a packet with these bytes, which are not escaped."""
        self.send(b"$" + packet + b"#" + b"%02x" % (sum(packet) & 0xFF))
        return self.answer()

    def answer(self) -> bytes:
        """The content of the next packet; acknowledgements are left out."""
        while (byte := self._input.read(1)) != b"$":
            assert byte in (b"+", b"-"), byte
        content = b""
        while (byte := self._input.read(1)) != b"#":
            assert byte
            content += byte
        self._input.read(2)
        self.send(b"+")
        return content

    def close(self) -> None:
        """Go away without a word."""
        self._input.close()
        self._socket.close()
