"""Lets a real gdb debug a guest: the remote serial protocol of "Debugging with GDB", appendix E."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from hyperlight_core.debug.gdb_packets import INTERRUPT, PACKET_SIZE, GdbConnection, hexadecimal
from hyperlight_core.debug.gdb_target import (
    REGISTER_COUNT,
    TARGET_XML,
    pack_register,
    unpack_register,
)
from hyperlight_core.debug.library_os import LibraryOs
from hyperlight_core.debug.stopping import SIGINT, SIGTRAP, StoppableVm
from hyperlight_core.errors import ConfigurationError
from hyperlight_core.guests import GuestImage
from hyperlight_core.vm import NEVER_NS, Exit, ExitKind, VmConfig

__all__ = ["DebuggedVm", "Debugger"]

_OK, _EMPTY = b"OK", b""
_BAD, _FAULT = b"E16", b"E0e"  # EINVAL, EFAULT
#: Half of a packet, because memory goes as hexadecimal text.
_MEMORY_LIMIT = PACKET_SIZE // 2 - 16
_XFER = re.compile(rb"(features|auxv|exec-file):read:([^:]*):([0-9a-fA-F]+),([0-9a-fA-F]+)")
_FEATURES = (
    b"PacketSize=%x;QStartNoAckMode+;vContSupported+;"
    b"qXfer:features:read+;qXfer:auxv:read+;qXfer:exec-file:read+" % PACKET_SIZE
)


class Debugger:
    """Waits for gdb on the loopback interface; makes the micro-VMs that it can debug.

    Give it as `vm` to a `Sandbox` or a `MachineSpec`. One gdb debugs one guest: the one that runs
    first after `stop_next`. Wall-clock and CPU-time limits of calls do not hold meanwhile.

    Args:
        guest: what will run.
        port: TCP port to listen on; 0 takes a free one.
        waiting: called before the wait for gdb begins.

    Attributes:
        port: the port it listens on.

    Raises:
        OSError: the port cannot be had.
    """

    def __init__(
        self, guest: GuestImage, port: int = 0, *, waiting: Callable[[], None] = lambda: None
    ) -> None:
        self._library_os = LibraryOs.serving(guest)
        self._listener = socket.create_server(("127.0.0.1", port), backlog=1)
        self._waiting = waiting
        self._armed = False
        self.port: int = self._listener.getsockname()[1]

    def __call__(
        self, config: VmConfig, program: bytes | None, image: Path | None, /, *, stream: bool
    ) -> DebuggedVm:
        """Make a micro-VM; what `VmFactory` says."""
        return DebuggedVm(
            config, program, image, stream=stream, library_os=self._library_os, debugger=self
        )

    def stop_next(self) -> None:
        """Stop the guest that runs next, and wait for gdb then."""
        self._armed = True

    def connection(self) -> GdbConnection | None:
        """The gdb for the guest that is about to run, or None if it runs without."""
        if not self._armed:
            return None
        self._armed = False
        self._waiting()
        connected, _ = self._listener.accept()
        return GdbConnection(connected)

    def close(self) -> None:
        """Stop listening; a gdb that is connected stays."""
        self._listener.close()


class DebuggedVm(StoppableVm):
    """A micro-VM that is debugged once its debugger says so; made by a `Debugger`."""

    def __init__(
        self,
        config: VmConfig,
        program: bytes | None,
        image: Path | None,
        *,
        stream: bool,
        library_os: LibraryOs | None,
        debugger: Debugger,
    ) -> None:
        super().__init__(config, program, image, stream=stream, library_os=library_os)
        self.library_os = library_os
        self._debugger = debugger
        self._session: _Session | None = None
        self._spent = 0, 0

    def run(self, deadline_ns: int = NEVER_NS, cpu_ns: int = NEVER_NS) -> Exit:
        """As `Vm.run`; without limits while gdb is connected, and its time does not count."""
        began = time.monotonic_ns()
        if self._session is None and (connection := self._debugger.connection()):
            self._session = _Session(self, connection)
        if self._session is not None:
            left = self._session.run()
            spent = self._spent_before(deadline_ns) + time.monotonic_ns() - began
            self._spent = deadline_ns, spent
            if left is not None:
                return left
            self._session = None
        return super().run(min(NEVER_NS, deadline_ns + self._spent_before(deadline_ns)), cpu_ns)

    def _spent_before(self, deadline_ns: int) -> int:
        """Time in gdb during the call that has this deadline."""
        return self._spent[1] if self._spent[0] == deadline_ns else 0

    def close(self) -> None:
        """As `Vm.close`; gdb is told that the guest has gone."""
        session, self._session = self._session, None
        if session is not None:
            session.end(b"X09")
        super().close()


class _Session:
    """One gdb and the guest it debugs."""

    def __init__(self, vm: DebuggedVm, connection: GdbConnection) -> None:
        self._vm, self._gdb = vm, connection
        self._signal: int | None = SIGTRAP if vm.hold() else None
        self._reply_due = False
        self._going = False

    def run(self) -> Exit | None:
        """Let the guest run as gdb says, until an exit for the host; None once gdb has left."""
        if self._signal is None and not self._going:
            self._vm.resume()
            self._going = True
        while True:
            if self._signal is not None and not self._converse():
                return None
            outcome = self._vm.go()
            if isinstance(outcome, Exit):
                self._tell_of_end(outcome)
                return outcome
            self._signal = outcome
            if outcome is None and self._vm.may_stop() and self._gdb.interrupted():
                self._signal = SIGINT

    def end(self, packet: bytes) -> None:
        """Tell gdb why there is nothing to debug any more."""
        self._gdb.send(packet)
        self._gdb.close()

    def _tell_of_end(self, left: Exit) -> None:
        if left.kind == ExitKind.ENDED:
            self._gdb.send(b"W%02x" % left.value)

    # ---- commands ------------------------------------------------------------------------------

    def _converse(self) -> bool:
        """Answer gdb until it lets the guest go on; False if it has left for good."""
        if self._reply_due:
            self._gdb.send(self._stop_reply())
        while True:
            packet = self._gdb.receive(self._vm.wake_fd)
            if packet is None or packet[:1] in (b"D", b"k") or packet.startswith(b"vKill"):
                self._leave(packet)
                return False
            if packet == INTERRUPT:
                continue
            going_on = _GOING_ON.fullmatch(packet)
            if going_on:
                self._go_on(going_on[1] or going_on[2])
                return True
            self._gdb.send(self._answer(packet))
            if packet == b"QStartNoAckMode":
                self._gdb.acknowledges = False

    def _leave(self, packet: bytes | None) -> None:
        self._vm.release()
        if packet is not None and packet[:1] != b"D":
            self._vm.kill()
        if packet is not None:
            self._gdb.send(_OK)
        self._gdb.close()

    def _go_on(self, how: bytes) -> None:
        self._vm.resume(step=how in b"sS", hand_on=how in b"CS")
        self._signal, self._reply_due = None, True

    def _stop_reply(self) -> bytes:
        return b"T%02xthread:1;" % (self._signal or 0)

    def _answer(self, packet: bytes) -> bytes:
        """The reply to one command; an empty one says that it is not known."""
        fixed = _FIXED.get(packet)
        if fixed is not None:
            return fixed
        try:
            handler = self._COMMANDS.get(packet[:1])
            return handler(self, packet[1:]) if handler else _EMPTY
        except ConfigurationError:
            return _FAULT
        except ValueError:
            return _BAD

    def _accept(self, _: bytes) -> bytes:
        """What is about threads: there is one."""
        return _OK

    def _why(self, _: bytes) -> bytes:
        return self._stop_reply()

    def _read_registers(self, _: bytes) -> bytes:
        now = self._vm.registers()
        return b"".join(pack_register(number, now) for number in range(REGISTER_COUNT))

    def _write_registers(self, text: bytes) -> bytes:
        now, at = self._vm.registers(), 0
        for number in range(REGISTER_COUNT):
            size = len(pack_register(number, now))
            now = replace(now, **unpack_register(number, text[at : at + size]))
            at += size
        self._vm.set_registers(now)
        return _OK

    def _read_register(self, text: bytes) -> bytes:
        number = hexadecimal(text)
        return pack_register(number, self._vm.registers()) if number < REGISTER_COUNT else _BAD

    def _write_register(self, text: bytes) -> bytes:
        number, _, value = text.partition(b"=")
        changed = unpack_register(hexadecimal(number), value)
        if not changed:
            return _BAD
        self._vm.set_registers(replace(self._vm.registers(), **changed))
        return _OK

    def _read_memory(self, text: bytes) -> bytes:
        address, size = _pair(text)
        return self._vm.peek(address, min(size, _MEMORY_LIMIT)).hex().encode()

    def _write_memory(self, text: bytes) -> bytes:
        place, _, data = text.partition(b":")
        address, size = _pair(place)
        content = bytes.fromhex(data.decode("ascii"))
        if len(content) != size:
            return _BAD
        self._vm.poke(address, content)
        return _OK

    def _insert(self, text: bytes) -> bytes:
        address = _breakpoint(text)
        if address is None:
            return _EMPTY
        self._vm.insert_breakpoint(address)
        return _OK

    def _remove(self, text: bytes) -> bytes:
        address = _breakpoint(text)
        if address is None:
            return _EMPTY
        self._vm.remove_breakpoint(address)
        return _OK

    def _query(self, text: bytes) -> bytes:
        if text.startswith(b"Supported"):
            return _FEATURES
        found = _XFER.fullmatch(text.removeprefix(b"Xfer:"))
        if not text.startswith(b"Xfer:") or not found:
            return _EMPTY
        data = self._object(found[1], found[2])
        if data is None:
            return b"E00"
        start = hexadecimal(found[3])
        part = data[start : start + min(hexadecimal(found[4]), _MEMORY_LIMIT)]
        return (b"l" if start + len(part) >= len(data) else b"m") + part

    def _object(self, kind: bytes, annex: bytes) -> bytes | None:
        library_os = self._vm.library_os
        if kind == b"features":
            return TARGET_XML if annex == b"target.xml" else None
        if library_os is None:
            return None
        if kind == b"auxv":
            return library_os.auxiliary_vector(self._vm)
        return library_os.program_path(self._vm).encode()

    _COMMANDS: ClassVar[dict[bytes, Callable[[_Session, bytes], bytes]]] = {
        b"?": _why,
        b"g": _read_registers,
        b"G": _write_registers,
        b"p": _read_register,
        b"P": _write_register,
        b"m": _read_memory,
        b"M": _write_memory,
        b"Z": _insert,
        b"z": _remove,
        b"q": _query,
        b"H": _accept,
        b"T": _accept,
    }


#: `c` or `s`, or with a signal `C` or `S`, alone or as the first action of `vCont`.
_GOING_ON = re.compile(rb"(?:vCont;)?(?:([cs])|([CS])[0-9a-fA-F]{2})(?::[^;]*)?(?:;.*)?")
_FIXED = {
    b"QStartNoAckMode": _OK,
    b"vCont?": b"vCont;c;C;s;S",
    b"qAttached": b"1",
    b"qC": b"QC1",
    b"qfThreadInfo": b"m1",
    b"qsThreadInfo": b"l",
}


def _pair(text: bytes) -> tuple[int, int]:
    first, _, second = text.partition(b",")
    return hexadecimal(first), hexadecimal(second)


def _breakpoint(text: bytes) -> int | None:
    """The address of `type,address,kind`; a hardware breakpoint is like any other here."""
    kind, _, place = text.partition(b",")
    return _pair(place)[0] if kind in (b"0", b"1") else None
