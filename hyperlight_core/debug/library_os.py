"""Where the library OS keeps what it knows of its program.

Addresses come from the symbols of its ELF file, which is the host's own; what is found there is the
guest's, and no more than a hint.
"""

from __future__ import annotations

import functools
import io
import struct
from typing import Protocol

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from hyperlight_core._vmm import lib
from hyperlight_core.errors import ConfigurationError, GuestImageError
from hyperlight_core.guests import GuestImage
from hyperlight_core.vm import CONTROL_ADDRESS, Fault, Registers, VirtualMachine, Vm, VmConfig

__all__ = [
    "EXCEPTION_FRAME",
    "EXCEPTION_STACK",
    "Inspected",
    "LibraryOs",
    "inspected",
    "on_host_pages",
]

#: Vector, error code, RIP, CS, RFLAGS, RSP, SS: `struct hl_control`, exception_entry.
EXCEPTION_FRAME = struct.Struct("<7Q")
EXCEPTION_STACK = range(CONTROL_ADDRESS + lib.HL_PAGE_SIZE, lib.HL_EXCEPTION_STACK_TOP + 1)
_WORD = struct.Struct("<Q")
#: `struct registers` of process.h, and how much of it lies before the exception's vector.
_SAVED = ["r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8"]
_SAVED += ["rax", "rcx", "rdx", "rsi", "rdi"]
_SAVED_SIZE = 8 * len(_SAVED) + EXCEPTION_FRAME.size
#: `struct program` of libos.h: the path, then three pairs of a place and a size.
_PATH_SIZE = 4096
_PROGRAM_PAIRS = struct.Struct("<6Q")
_AUXILIARY_LIMIT = 4096


class Inspected(Protocol):
    """What is looked at: a `Vm` that is not running."""

    @property
    def config(self) -> VmConfig:
        """Its memory and buffers."""

    def read(self, address: int, size: int) -> bytes:
        """Copy guest memory; ConfigurationError if the range is not in RAM."""

    def registers(self) -> Registers:
        """The registers."""

    def fault(self) -> Fault:
        """The last unhandled exception."""

    def describe_exit(self) -> str:
        """The last FAULT or VIOLATION in words."""


def inspected(vm: VirtualMachine) -> Inspected:
    """The VM as something to look at; ConfigurationError if it is none of KVM's."""
    if not isinstance(vm, Vm):
        raise ConfigurationError("there is no micro-VM to look at")
    return vm


def on_host_pages(registers: Registers) -> bool:
    """Whether the guest stands in the host's entry code, at the end of an exception's way out."""
    return registers.rip < CONTROL_ADDRESS and registers.rsp in EXCEPTION_STACK


class LibraryOs:
    """The symbols of a library OS, and what they lead to in a guest.

    Args:
        elf: its ELF file.

    Attributes:
        code: the addresses that are its own.
        program_enter: where it jumps to a program whose registers are at RDI.
        exception_entry: its handler of exceptions.
        direct_entry: where system calls arrive that do not trap, with their return address in RCX.

    Raises:
        GuestImageError: the file is none of a library OS, or has no symbols.
    """

    def __init__(self, elf: bytes) -> None:
        table = ELFFile(io.BytesIO(elf)).get_section_by_name(".symtab")
        if not isinstance(table, SymbolTableSection):
            raise GuestImageError("the library OS has no symbols")
        places = {symbol.name: int(symbol["st_value"]) for symbol in table.iter_symbols()}
        try:
            self.code = range(places["libos_begin"], places["libos_end"])
            self.program_enter = places["program_enter"]
            self.exception_entry = places["exception_entry"]
            self.direct_entry = places["syscall_direct_entry"]
            self._kernel_stack, self._program = places["kernel_stack"], places["program"]
        except KeyError as error:
            raise GuestImageError(f"the library OS has no symbol {error}") from None

    @classmethod
    def serving(cls, guest: GuestImage) -> LibraryOs | None:
        """That of a guest; None for a native one."""
        return None if guest.program else _read(guest.elf())

    def saved_registers(self, vm: Inspected) -> tuple[Registers, int] | None:
        """The program's registers while the library OS runs, and the syscall's or vector's number.

        Returns:
            None if the guest gives no place for them.
        """
        now = vm.registers()
        top = lib.HL_EXCEPTION_STACK_TOP
        try:
            if now.rsp not in EXCEPTION_STACK:
                (top,) = _WORD.unpack(vm.read(self._kernel_stack, _WORD.size))
            return self.registers_at(vm, top - _SAVED_SIZE, now)
        except ConfigurationError:
            return None

    def registers_at(self, vm: Inspected, address: int, now: Registers) -> tuple[Registers, int]:
        """`struct registers` at an address, with the bases of `now`; then its number.

        Raises:
            ConfigurationError: the address is not in RAM.
        """
        data = vm.read(address, _SAVED_SIZE)
        general = dict(zip(_SAVED, struct.unpack_from(f"<{len(_SAVED)}Q", data), strict=True))
        number, _, rip, _, rflags, rsp, _ = EXCEPTION_FRAME.unpack_from(data, 8 * len(_SAVED))
        bases = {"fs_base": now.fs_base, "gs_base": now.gs_base}
        return Registers(**general, **bases, rip=rip, rflags=rflags, rsp=rsp), number

    def program_path(self, vm: Inspected) -> str:
        """The path of the program in the image; "" if there is none."""
        try:
            path = vm.read(self._program, _PATH_SIZE).partition(b"\0")[0]
        except ConfigurationError:
            return ""
        return path.decode(errors="replace")

    def auxiliary_vector(self, vm: Inspected) -> bytes:
        """What the program was given of getauxval(3); empty if there is none."""
        try:
            pairs = _PROGRAM_PAIRS.unpack(vm.read(self._program + _PATH_SIZE, _PROGRAM_PAIRS.size))
            place, size = pairs[4:]
            return vm.read(place, min(size, _AUXILIARY_LIMIT)) if size else b""
        except ConfigurationError:
            return b""


@functools.lru_cache(maxsize=2)
def _read(elf: bytes) -> LibraryOs:
    return LibraryOs(elf)
