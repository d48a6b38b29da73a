"""Which ELF files lie where in a guest, and the symbols they have for its addresses.

A file is believed: it is the host's, from the image or the guest's own ELF file. Where it lies is
what the guest says in its auxiliary vector and the dynamic loader's list, and no more than a hint.
"""

from __future__ import annotations

import bisect
import functools
import io
import struct
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from elftools.common.exceptions import ELFError
from elftools.construct import ConstructError
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import InterpSegment

from hyperlight_core.debug.library_os import Inspected, LibraryOs
from hyperlight_core.errors import ConfigurationError
from hyperlight_core.guests import GuestImage

__all__ = ["Mapping", "Module", "Symbol", "find_module", "find_modules"]

#: elf(5); the dynamic loader's `struct r_debug` and `struct link_map` are those of <link.h>.
_AT_NULL, _AT_BASE, _AT_ENTRY = 0, 7, 9
_DT_NULL, _DT_DEBUG = 0, 21
_PF_X = 1
_STT_FUNC = 2
_PAIR = struct.Struct("<2Q")
_LINK_MAP = struct.Struct("<4Q")
_SYMBOL = struct.Struct("<IBBHQQ")
_MAP_OFFSET = 8
_LIBRARIES_MAXIMUM = 512
_DYNAMIC_MAXIMUM = 256
_PATH_MAXIMUM = 512
_FILES_MAXIMUM = 512 << 20
_SYMBOLS_MAXIMUM = 32 << 20


class Mapping(NamedTuple):
    """A segment of a file in the guest's memory: where, of which place in the file, executable."""

    start: int
    end: int
    offset: int
    executable: bool


class Symbol(NamedTuple):
    """A function, and how far into it an address is."""

    name: str
    offset: int


@dataclass(frozen=True, eq=False)
class Module:
    """An ELF file in the guest.

    Attributes:
        path: in the image.
        bias: what to add to the file's addresses.
        elf: its content.
    """

    path: str
    bias: int
    elf: ELFFile

    @functools.cached_property
    def mappings(self) -> list[Mapping]:
        """Its segments."""
        return [
            Mapping(
                self.bias + int(segment["p_vaddr"]),
                self.bias + int(segment["p_vaddr"]) + int(segment["p_memsz"]),
                int(segment["p_offset"]),
                bool(segment["p_flags"] & _PF_X),
            )
            for segment in self.elf.iter_segments("PT_LOAD")
        ]

    def has_code(self, address: int) -> bool:
        """Whether the address is in one of its executable segments."""
        return any(part.executable and part.start <= address < part.end for part in self.mappings)

    @functools.cached_property
    def _functions(self) -> tuple[list[int], list[tuple[int, int]], bytes]:
        """Sorted addresses, size and name of each, and all names."""
        for name in (".symtab", ".dynsym"):
            section = self.elf.get_section_by_name(name)
            if section is None or section["sh_size"] > _SYMBOLS_MAXIMUM:
                continue
            names = self.elf.get_section(section["sh_link"]).data()
            found = sorted(
                (value, size, at)
                for at, info, _, index, value, size in _SYMBOL.iter_unpack(section.data())
                if info & 15 == _STT_FUNC and index
            )
            return [value for value, _, _ in found], [(s, at) for _, s, at in found], names
        return [], [], b""

    def symbol(self, address: int) -> Symbol | None:
        """The function at an address of the guest; None if it is in none that has a name."""
        starts, rest, names = self._functions
        place = address - self.bias
        index = bisect.bisect_right(starts, place) - 1
        if index < 0 or (rest[index][0] and place >= starts[index] + rest[index][0]):
            return None
        at = rest[index][1]
        return Symbol(
            names[at : names.index(b"\0", at)].decode(errors="replace"), place - starts[index]
        )


def find_module(modules: list[Module], address: int) -> Module | None:
    """The module whose code is at an address."""
    return next((module for module in modules if module.has_code(address)), None)


def find_modules(vm: Inspected, guest: GuestImage) -> list[Module]:
    """The ELF files in a guest that is not running, as far as it can be believed.

    Args:
        vm: the micro-VM.
        guest: what runs in it.
    """
    library_os = LibraryOs.serving(guest)
    own = Module("libos.elf" if library_os else guest.name, 0, ELFFile(io.BytesIO(guest.elf())))
    found = [own]
    if library_os and guest.image:
        with suppress(OSError, zipfile.BadZipFile), zipfile.ZipFile(guest.image) as archive:
            found += _program_modules(vm, library_os, _Members(archive))
    return found


def _program_modules(vm: Inspected, library_os: LibraryOs, members: _Members) -> Iterator[Module]:
    vector = dict(_pairs(library_os.auxiliary_vector(vm), _AT_NULL))
    path = library_os.program_path(vm)
    program = members.elf(path)
    if program is None or _AT_ENTRY not in vector:
        return
    main = Module(path, vector[_AT_ENTRY] - int(program["e_entry"]), program)
    yield main
    found = {main.bias}
    places = [*_libraries(vm, main), *_loader(program, vector)]
    for bias, name in places:
        elf = members.elf(name) if bias not in found else None
        if elf is not None:
            found.add(bias)
            yield Module(name, bias, elf)


class _Members:
    """The ELF files of an image, and nothing else, whatever paths the guest names.

    Args:
        archive: the image.
    """

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._found: dict[str, ELFFile] = {}
        self._room = _FILES_MAXIMUM

    def elf(self, path: str) -> ELFFile | None:
        """The file of that path; None if it is not there or none, or this would be too much."""
        if path not in self._found:
            with suppress(KeyError, ELFError, ConstructError):
                self._found[path] = ELFFile(io.BytesIO(self._read(path.lstrip("/"))))
        return self._found.get(path)

    def _read(self, name: str) -> bytes:
        size = self._archive.getinfo(name).file_size
        if size > self._room:
            raise KeyError(name)
        self._room -= size
        return self._archive.read(name)


def _pairs(data: bytes, end: int) -> Iterator[tuple[int, int]]:
    for kind, value in _PAIR.iter_unpack(data[: len(data) // _PAIR.size * _PAIR.size]):
        if kind == end:
            return
        yield kind, value


def _loader(program: ELFFile, vector: dict[int, int]) -> Iterator[tuple[int, str]]:
    """The dynamic loader, which is not in its own list before it has begun."""
    for segment in program.iter_segments("PT_INTERP"):
        if isinstance(segment, InterpSegment):
            yield vector.get(_AT_BASE, 0), segment.get_interp_name()


def _libraries(vm: Inspected, main: Module) -> Iterator[tuple[int, str]]:
    """Bias and name of each library in the dynamic loader's list, which may be anything."""
    with suppress(ConfigurationError):
        seen: set[int] = set()
        place = _first_link(vm, main)
        while place and place not in seen and len(seen) < _LIBRARIES_MAXIMUM:
            seen.add(place)
            bias, name, _, place = _LINK_MAP.unpack(vm.read(place, _LINK_MAP.size))
            text = vm.read(name, _PATH_MAXIMUM).partition(b"\0")[0]
            yield bias, text.decode(errors="replace")


def _first_link(vm: Inspected, main: Module) -> int:
    for segment in main.elf.iter_segments("PT_DYNAMIC"):
        size = min(int(segment["p_memsz"]), _DYNAMIC_MAXIMUM * _PAIR.size)
        dynamic = dict(_pairs(vm.read(main.bias + int(segment["p_vaddr"]), size), _DT_NULL))
        debug = dynamic.get(_DT_DEBUG, 0)
        if debug:
            return int.from_bytes(vm.read(debug + _MAP_OFFSET, 8), "little")
    return 0
