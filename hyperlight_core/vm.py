"""The micro-VM: one virtual machine with one vCPU, its memory and its snapshots.

The lowest building block: it knows frames' places, but neither JSON-RPC nor plugins. A Vm is used
by one thread at a time; only `kill` may be called at any moment.
"""

from __future__ import annotations

import errno
import os
import struct
import threading
import weakref
from dataclasses import fields
from pathlib import Path
from typing import Any

from typing_extensions import Self

from hyperlight_core._vmm import ffi, lib
from hyperlight_core.errors import GuestImageError, HypervisorError, StateError
from hyperlight_core.helper import check, error_text, native_config
from hyperlight_core.memory_snapshot import MemorySnapshot
from hyperlight_core.virtual_machine import (
    CONTROL_ADDRESS,
    NEVER_NS,
    Buffers,
    Counters,
    Exit,
    ExitKind,
    Fault,
    Registers,
    VirtualMachine,
    VmConfig,
    VmFactory,
)

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
    "Vm",
    "VmConfig",
    "VmFactory",
    "open_image",
]

#: `struct hl_exit`, read at once because each member on its own costs as much.
_EXIT = struct.Struct("=4I2Qq")


class Vm:
    """A micro-VM over KVM.

    Args:
        config: its memory and buffers.
        program: a static ELF guest to load, or None when a snapshot is restored first.
        image: a file the guest sees read-only, or None.
        stream: whether console output leaves the guest at once instead of with the next exit.

    Raises:
        HypervisorError: KVM is missing, forbidden or fails.
        ConfigurationError: sizes KVM cannot have, or a guest that does not fit.
        GuestImageError: `program` is no guest.
    """

    def __init__(
        self,
        config: VmConfig | None = None,
        program: bytes | None = None,
        image: Path | None = None,
        *,
        stream: bool = False,
    ) -> None:
        self.config = config or VmConfig()
        self._vm = _create(self.config, image, stream=stream)
        # Not at exit: a daemon thread may still be inside the guest then.
        self._close = weakref.finalize(self, lib.hl_vm_close, self._vm)
        self._close.atexit = False
        self._exit = ffi.new("struct hl_exit *")
        self._exit_bytes = ffi.buffer(self._exit)
        self._limits = ffi.new("struct hl_limits *")
        self._fault: str | None = None
        self._written = 0
        self._killing = threading.RLock()  # a signal handler may kill what its thread is closing
        sizes = (self.config.in_size, self.config.out_size, self.config.console_size)
        places = (lib.hl_vm_in_address, lib.hl_vm_out_address, lib.hl_vm_console_address)
        self._in_address = lib.hl_vm_in_address(self._vm)
        self._buffers: Buffers | None = Buffers(
            *(self._view(place(self._vm), size) for place, size in zip(places, sizes, strict=True))
        )
        if program is not None:
            try:
                check(lib.hl_vm_load(self._vm, program, len(program)))
            except BaseException:
                self.close()
                raise

    def _view(self, address: int, size: int) -> memoryview:
        return memoryview(ffi.buffer(lib.hl_vm_pointer(self._vm, address, size, 0), size))

    @property
    def _handle(self) -> Any:
        if self._vm is None:
            raise StateError("the VM is closed")
        return self._vm

    @property
    def buffers(self) -> Buffers:
        """The frame buffers; raises StateError once closed."""
        if self._buffers is None:
            raise StateError("the VM is closed")
        return self._buffers

    @property
    def wake_fd(self) -> int:
        """A descriptor that polls readable from `kill` until the next restore."""
        return check(lib.hl_vm_wake_fd(self._handle))

    def run(self, deadline_ns: int = NEVER_NS, cpu_ns: int = NEVER_NS) -> Exit:
        """Run the guest until the host is needed. Other threads of the process run meanwhile.

        Args:
            deadline_ns: on `time.monotonic_ns`'s clock.
            cpu_ns: CPU time this call may use.

        Raises:
            StateError: nothing is loaded yet.
            HypervisorError: KVM fails.
        """
        limits = self._limits
        limits.deadline_ns, limits.cpu_ns = deadline_ns, cpu_ns
        code = lib.hl_vm_run(self._vm or self._handle, self._written, limits, self._exit)
        self._written = 0
        if code:
            text = error_text()
            raise StateError(text) if code == -errno.ENOEXEC else HypervisorError(-code, text)
        kind, value, _, console_used, _, _, cpu_ns = _EXIT.unpack(self._exit_bytes)
        if kind == ExitKind.VIOLATION:
            self._fault = error_text()
        return Exit(kind, value, console_used, cpu_ns)

    def describe_exit(self) -> str:
        """The last FAULT or VIOLATION in words, with the registers."""
        result = self._exit
        if result.kind == lib.HL_EXIT_FAULT:
            what = (
                f"CPU exception {result.vector} ({_EXCEPTIONS.get(result.vector, 'unknown')}),"
                f" error code {result.error_code:#x}, address {result.address:#x}"
            )
        else:
            what = self._fault or "nothing"
        registers = self.registers()
        listing = " ".join(
            f"{item.name}={getattr(registers, item.name):#x}" for item in fields(registers)
        )
        return f"{what}\n{listing}"

    def wrote(self, size: int) -> None:
        """Say that the first `size` bytes of the buffer to the guest were written."""
        if self._vm is None:
            raise StateError("the VM is closed")
        # The helper is told with the next call that it has to be told by: each lets go of the GIL.
        self._written = max(self._written, size)

    def _tell_written(self) -> None:
        if self._written:
            lib.hl_vm_pointer(self._handle, self._in_address, self._written, 1)
            self._written = 0

    def read(self, address: int, size: int) -> bytes:
        """Copy guest memory.

        Raises:
            ConfigurationError: the range is not in RAM.
        """
        self.config.check_range(address, size)
        place = ffi.new("uint8_t[]", size)
        check(lib.hl_vm_read(self._handle, address, place, size))
        return bytes(ffi.buffer(place, size))

    def write(self, address: int, data: bytes) -> None:
        """Overwrite guest memory.

        Raises:
            ConfigurationError: the range is not in RAM.
        """
        self.config.check_range(address, len(data))
        check(lib.hl_vm_write(self._handle, address, data, len(data)))

    def registers(self) -> Registers:
        """The registers of the guest, which is not running."""
        out = ffi.new("struct hl_registers *")
        check(lib.hl_vm_get_registers(self._handle, out))
        return Registers(*(getattr(out, item.name) for item in fields(Registers)))

    def set_registers(self, registers: Registers) -> None:
        """Make the registers those given, flags a program may not set left out."""
        check(
            lib.hl_vm_set_registers(self._handle, ffi.new("struct hl_registers *", vars(registers)))
        )

    def fault(self) -> Fault:
        """The CPU exception of the last exit, if that was a FAULT."""
        result = self._exit
        return Fault(result.vector, result.error_code, result.address)

    def counters(self) -> Counters:
        """Exits, ioctls, resets and copied pages so far."""
        out = ffi.new("struct hl_counters *")
        lib.hl_vm_get_counters(self._handle, out)
        return Counters(*(getattr(out, name) for name in Counters._fields))

    def set_table_version(self, version: int) -> None:
        """Tell the guest that the host functions within its reach have changed."""
        lib.hl_vm_set_table_version(self._handle, version)

    def snapshot(self) -> MemorySnapshot:
        """Memory and registers of the guest, which is not running, as they are now."""
        self._tell_written()
        out = ffi.new("hl_snapshot **")
        check(lib.hl_vm_snapshot(self._handle, out))
        return MemorySnapshot(self.config, out[0])

    def restore(self, snapshot: MemorySnapshot) -> None:
        """Go to the snapshot, which may be another VM's; forgets a kill.

        Raises:
            ConfigurationError: that VM has another configuration.
        """
        self._tell_written()
        code = lib.hl_vm_restore(self._handle, snapshot._handle)  # noqa: SLF001
        if code:
            check(code)

    def save_written(self, file: int) -> None:
        """Write which pages may differ from the last snapshot into an empty file.

        Raises:
            HypervisorError: writing fails.
        """
        self._tell_written()
        check(lib.hl_vm_save_written(self._handle, file))

    def kill(self) -> None:
        """Stop the running guest, or the next run. Any thread; does nothing once closed."""
        with self._killing:
            if self._vm is not None:
                lib.hl_vm_kill(self._vm)

    def close(self) -> None:
        """Free everything. Nobody may be using the VM; a second call does nothing."""
        with self._killing:
            buffers, self._vm, self._buffers = self._buffers, None, None
        for view in buffers or ():
            view.release()
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _create(config: VmConfig, image: Path | None, *, stream: bool) -> Any:
    native = native_config(config)
    native.flags = lib.HL_BOOT_STREAM_CONSOLE * stream
    out = ffi.new("hl_vm **")
    with _opened(image) as file:
        native.image_fd = file.number
        check(lib.hl_vm_create(native, out))
    return out[0]


def open_image(path: Path) -> int:
    """A descriptor of an image file; raises GuestImageError if there is none."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise GuestImageError(f"the image {path}: {error.strerror}") from error


class _opened:  # noqa: N801 - reads like the function it stands for
    """A file open for reading, or -1 for none."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.number = -1

    def __enter__(self) -> Self:
        if self._path is not None:
            self.number = open_image(self._path)
        return self

    def __exit__(self, *_: object) -> None:
        if self.number >= 0:
            os.close(self.number)


#: Intel SDM vol. 3, table 6-1.
_EXCEPTIONS = {
    0: "divide error",
    1: "debug",
    3: "breakpoint",
    4: "overflow",
    6: "invalid opcode",
    8: "double fault",
    11: "segment not present",
    12: "stack fault",
    13: "general protection",
    14: "page fault",
    16: "x87 error",
    17: "alignment check",
    19: "SIMD error",
}
