"""Writes a guest into an ELF core file, which gdb opens; System V gABI, and core(5).

Notes are those of Linux for x86-64: <linux/elfcore.h> and <sys/user.h> have their structures.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

from hyperlight_core.debug.crash_report import Stopped, where_stopped
from hyperlight_core.debug.library_os import Inspected, LibraryOs, inspected
from hyperlight_core.debug.modules import Module, find_modules
from hyperlight_core.debug.stopping import signal_of
from hyperlight_core.errors import GuestExitedError
from hyperlight_core.machine import Machine
from hyperlight_core.vm import CONTROL_ADDRESS, Registers

__all__ = ["write_core"]

_PAGE = 4096
_CHUNK = 1 << 20
#: elf(5).
_ELF_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_NOTE_HEADER = struct.Struct("<3I")
_ET_CORE, _EM_X86_64, _PT_LOAD, _PT_NOTE, _RWX = 4, 62, 1, 4, 7
_IDENT = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
_NT_PRSTATUS, _NT_PRPSINFO, _NT_AUXV = 1, 3, 6
_NT_SIGINFO, _NT_FILE = 0x53494749, 0x46494C45
_STATUS = struct.Struct("<3iH2x2Q4I64x27QI4x")
_PROCESS = struct.Struct("<BcBbxxxxQ6I16s80s")
_SIGINFO = struct.Struct("<3i4xQ104x")
_MAPPED = struct.Struct("<3Q")
#: What the library OS says; process.h.
_PROCESS_ID = 2


def write_core(machine: Machine, path: str | os.PathLike[str]) -> None:
    """Write the memory and registers of a guest; the caller has the machine to itself.

    The file can be read by its owner only, and is sparse: zero pages take no room.

    Raises:
        OSError: the file cannot be written.
        ConfigurationError: the machine has no micro-VM that could be looked at.
    """
    vm, guest = inspected(machine.vm), machine.spec.guest
    library_os = LibraryOs.serving(guest)
    stopped = where_stopped(vm, library_os)
    auxiliary = library_os.auxiliary_vector(vm) if library_os else b""
    signal = _signal(machine.failure, stopped)
    notes = b"".join(
        [
            _note(_NT_PRSTATUS, _status(stopped.registers, signal)),
            _note(_NT_PRPSINFO, _process(guest.name)),
            _note(_NT_SIGINFO, _SIGINFO.pack(signal, 0, 0, stopped.fault_address or 0)),
            _note(_NT_AUXV, auxiliary),
            _note(_NT_FILE, _files(find_modules(vm, guest))),
        ]
    )
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(path, flags, 0o600), "wb") as file:
        _write(file, vm, notes)


def _signal(failure: BaseException | None, stopped: Stopped) -> int:
    if stopped.vector is not None:
        return signal_of(stopped.vector)
    if isinstance(failure, GuestExitedError) and failure.status > 128:
        return failure.status - 128
    return 0


def _write(file: BinaryIO, vm: Inspected, notes: bytes) -> None:
    size = vm.config.memory
    begin = _ELF_HEADER.size + 2 * _PROGRAM_HEADER.size
    memory = -(-(begin + len(notes)) // _PAGE) * _PAGE
    file.write(
        _ELF_HEADER.pack(
            *(_IDENT, _ET_CORE, _EM_X86_64, 1, 0, _ELF_HEADER.size, 0, 0),
            *(_ELF_HEADER.size, _PROGRAM_HEADER.size, 2, 0, 0, 0),
        )
    )
    file.write(_PROGRAM_HEADER.pack(_PT_NOTE, 0, begin, 0, 0, len(notes), 0, 4))
    file.write(_PROGRAM_HEADER.pack(_PT_LOAD, _RWX, memory, CONTROL_ADDRESS, 0, size, size, _PAGE))
    file.write(notes)
    for place, page in _used_pages(vm, size):
        file.seek(memory + place)
        file.write(page)
    file.truncate(memory + size)


def _used_pages(vm: Inspected, size: int) -> Iterator[tuple[int, bytes]]:
    """What is not zero in RAM, in pages, as offsets into it."""
    nothing, zeros = bytes(_CHUNK), bytes(_PAGE)
    for chunk in range(0, size, _CHUNK):
        data = vm.read(CONTROL_ADDRESS + chunk, min(_CHUNK, size - chunk))
        if data == nothing:
            continue
        for at in range(0, len(data), _PAGE):
            page = data[at : at + _PAGE]
            if page != zeros:
                yield chunk + at, page


# ---- notes ---------------------------------------------------------------------------------------


def _note(kind: int, content: bytes) -> bytes:
    padded = content.ljust(-(-len(content) // 4) * 4, b"\0")
    return _NOTE_HEADER.pack(5, len(content), kind) + b"CORE\0\0\0\0" + padded


def _status(now: Registers, signal: int) -> bytes:
    """`struct elf_prstatus`."""
    registers = (
        *(now.r15, now.r14, now.r13, now.r12, now.rbp, now.rbx, now.r11, now.r10, now.r9, now.r8),
        *(now.rax, now.rcx, now.rdx, now.rsi, now.rdi, 2**64 - 1, now.rip, 0x33, now.rflags),
        *(now.rsp, 0x2B, now.fs_base, now.gs_base, 0x2B, 0x2B, 0x2B, 0x2B),
    )
    ids = (_PROCESS_ID, 1, _PROCESS_ID, _PROCESS_ID)
    return _STATUS.pack(signal, 0, 0, signal, 0, 0, *ids, *registers, 0)


def _process(name: str) -> bytes:
    """`struct elf_prpsinfo`."""
    text = os.path.basename(name).encode()
    ids = (_PROCESS_ID, 1, _PROCESS_ID, _PROCESS_ID)
    return _PROCESS.pack(0, b"R", 0, 0, 0, 0, 0, *ids, text[:15], text[:79])


def _files(modules: list[Module]) -> bytes:
    """Which file lies where: count, unit of offsets, places, then names."""
    in_image = [module for module in modules if module.path.startswith("/")]
    parts = [(part, module.path) for module in in_image for part in module.mappings]
    places = b"".join(
        _MAPPED.pack(
            part.start & -_PAGE & 2**64 - 1,
            -(-part.end // _PAGE) * _PAGE & 2**64 - 1,
            part.offset // _PAGE,
        )
        for part, _ in parts
    )
    names = b"".join(path.encode(errors="replace") + b"\0" for _, path in parts)
    return struct.pack("<2Q", len(parts), _PAGE) + places + names
