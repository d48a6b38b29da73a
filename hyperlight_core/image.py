"""Writes image files: the page-aligned, stored ZIP archives that guests find their files in.

An image is named by a key over what goes into it and lies in the user's cache directory, so it is
packed once. The format is in docs/architecture.md.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import platformdirs

from hyperlight_core.errors import GuestImageError
from hyperlight_core.guests import Progress

__all__ = [
    "ImageFile",
    "ImageWriter",
    "PackedProgram",
    "cached_image",
    "content_key",
    "image_directory",
    "pack_program",
    "program_files",
]

_PAGE = 4096
#: Header id of the extra field that Android's zipalign pads with: u16 alignment, then zeros.
_PADDING_ID = b"\x35\xd9"
#: zipfile adds a field of its own to larger members, which would shift their data.
_MEMBER_MAXIMUM = 1900 << 20
#: Raised when the same files would give another image.
_FORMAT = "1"
#: What glibc loads by name at run time: thread cancellation, name service on older versions.
_LOADED_AT_RUN_TIME = ("libgcc_s.so.1", "libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2")


@dataclass(frozen=True)
class ImageFile:
    """One file that is to go into an image.

    Attributes:
        name: its path in the image, without a leading slash.
        source: the file to copy (symbolic links are followed), its bytes, or for a symbolic link
            (`mode` has S_IFLNK) the target.
        mode: Unix mode; without a file type it is a regular file. None: readable for all, and
            executable if the source is.
    """

    name: str
    source: Path | bytes
    mode: int | None = None


class ImageWriter:
    """Writes the members of one image, each once, data on page boundaries."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b")
        self._zip = zipfile.ZipFile(self._file, "w", zipfile.ZIP_STORED)
        self._names: set[str] = set()

    def close(self) -> None:
        """Write the table of members and close the file."""
        with self._file:
            self._zip.close()

    def add(self, file: ImageFile) -> None:
        """Write one member.

        Raises:
            GuestImageError: the name is not one an image can have, or the file is too large.
            OSError: the source cannot be read or the image not be written.
        """
        self._check(file.name)
        info = zipfile.ZipInfo(file.name)
        info.create_system = 3  # Unix, so that the mode counts (APPNOTE.TXT 4.4.2)
        info.external_attr = _mode(file) << 16
        info.extra = self._padding(info)
        if isinstance(file.source, bytes):
            self._zip.writestr(info, file.source)
        else:
            self._copy(info, file.source)
        info.extra = b""  # the central directory, which the guest reads, does without

    def _copy(self, info: zipfile.ZipInfo, source: Path) -> None:
        with source.open("rb") as data:
            info.file_size = os.fstat(data.fileno()).st_size
            if info.file_size > _MEMBER_MAXIMUM:
                raise GuestImageError(f"{source} is too large for an image: over 1900 MiB")
            with self._zip.open(info, "w") as member:
                shutil.copyfileobj(data, member, 1 << 20)

    def _check(self, name: str) -> None:
        parts = name.split("/")
        if "\0" in name or not {"", ".", ".."}.isdisjoint(parts) or name in self._names:
            raise GuestImageError(f"an image cannot have a (second) file named {name!r}")
        try:
            name.encode()
        except UnicodeEncodeError:
            raise GuestImageError(f"the file name {name!r} is not Unicode") from None
        self._names.add(name)

    def _padding(self, info: zipfile.ZipInfo) -> bytes:
        """An extra field that moves the data, which follows it, to the next page boundary."""
        # The local header has 30 bytes before the name (APPNOTE.TXT 4.3.7), the field 6 of its own.
        position = self._file.tell() + 30 + len(info.filename.encode()) + 6
        return (
            _PADDING_ID
            + (2 + -position % _PAGE).to_bytes(2, "little")
            + _PAGE.to_bytes(2, "little")
            + bytes(-position % _PAGE)
        )


def _mode(file: ImageFile) -> int:
    mode = file.mode
    if mode is None:
        source = file.source
        executable = isinstance(source, Path) and source.stat().st_mode & stat.S_IXUSR
        mode = 0o755 if executable else 0o644
    return (stat.S_IFMT(mode) or stat.S_IFREG) | stat.S_IMODE(mode)


def content_key(files: Iterable[ImageFile], *facts: str) -> str:
    """A hash over what goes into an image: names, modes, bytes or sizes and times, and `facts`.

    Raises:
        OSError: a source is not there.
    """
    origins: list[object] = [_FORMAT, facts, _library_cache()]
    for file in files:
        if isinstance(file.source, bytes):
            origins.append((file.name, file.mode, hashlib.sha256(file.source).hexdigest()))
        else:
            source = str(file.source)
            status = os.stat(source)
            origins.append((file.name, file.mode, source, status.st_size, status.st_mtime_ns))
    return hashlib.sha256(json.dumps(origins).encode()).hexdigest()[:32]


def _library_cache() -> list[int]:
    """What changes when a library is installed or upgraded: ldconfig(8) writes this file anew."""
    try:
        status = Path("/etc/ld.so.cache").stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


def image_directory() -> Path:
    """Where images are cached."""
    return platformdirs.user_cache_path("hyperlight") / "images"


def cached_image(
    key: str, write: Callable[[ImageWriter], None], directory: Path | None = None
) -> Path:
    """The image named `key` in the cache; if it is not there, `write` packs it.

    Processes that need the same image at once wait for the one that packs it.

    Args:
        key: from `content_key`.
        write: adds all members.
        directory: instead of the user's cache directory.

    Raises:
        OSError: the directory cannot be written.
    """
    directory = image_directory() if directory is None else directory
    image = directory / f"{key}.zip"
    if not image.exists():
        directory.mkdir(parents=True, exist_ok=True)
        with _locked(directory / "lock"):
            if not image.exists():
                _write_image(image, write)
    return image


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write_image(image: Path, write: Callable[[ImageWriter], None]) -> None:
    for leftover in image.parent.glob("*.partial"):  # of a killed packer: we have the lock
        leftover.unlink()
    descriptor, name = tempfile.mkstemp(".partial", dir=image.parent)
    partial = Path(name)
    try:
        with contextlib.closing(ImageWriter(partial)) as writer:
            write(writer)
        os.fsync(descriptor)
        partial.replace(image)
    except BaseException:
        partial.unlink()
        raise
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class PackedProgram:
    """A program in an image.

    Attributes:
        image: the image file.
        path: the program's path in the guest.
        key: names the content, for caches.
    """

    image: Path
    path: str
    key: str


def pack_program(
    program: Path,
    files: Mapping[str, Path] | None = None,
    *,
    directory: Path | None = None,
    progress: Progress | None = None,
) -> PackedProgram:
    """Pack a Linux program with the shared libraries it needs, and further files.

    Its libraries are taken from the system's directories and from the program's own directory;
    other directories that it names are not looked into, because the program is not trusted.

    Args:
        program: an x86-64 ELF program; it becomes /usr/bin/<its name>.
        files: absolute guest paths and the file or folder that shall be there. Symbolic links in
            a folder stay links.
        directory: instead of the user's cache directory.
        progress: told about every file.

    Raises:
        GuestImageError: not a program for x86-64, or a library is nowhere to be found.
        OSError: a file cannot be read or the cache not be written.
    """
    program = program.resolve()
    name = f"usr/bin/{program.name}"
    members = [ImageFile(name, program, 0o755)]
    for target, source in (files or {}).items():
        members += _tree(str(PurePosixPath(target)).lstrip("/"), source)
    key = content_key(members)

    def write(writer: ImageWriter) -> None:
        everything = [*members, *program_files(program, roots=[program.parent])]
        for done, member in enumerate(everything, 1):
            writer.add(member)
            if progress:
                progress("packing", done, len(everything))

    return PackedProgram(cached_image(key, write, directory), "/" + name, key)


def _tree(name: str, source: Path) -> Iterator[ImageFile]:
    if not source.is_dir():
        yield ImageFile(name, source)
        return
    for folder, folders, files in os.walk(source):
        folders.sort()
        for entry in sorted([*files, *folders]):
            path = Path(folder, entry)
            member = str(PurePosixPath(name) / path.relative_to(source).as_posix())
            if path.is_symlink():
                yield ImageFile(member, os.fsencode(path.readlink()), stat.S_IFLNK | 0o777)
            elif path.is_file():
                yield ImageFile(member, path)


def program_files(
    program: Path, others: Iterable[Path] = (), *, roots: Collection[Path]
) -> Iterator[ImageFile]:
    """The dynamic loader of `program` and the libraries that it and `others` need, as image files.

    The loader keeps its path; the libraries go where libc was found, a directory in which the
    loader looks without a cache file.

    Args:
        program: the ELF file that is started.
        others: ELF files it may load; what is missing for them is left out.
        roots: directories below which search paths named in the files are followed.

    Raises:
        GuestImageError: `program` is not a usable program, or a library it needs is missing.
    """
    from hyperlight_core.libraries import find_libraries, read_dynamic  # noqa: PLC0415 - slow

    interpreter = read_dynamic(program).interpreter
    if interpreter is None:
        return
    yield ImageFile(interpreter.lstrip("/"), _loader(interpreter, roots), 0o755)
    for name, asker in find_libraries([program], roots=roots).missing.items():
        raise GuestImageError(f"{asker} needs the library {name}, which is nowhere to be found")
    found = find_libraries([program, *others], roots=roots, extra=_LOADED_AT_RUN_TIME).found
    home = str(found.get("libc.so.6", Path("/lib/libc")).parent).lstrip("/")
    for name, path in sorted(found.items()):
        yield ImageFile(f"{home}/{name}", path, 0o755)


def _loader(interpreter: str, roots: Iterable[Path]) -> Path:
    """The loader's file, if it is an ELF file in a system directory or below a trusted root."""
    from hyperlight_core.libraries import read_dynamic, system_directories  # noqa: PLC0415 - slow

    path = Path(interpreter)
    trusted = any(path.resolve().is_relative_to(root.resolve()) for root in roots)
    if not trusted and str(path.parent) not in system_directories():
        raise GuestImageError(f"the program's loader {interpreter} is not in a system directory")
    read_dynamic(path)
    return path
