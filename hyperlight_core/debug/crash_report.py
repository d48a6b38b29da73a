"""What is known about a guest that has stopped: registers, backtrace, last host calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

from hyperlight_core.debug.backtrace import Frame, backtrace
from hyperlight_core.debug.last_calls import HostCallOutcome, LastCalls
from hyperlight_core.debug.library_os import (
    EXCEPTION_FRAME,
    Inspected,
    LibraryOs,
    inspected,
    on_host_pages,
)
from hyperlight_core.debug.modules import find_modules
from hyperlight_core.errors import ConfigurationError, GuestCrashedError, GuestExitedError
from hyperlight_core.machine import Machine
from hyperlight_core.vm import CONTROL_ADDRESS, Registers

__all__ = ["CrashReport", "Stopped", "crash_report", "where_stopped"]

_PAGE_FAULT = 14
#: `struct hl_control`, fault_address.
_FAULT_ADDRESS = CONTROL_ADDRESS + 0x20
#: exit(2) and exit_group(2) on x86-64: a program that ends by itself.
_EXITS = (60, 231)
#: Signals that a program dies of by its own fault: ILL, TRAP, ABRT, BUS, FPE, SEGV, SYS; signal(7).
_FATAL = {4, 5, 6, 7, 8, 11, 31}


class Stopped(NamedTuple):
    """Where the program of a guest stands.

    Attributes:
        registers: the program's, not those of what runs on its behalf.
        vector: the CPU exception that stopped it, or None.
        syscall: the system call it is in, or None.
        fault_address: the address of the page fault, if it is one.
    """

    registers: Registers
    vector: int | None = None
    syscall: int | None = None
    fault_address: int | None = None


@dataclass(frozen=True)
class CrashReport:
    """A guest that has stopped; everything but `reason` and `calls` is as the guest has left it.

    Attributes:
        crashed: whether by its own fault; not at a limit, a kill or its end.
        kind: the type of the error that poisoned the sandbox, or "".
        reason: its first line.
        stopped: registers and fault address.
        frames: the calls in progress, the innermost first.
        calls: the last host calls, if a `LastCalls` kept them, the latest at the end.
    """

    crashed: bool
    kind: str
    reason: str
    stopped: Stopped
    frames: Sequence[Frame]
    calls: Sequence[HostCallOutcome]

    def __str__(self) -> str:
        """Several lines for people."""
        lines = [self.reason] if self.reason else []
        if self.stopped.fault_address is not None:
            lines.append(f"fault address {self.stopped.fault_address:#x}")
        lines.append("registers:")
        named = [
            f"{item.name:>7} {getattr(self.stopped.registers, item.name):#018x}"
            for item in fields(Registers)
        ]
        lines += [" ".join(named[at : at + 4]) for at in range(0, len(named), 4)]
        lines.append("backtrace:")
        lines += [f"  #{number:<2} {frame}" for number, frame in enumerate(self.frames)]
        if self.calls:
            lines.append("last host calls:")
            lines += [f"  {name} {'ok' if code is None else code}" for name, code in self.calls]
        return "\n".join(lines)


def where_stopped(vm: Inspected, library_os: LibraryOs | None) -> Stopped:
    """Where the program stands, in a guest that is not running.

    Args:
        vm: its micro-VM.
        library_os: what it runs on, or None for a native guest.
    """
    now = vm.registers()
    if on_host_pages(now):
        return _in_frame(vm, now)
    if library_os is None or now.rip not in library_os.code:
        return Stopped(now)
    saved = library_os.saved_registers(vm)
    if saved is None:
        return Stopped(now)
    registers, number = saved
    # A system call leaves its return address and flags in these, an exception does not.
    if (registers.rcx, registers.r11) == (registers.rip, registers.rflags):
        return Stopped(registers, syscall=number)
    address = int.from_bytes(vm.read(_FAULT_ADDRESS, 8), "little")
    return Stopped(registers, number, fault_address=address if number == _PAGE_FAULT else None)


def _in_frame(vm: Inspected, now: Registers) -> Stopped:
    try:
        frame = EXCEPTION_FRAME.unpack(vm.read(now.rsp, EXCEPTION_FRAME.size))
    except ConfigurationError:
        return Stopped(now)
    vector, _, rip, _, rflags, rsp, _ = frame
    address = vm.fault().address if vector == _PAGE_FAULT else None
    return Stopped(replace(now, rip=rip, rflags=rflags, rsp=rsp), vector, fault_address=address)


def crash_report(machine: Machine) -> CrashReport:
    """What a machine's guest was doing when it stopped; the caller has the machine to itself.

    Raises:
        ConfigurationError: the machine has no micro-VM that could be looked at.
    """
    vm, guest = inspected(machine.vm), machine.spec.guest
    failure = machine.failure
    stopped = where_stopped(vm, LibraryOs.serving(guest))
    observer = machine.spec.observe
    return CrashReport(
        _has_crashed(failure, stopped),
        type(failure).__name__ if failure else "",
        str(failure or "").partition("\n")[0],
        stopped,
        backtrace(vm, find_modules(vm, guest), stopped.registers),
        observer.taken() if isinstance(observer, LastCalls) else (),
    )


def _has_crashed(failure: BaseException | None, stopped: Stopped) -> bool:
    """Whether it failed by itself, or its program died of a signal that is its own fault."""
    if isinstance(failure, GuestExitedError):
        return failure.status - 128 in _FATAL and stopped.syscall not in _EXITS
    return isinstance(failure, GuestCrashedError)
