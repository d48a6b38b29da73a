"""Finds the shared libraries that ELF files need as the dynamic loader does, without running it.

The order is that of ld.so(8): DT_RPATH, LD_LIBRARY_PATH, DT_RUNPATH, the system's directories. A
directory that the file or the environment names is used only below the roots the caller trusts, so
that a hostile program cannot have files of the host packed beside it.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import InterpSegment

from hyperlight_core.errors import GuestImageError

__all__ = ["DynamicSection", "Libraries", "find_libraries", "read_dynamic", "system_directories"]

#: What a well-formed dynamic section stays far below; a hostile one must not keep us busy.
_TAGS_MAXIMUM = 4096
_READ_MAXIMUM = 16 << 20


@dataclass(frozen=True)
class DynamicSection:
    """What an ELF file asks of the dynamic loader.

    Attributes:
        interpreter: path of the loader itself, or None for a static program or a library.
        needed: names of the libraries.
        rpath: DT_RPATH, which holds for the libraries' own libraries too.
        runpath: DT_RUNPATH, which holds for this file and disables its DT_RPATH.
    """

    interpreter: str | None = None
    needed: tuple[str, ...] = ()
    rpath: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()


@dataclass(frozen=True)
class Libraries:
    """The outcome of a search.

    Attributes:
        found: name of each library, as it is asked for, and where it is.
        missing: name of each library that is nowhere, and the file that asks for it.
    """

    found: dict[str, Path] = field(default_factory=dict)
    missing: dict[str, Path] = field(default_factory=dict)


class _BoundedReader(io.BufferedReader):
    """Refuses to read without end, whatever the offsets and sizes in the file say."""

    _left = _READ_MAXIMUM

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= self._left:
            raise ELFError("its tables are too large")
        self._left -= max(size, 64)
        return super().read(size)


def read_dynamic(path: Path) -> DynamicSection:
    """What the ELF file at `path` asks of the dynamic loader.

    Raises:
        GuestImageError: it cannot be read or is not a well-formed ELF file for Linux on x86-64.
    """
    try:
        with _BoundedReader(io.FileIO(path)) as file:
            return _parse(ELFFile(file))
    except OSError as error:
        raise GuestImageError(f"{path}: {error.strerror}") from error
    except Exception as error:  # whatever hostile bytes lead the parser to
        raise GuestImageError(f"{path} is not a usable x86-64 ELF file: {error}") from error


def _parse(elf: ELFFile) -> DynamicSection:
    if (elf.elfclass, elf.little_endian, elf["e_machine"]) != (64, True, "EM_X86_64"):
        raise ELFError(f"it is for {elf.get_machine_arch()}, {elf.elfclass} bit")
    if elf["e_type"] not in ("ET_EXEC", "ET_DYN"):
        raise ELFError(f"its type is {elf['e_type']}")
    interpreter = None
    values: dict[str, list[str]] = {"DT_NEEDED": [], "DT_RPATH": [], "DT_RUNPATH": []}
    for segment in itertools.islice(elf.iter_segments(), _TAGS_MAXIMUM):
        if isinstance(segment, InterpSegment):
            interpreter = segment.get_interp_name()
        elif isinstance(segment, DynamicSegment):
            _collect(segment, values)
    return DynamicSection(
        interpreter,
        tuple(values["DT_NEEDED"]),
        tuple(_split(values["DT_RPATH"])),
        tuple(_split(values["DT_RUNPATH"])),
    )


def _collect(segment: DynamicSegment, values: dict[str, list[str]]) -> None:
    attributes = {"DT_NEEDED": "needed", "DT_RPATH": "rpath", "DT_RUNPATH": "runpath"}
    for tag in itertools.islice(segment.iter_tags(), _TAGS_MAXIMUM):
        kind = tag.entry.d_tag
        if kind in attributes:
            values[kind].append(getattr(tag, attributes[kind]))


def _split(paths: Iterable[str]) -> Iterator[str]:
    for path in paths:
        yield from filter(None, path.split(":"))


def find_libraries(
    files: Iterable[Path], *, roots: Iterable[Path], extra: Iterable[str] = ()
) -> Libraries:
    """All shared libraries that `files` need, and those that these need in turn.

    Args:
        files: ELF programs and libraries; what is neither needs nothing.
        roots: directories below which DT_RPATH, DT_RUNPATH and LD_LIBRARY_PATH are followed.
        extra: names to find if they exist, for what is loaded with dlopen.
    """
    search = _Search(tuple(root.resolve() for root in roots))
    for name in extra:
        search.optional(name)
    for path in files:
        with contextlib.suppress(GuestImageError):
            search.scan(path, read_dynamic(path), ())
    search.finish()
    return search.result


class _Search:
    """Breadth first, as the loader does it: the first library of a name serves all who ask."""

    def __init__(self, roots: tuple[Path, ...]) -> None:
        self.result = Libraries()
        self._roots = roots
        self._loaders: set[str] = set()
        self._queue: deque[tuple[str, Path, tuple[str, ...], tuple[str, ...]]] = deque()

    def scan(self, path: Path, dynamic: DynamicSection, inherited: tuple[str, ...]) -> None:
        """Queue what one file needs, with the directories its wishes add to the search."""
        if dynamic.interpreter:
            self._loaders.add(Path(dynamic.interpreter).name)
        own = () if dynamic.runpath else self._trusted(dynamic.rpath, path) + inherited
        environment = _split([os.environ.get("LD_LIBRARY_PATH", "")])
        last = self._trusted(environment, path) + self._trusted(dynamic.runpath, path)
        for name in dynamic.needed:
            self._queue.append((name, path, own, last))

    def optional(self, name: str) -> None:
        self._queue.append((name, Path(), (), ()))

    def finish(self) -> None:
        while self._queue:
            name, asker, rpath, last = self._queue.popleft()
            if name not in self.result.found and name not in self._loaders:
                self._find(name, asker, rpath, last)

    def _find(self, name: str, asker: Path, rpath: tuple[str, ...], last: tuple[str, ...]) -> None:
        for directory in (*rpath, *last, *system_directories()) if "/" not in name else ():
            path = Path(directory, name)
            if not path.is_file():
                continue
            try:
                dynamic = read_dynamic(path)
            except GuestImageError:  # a library of another architecture: the loader looks on, too
                continue
            self.result.found[name] = path
            self.scan(path, dynamic, rpath)
            return
        if asker.name:
            self.result.missing.setdefault(name, asker)

    def _trusted(self, entries: Iterable[str], origin: Path) -> tuple[str, ...]:
        """The entries with $ORIGIN replaced, without those that lead out of the trusted roots."""
        here = str(origin.resolve().parent)
        paths = (entry.replace("${ORIGIN}", here).replace("$ORIGIN", here) for entry in entries)
        return tuple(path for path in paths if self._is_inside(Path(path)))

    def _is_inside(self, path: Path) -> bool:
        resolved = path.resolve()
        return path.is_absolute() and any(resolved.is_relative_to(root) for root in self._roots)


@functools.cache
def system_directories() -> tuple[str, ...]:
    """The directories ld.so.cache(8) is made from, then those built into the loader."""
    defaults = ("/lib64", "/usr/lib64", "/lib", "/usr/lib")
    return tuple(dict.fromkeys((*_configured(Path("/etc/ld.so.conf")), *defaults)))


def _configured(configuration: Path) -> Iterator[str]:
    """The directories an ld.so.conf names, `include` lines followed, see ldconfig(8)."""
    try:
        lines = configuration.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        words = line.partition("#")[0].split()
        if words[:1] == ["include"]:
            for pattern in words[1:]:
                for path in sorted(Path("/").glob(str(Path("/etc", pattern))[1:])):
                    yield from _configured(path)
        elif words and words[0].startswith("/"):
            yield words[0]
