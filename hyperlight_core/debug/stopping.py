"""Stops a guest at breakpoints, steps and exceptions, and lets it go on.

All of it happens in ring 3: a step is RFLAGS.TF, a breakpoint is `int3`. KVM_SET_GUEST_DEBUG would
need more of the helper, and has no effect on the page-table KVM. The guest's own exception entry is
taken out of its control block, so that the host's, which leaves the VM, is the one that gets
exceptions; those that are the guest's own business are handed on to it.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from hyperlight_core._vmm import lib
from hyperlight_core.debug.library_os import (
    EXCEPTION_FRAME,
    EXCEPTION_STACK,
    LibraryOs,
    on_host_pages,
)
from hyperlight_core.errors import ConfigurationError
from hyperlight_core.memory_snapshot import MemorySnapshot
from hyperlight_core.vm import CONTROL_ADDRESS, Exit, ExitKind, Vm, VmConfig

__all__ = ["SIGINT", "SIGTRAP", "StoppableVm", "signal_of"]

_EXCEPTION_ENTRY = CONTROL_ADDRESS + lib.HL_CONTROL_EXCEPTION_ENTRY
_WORD = struct.Struct("<Q")
_INT3 = b"\xcc"
#: Intel SDM vol. 1, 3.4.3.3, and vol. 3, table 6-1.
_TRAP_FLAG = 0x100
_DEBUG, _BREAKPOINT = 1, 3
#: `out %eax, $HL_PORT_FAULT`
_OUT_FAULT = bytes([0xE7, lib.HL_PORT_FAULT])
#: How long the guest runs until the host looks whether it shall stop.
_SLICE_NS = 50_000_000

SIGINT, SIGTRAP = 2, 5
_SIGSEGV = 11
_SIGNALS = {0: 8, 1: SIGTRAP, 3: SIGTRAP, 6: 4, 7: 4, 11: 7, 12: 7, 16: 8, 17: 7, 19: 8}


def signal_of(vector: int) -> int:
    """The signal that Linux makes of a CPU exception, by its number on x86-64: signal(7)."""
    return _SIGNALS.get(vector, _SIGSEGV)


class _Pending(NamedTuple):
    """An exception of the guest's own, which waits to be handed on."""

    left: Exit
    frame: int
    vector: int
    error_code: int


class StoppableVm(Vm):
    """A micro-VM whose guest can be stopped anywhere; the other arguments are those of `Vm`.

    Snapshots of it, and what `peek` reads, are those of a guest without a debugger.

    Args:
        library_os: what the guest runs on; None for a native guest.
    """

    def __init__(
        self,
        config: VmConfig | None = None,
        program: bytes | None = None,
        image: Path | None = None,
        *,
        stream: bool = False,
        library_os: LibraryOs | None = None,
    ) -> None:
        super().__init__(config, program, image, stream=stream)
        self._library_os = library_os
        self._unstarted = program is not None
        self._held = False
        self._handler = 0
        self._entry_code = b""
        self._originals: dict[int, bytes] = {}
        self._goals: dict[int, Callable[[], int | None]] = {}
        self._pending: _Pending | None = None
        self._forwarded = False
        self._later: list[int | None] = []
        self._stepping = False
        self._from_program = False

    # ---- holding the guest ---------------------------------------------------------------------

    def hold(self) -> bool:
        """Stop the guest, now or, if it was only loaded, at its program's first instruction.

        Returns:
            Whether it stands still already; otherwise let it go on.
        """
        self._held = True
        self._take_exceptions()
        if self._library_os is None or not self._unstarted:
            return True
        # Its handler comes before any exit in which it could be taken out: have it leave, too.
        self._entry_code = self.read(self._library_os.exception_entry, len(_OUT_FAULT))
        self.write(self._library_os.exception_entry, _OUT_FAULT)
        self._goals[self._library_os.program_enter] = partial(self._at_start, self._library_os)
        self.insert_breakpoint(self._library_os.program_enter)
        return False

    def _at_start(self, library_os: LibraryOs) -> int | None:
        now = self.registers()
        try:
            entry = library_os.registers_at(self, now.rdi, now)[0].rip
            self.insert_breakpoint(entry)
        except ConfigurationError:
            return SIGTRAP
        self._goals[entry] = lambda: SIGTRAP
        return None

    def release(self) -> None:
        """Let the guest go on as if there never was a debugger."""
        self._leave_memory()
        self._set_trap(on=False)
        self._originals.clear()
        self._goals.clear()
        self._held, self._handler, self._pending, self._stepping = False, 0, None, False

    def _take_exceptions(self) -> None:
        (entry,) = _WORD.unpack(self.read(_EXCEPTION_ENTRY, _WORD.size))
        if entry:
            self._handler = entry
            self.write(_EXCEPTION_ENTRY, bytes(_WORD.size))
        if entry and self._entry_code and self._library_os:
            self.write(self._library_os.exception_entry, self._entry_code)
            self._entry_code = b""

    def _leave_memory(self) -> None:
        for address, original in self._originals.items():
            self.write(address, original)
        if self._handler:
            self.write(_EXCEPTION_ENTRY, _WORD.pack(self._handler))

    def _enter_memory(self) -> None:
        for address in self._originals:
            self._originals[address] = self.read(address, 1)
            self.write(address, _INT3)
        self._take_exceptions()

    def snapshot(self) -> MemorySnapshot:
        """As `Vm.snapshot`."""
        if not self._held:
            return super().snapshot()
        self._leave_memory()
        try:
            return super().snapshot()
        finally:
            self._enter_memory()

    def restore(self, snapshot: MemorySnapshot) -> None:
        """As `Vm.restore`; breakpoints stay."""
        super().restore(snapshot)
        self._pending, self._stepping = None, False
        self._unstarted = False
        if self._held:
            self._enter_memory()

    # ---- memory and breakpoints ----------------------------------------------------------------

    def peek(self, address: int, size: int) -> bytes:
        """As `read`, without breakpoints."""
        data = bytearray(self.read(address, size))
        for place, original in self._originals.items():
            if address <= place < address + size:
                data[place - address : place - address + 1] = original
        return bytes(data)

    def poke(self, address: int, data: bytes) -> None:
        """As `write`, below breakpoints."""
        self.write(address, data)
        for place in self._originals:
            if address <= place < address + len(data):
                self._originals[place] = data[place - address : place - address + 1]
                self.write(place, _INT3)

    def insert_breakpoint(self, address: int) -> None:
        """Stop before the instruction at `address`; ConfigurationError if it is not in RAM."""
        if address not in self._originals:
            original = self.read(address, 1)
            self.write(address, _INT3)
            self._originals[address] = original

    def remove_breakpoint(self, address: int) -> None:
        """Undo `insert_breakpoint`; nothing if there is none."""
        original = self._originals.pop(address, None)
        if original is not None:
            self.write(address, original)

    # ---- going on ------------------------------------------------------------------------------

    def resume(self, *, step: bool = False, hand_on: bool = False) -> None:
        """Say how the guest shall `go` on.

        Args:
            step: for one instruction; a system call counts as one, unless it is the library OS
                itself that is stepped.
            hand_on: with the exception it was stopped for, if it was for one of its own.
        """
        pending, self._pending = self._pending, None
        self._stepping = step
        self._from_program = not self._in_library_os()
        self._set_trap(on=step)
        if pending and hand_on:
            self._hand_on(pending)

    def _in_library_os(self) -> bool:
        now = self.registers()
        return on_host_pages(now) or (
            self._library_os is not None and now.rip in self._library_os.code
        )

    def _set_trap(self, *, on: bool) -> None:
        now = self.registers()
        flags = now.rflags | _TRAP_FLAG if on else now.rflags & ~_TRAP_FLAG
        if flags != now.rflags:
            self.set_registers(replace(now, rflags=flags))

    def _hand_on(self, pending: _Pending) -> None:
        """Enter the guest's handler, or keep the exit for a guest without one."""
        if not self._handler:
            self._pending, self._forwarded = pending, True
            return
        now = self.registers()
        fault = pending.vector, pending.error_code
        code, data = lib.HL_SELECTOR_USER_CODE, lib.HL_SELECTOR_USER_DATA
        frame = EXCEPTION_FRAME.pack(*fault, now.rip, code, now.rflags, now.rsp, data)
        self.write(pending.frame, frame)
        self.set_registers(replace(now, rip=self._handler, rsp=pending.frame))

    def go(self) -> Exit | int | None:
        """Run on for a moment.

        Returns:
            An exit for the caller of `run`; or the signal the guest was stopped with; or None.
        """
        if self._later:
            return self._later.pop()
        if self._pending and self._forwarded:
            return self._pending.left
        left = super().run(time.monotonic_ns() + _SLICE_NS)
        self._unstarted = False
        self._take_exceptions()
        outcome: Exit | int | None = left
        if left.kind == ExitKind.FAULT:
            outcome = self._on_exception(left)
        elif left.kind == ExitKind.TIMEOUT:
            outcome = None
        if left.console_used and not isinstance(outcome, Exit):
            # The next run takes the text as read, so that somebody must read it first.
            self._later.append(outcome)
            return left._replace(kind=ExitKind.CONSOLE)
        return outcome

    def may_stop(self) -> bool:
        """Whether an exception now would not overwrite the frame of one just taken."""
        return self.registers().rsp not in EXCEPTION_STACK

    def _on_exception(self, left: Exit) -> Exit | int | None:
        now = self.registers()
        try:
            frame = EXCEPTION_FRAME.unpack(self.read(now.rsp, EXCEPTION_FRAME.size))
        except ConfigurationError:
            return left
        vector, error_code, rip, _, rflags, rsp, _ = frame
        here = replace(now, rip=rip, rsp=rsp, rflags=rflags & ~_TRAP_FLAG)
        if vector == _BREAKPOINT and rip - 1 in self._originals:
            self.set_registers(replace(here, rip=rip - 1))
            return self._at_breakpoint(rip - 1)
        self.set_registers(here)
        if vector == _DEBUG:
            return self._stepped()
        self._pending = _Pending(left, now.rsp, vector, error_code)
        self._forwarded = False
        return signal_of(vector)

    def _at_breakpoint(self, address: int) -> int | None:
        self._stepping = False
        goal = self._goals.pop(address, None)
        if goal is None:
            return SIGTRAP
        self.remove_breakpoint(address)
        return goal()

    def _stepped(self) -> int | None:
        """After TF has trapped; a step that has led into the library OS is not over yet."""
        if not self._stepping:
            return None
        if self._from_program and self._in_library_os():
            self._step_on()
            return None
        self._stepping = False
        return SIGTRAP

    def _step_on(self) -> None:
        """Through a system call at once, or over what is left of one, where its flags are back."""
        now = self.registers()
        if self._library_os and now.rip == self._library_os.direct_entry:
            with suppress(ConfigurationError):
                self._goals[now.rcx] = lambda: SIGTRAP
                return self.insert_breakpoint(now.rcx)
        self._set_trap(on=True)
        return None
