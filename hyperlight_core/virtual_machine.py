"""What the layers above need of a micro-VM; `vm.Vm` has it over KVM, `testing.FakeVm` without."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from hyperlight_core._vmm import lib
from hyperlight_core.errors import ConfigurationError

__all__ = [
    "CONTROL_ADDRESS",
    "NEVER_NS",
    "Buffers",
    "Counters",
    "Exit",
    "ExitKind",
    "Fault",
    "Registers",
    "VirtualMachine",
    "VmConfig",
    "VmFactory",
]

#: A deadline or budget that is never reached.
NEVER_NS = 2**63 - 1
#: Where RAM begins, with the control block.
CONTROL_ADDRESS: int = lib.HL_RAM_ADDRESS
_MIB = 2**20


@dataclass(frozen=True)
class VmConfig:
    """What a micro-VM is made of; a snapshot fits only VMs of an equal one.

    Attributes:
        memory: bytes of guest RAM, a multiple of 2 MiB.
        in_size: bytes of the buffer for frames to the guest, a multiple of 4 KiB.
        out_size: the same for frames from the guest.
        console_size: bytes of the console buffer, a multiple of 4 KiB.
    """

    memory: int = 512 * _MIB
    in_size: int = _MIB
    out_size: int = _MIB
    console_size: int = 65536

    def check_range(self, address: int, size: int) -> None:
        """Raise ConfigurationError unless these bytes lie in RAM, whatever the numbers are."""
        end = CONTROL_ADDRESS + self.memory
        if address < CONTROL_ADDRESS or size < 0 or address + size > end:
            raise ConfigurationError(f"{size} bytes at {address:#x} are not in the guest's memory")


class ExitKind(IntEnum):
    """Why the guest stopped running; the meanings are those of `enum hl_exit_kind`."""

    CALL = lib.HL_EXIT_CALL
    PARK = lib.HL_EXIT_PARK
    CONSOLE = lib.HL_EXIT_CONSOLE
    ENDED = lib.HL_EXIT_ENDED
    FAULT = lib.HL_EXIT_FAULT
    VIOLATION = lib.HL_EXIT_VIOLATION
    TIMEOUT = lib.HL_EXIT_TIMEOUT
    CPU_TIME = lib.HL_EXIT_CPU_TIME
    KILLED = lib.HL_EXIT_KILLED
    SIGNAL = lib.HL_EXIT_SIGNAL


class Exit(NamedTuple):
    """One return from the guest.

    Attributes:
        kind: why.
        value: ENDED: the exit status; VIOLATION: KVM's exit reason.
        console_used: bytes in the console buffer.
        cpu_ns: CPU time used, only measured under a budget.
    """

    kind: int
    value: int
    console_used: int
    cpu_ns: int


@dataclass(frozen=True)
class Registers:
    """The ring-3 registers of the vCPU."""

    rax: int
    rbx: int
    rcx: int
    rdx: int
    rsi: int
    rdi: int
    rsp: int
    rbp: int
    r8: int
    r9: int
    r10: int
    r11: int
    r12: int
    r13: int
    r14: int
    r15: int
    rip: int
    rflags: int
    fs_base: int
    gs_base: int


class Fault(NamedTuple):
    """A CPU exception that the guest did not handle.

    Attributes:
        vector: its number.
        error_code: as the CPU gives it, or 0.
        address: of the last page fault; means something only if this is one.
    """

    vector: int
    error_code: int
    address: int


class Counters(NamedTuple):
    """What the VM has done since it was made; the meanings are those of `struct hl_counters`."""

    exits: int
    ioctls: int
    resets: int
    pages_copied: int
    restores: int


class Buffers(NamedTuple):
    """The guest's frame buffers as seen from here; valid until the VM is closed."""

    to_guest: memoryview
    from_guest: memoryview
    console: memoryview


class VirtualMachine(Protocol):
    """What the layers above need of a VM: `Vm` has it, and so has `testing.FakeVm`."""

    @property
    def config(self) -> VmConfig:
        """Its memory and buffers."""

    @property
    def buffers(self) -> Buffers:
        """The frame buffers; raises StateError once closed."""

    @property
    def wake_fd(self) -> int:
        """A descriptor that polls readable from `kill` until the next restore."""

    def run(self, deadline_ns: int = NEVER_NS, cpu_ns: int = NEVER_NS) -> Exit:
        """Run the guest until the host is needed."""

    def describe_exit(self) -> str:
        """The last FAULT or VIOLATION in words."""

    def wrote(self, size: int) -> None:
        """Say that the first `size` bytes of the buffer to the guest were written."""

    def read(self, address: int, size: int) -> bytes:
        """Copy guest memory."""

    def write(self, address: int, data: bytes) -> None:
        """Overwrite guest memory."""

    def counters(self) -> Counters:
        """What it has done since it was made."""

    def set_table_version(self, version: int) -> None:
        """Tell the guest that the host functions within its reach have changed."""

    def snapshot(self) -> Any:
        """The guest as it is now: something immutable with a `config`."""

    def restore(self, snapshot: Any) -> None:
        """Go to a snapshot of this VM or of one with an equal configuration."""

    def kill(self) -> None:
        """Stop the running guest, or the next run; from any thread."""

    def close(self) -> None:
        """Free everything; a second call does nothing."""


class VmFactory(Protocol):
    """What makes a machine's VM: `Vm` itself, unless a test puts another one in its place."""

    def __call__(
        self, config: VmConfig, program: bytes | None, image: Path | None, /, *, stream: bool
    ) -> VirtualMachine:
        """Make one; see `Vm`."""
