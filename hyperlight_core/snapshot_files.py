"""A snapshot as a directory: written whole or not at all, and read as the untrusted input it is.

`manifest.json` says what it belongs to; `memory` is the guest's RAM, sparse, which is mapped and
not read; `state` holds the ring-3 registers and which pages `memory` has. `first-writes`, if it is
there, lists the pages that the first run wrote to: a hint and no part of the snapshot.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import mmap
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO, NamedTuple

from pydantic import BaseModel, Field, JsonValue, ValidationError

from hyperlight_core._vmm import lib
from hyperlight_core.errors import ConfigurationError
from hyperlight_core.functions import Model
from hyperlight_core.memory_snapshot import MemorySnapshot
from hyperlight_core.vm import Vm, VmConfig
from hyperlight_core.wire import describe

__all__ = ["FORMAT", "Manifest", "SavedSnapshot", "open_snapshot", "processor", "write_snapshot"]

FORMAT = 2
_MANIFEST_LIMIT = 2**20
_STATE_LIMIT = lib.HL_VCPU_STATE_SIZE + 2**24
_FIRST_WRITES_LIMIT = 2**16
#: Deltas of deltas; every one is looked through at a restore.
_ANCESTORS = 16
_HINT = "first-writes"

_Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Processor(NamedTuple):
    """Maker and features, as in proc_cpuinfo(5)."""

    maker: str
    features: str


@functools.lru_cache(maxsize=1)
def processor() -> Processor:
    """The processor here."""
    text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split("\n\n")[0]
    found = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    values = {name.strip(): value.strip() for name, value in found.items()}
    return Processor(values.get("vendor_id", ""), values.get("flags", ""))


class Parent(Model):
    """The snapshot a delta lies over, in the same folder.

    Attributes:
        name: of its directory.
        digest: SHA-256 of its manifest.
    """

    name: str = Field(pattern=r"^[^/\x00]*[^/.\x00][^/\x00]*$", max_length=255)
    digest: _Digest


class Manifest(Model):
    """What a snapshot is and what it needs.

    Attributes:
        format: of the directory.
        abi_version: HL_ABI_VERSION.
        guest: kind of the guest, a hash.
        maker, features: of the processor; a booted guest has adapted to it.
        memory, in_size, out_size, console_size: those of VmConfig, in bytes.
        plugins: names of those it was taken with.
        handles: what the plugins keep on disk, by name; see SnapshotToken.
        parent: for a delta.
        memory_digest, state_digest: SHA-256; of memory, with the numbers of the pages.
    """

    format: int = FORMAT
    abi_version: int
    guest: str
    maker: str
    features: str
    memory: int
    in_size: int
    out_size: int
    console_size: int
    plugins: tuple[str, ...] = ()
    handles: dict[str, JsonValue] = Field(default_factory=dict)
    parent: Parent | None = None
    memory_digest: _Digest
    state_digest: _Digest

    @property
    def config(self) -> VmConfig:
        """Of VMs that it fits."""
        return VmConfig(self.memory, self.in_size, self.out_size, self.console_size)

    def check_host(self) -> None:
        """Raise ConfigurationError, with the reason, if it does not run here."""
        if self.abi_version != lib.HL_ABI_VERSION:
            raise ConfigurationError(
                f"it has ABI version {self.abi_version}, this is {lib.HL_ABI_VERSION}"
            )
        here = processor()
        if self.maker != here.maker:
            raise ConfigurationError(f"it needs a processor of {self.maker}")
        if missing := set(self.features.split()) - set(here.features.split()):
            raise ConfigurationError(f"this processor lacks {' '.join(sorted(missing))}")


class _Version(BaseModel):
    """As much of a manifest as every format has."""

    format: int


@dataclass(frozen=True, eq=False)
class SavedSnapshot:
    """A snapshot that was opened.

    Attributes:
        path: its directory.
        manifest: what it belongs to.
        memory: the guest's memory and registers.
        complete: whether the first writes of a run from here are known.
    """

    path: Path
    manifest: Manifest
    memory: MemorySnapshot
    complete: bool

    def note_first_writes(self, vm: Vm) -> None:
        """Keep which pages `vm` has written since it began here, for those that begin here later.

        Raises:
            OSError: the directory cannot be written.
            HypervisorError: the same.
        """
        with tempfile.NamedTemporaryFile(dir=self.path, prefix=".new-", delete=False) as file:
            vm.save_written(file.fileno())
        Path(file.name).rename(self.path / _HINT)


# ---- writing -----------------------------------------------------------------------------------


def write_snapshot(
    snapshot: MemorySnapshot,
    path: Path,
    *,
    guest: str,
    plugins: tuple[str, ...] = (),
    handles: Mapping[str, Any] | None = None,
    parent: SavedSnapshot | None = None,
) -> None:
    """Write a snapshot directory, all of it or nothing.

    Args:
        snapshot: memory and registers.
        path: of the directory, which is not there yet.
        guest: kind of the guest.
        plugins: names of the plugins it needs.
        handles: what they keep on disk.
        parent: an opened snapshot in the same folder, to store only what differs from it.

    Raises:
        ConfigurationError: `parent` is of another kind or elsewhere.
        OSError: the directory is there already or cannot be written.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    half_done = Path(tempfile.mkdtemp(dir=path.parent, prefix=".new-"))
    try:
        memory_digest, state_digest = _write_memory(snapshot, half_done, parent)
        here = processor()
        manifest = Manifest(
            abi_version=lib.HL_ABI_VERSION,
            guest=guest,
            plugins=plugins,
            handles=dict(handles or {}),
            parent=None if parent is None else _reference(parent, path, guest),
            memory_digest=memory_digest,
            state_digest=state_digest,
            maker=here.maker,
            features=here.features,
            **vars(snapshot.config),
        )
        with _create(half_done / "manifest.json") as file:
            file.write(manifest.model_dump_json().encode())
        _synchronise(half_done)
        half_done.rename(path)
        _synchronise(path.parent)
    finally:
        shutil.rmtree(half_done, ignore_errors=True)


def _write_memory(
    snapshot: MemorySnapshot, place: Path, parent: SavedSnapshot | None
) -> tuple[str, str]:
    with _create(place / "memory") as memory, _create(place / "state") as state:
        snapshot.save(memory.fileno(), state.fileno(), None if parent is None else parent.memory)
        digest = _digest_of(memory.fileno())
        os.fsync(memory.fileno())
        # Read again, it comes into the page cache in huge pages, and guests fault once for 2 MiB.
        os.posix_fadvise(memory.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    content = (place / "state").read_bytes()
    return digest, hashlib.sha256(content).hexdigest()


def _reference(parent: SavedSnapshot, path: Path, guest: str) -> Parent:
    if parent.path.parent.resolve() != path.parent.resolve():
        raise ConfigurationError("a delta is written into the folder of its parent")
    if parent.manifest.guest != guest:
        raise ConfigurationError("the parent is of another guest")
    manifest = (parent.path / "manifest.json").read_bytes()
    return Parent(name=parent.path.name, digest=hashlib.sha256(manifest).hexdigest())


def _create(path: Path) -> BinaryIO:
    """A new file for this user alone, whatever the umask."""
    return open(path, "xb+", opener=lambda name, flags: os.open(name, flags, 0o600))


def _synchronise(directory: Path) -> None:
    """Have names that were given in a directory survive a crash of the machine, fsync(2)."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---- reading -----------------------------------------------------------------------------------


def open_snapshot(path: Path, *, verify: bool = True) -> SavedSnapshot:
    """The snapshot in a directory.

    Args:
        path: of the directory.
        verify: whether to compare the checksums, which reads all of its memory.

    Raises:
        ConfigurationError: it is damaged, or not for this machine; the message says how.
        OSError: it cannot be read.
    """
    return _open_snapshot(path, None, _ANCESTORS, verify=verify)


def _open_snapshot(path: Path, digest: str | None, left: int, *, verify: bool) -> SavedSnapshot:
    try:
        with _directory(path) as directory:
            manifest = _read_manifest(directory, digest)
            manifest.check_host()
            parent = _open_parent(path, manifest.parent, left, verify=verify)
            return _load(path, directory, manifest, parent, verify=verify)
    except ConfigurationError as error:
        raise ConfigurationError(f"the snapshot {path.name}: {error}") from error


def _open_parent(
    path: Path, parent: Parent | None, left: int, *, verify: bool
) -> MemorySnapshot | None:
    if parent is None:
        return None
    if not left:
        raise ConfigurationError(f"it has more than {_ANCESTORS} ancestors")
    place = path.parent / parent.name
    return _open_snapshot(place, parent.digest, left - 1, verify=verify).memory


def _read_manifest(directory: int, digest: str | None) -> Manifest:
    text = _read(directory, "manifest.json", _MANIFEST_LIMIT)
    if digest is not None and hashlib.sha256(text).hexdigest() != digest:
        raise ConfigurationError("it is not the parent that the delta was taken from")
    try:
        version = _Version.model_validate_json(text).format
        if version != FORMAT:
            raise ConfigurationError(f"it has format {version}, this reads {FORMAT}")
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        raise ConfigurationError(f"its manifest is malformed: {describe(error)}") from error


def _load(
    path: Path, directory: int, manifest: Manifest, parent: MemorySnapshot | None, *, verify: bool
) -> SavedSnapshot:
    state = _read(directory, "state", _STATE_LIMIT)
    with _regular(directory, "memory") as file:
        memory = MemorySnapshot.load(manifest.config, file, state, parent)
        if verify:
            if hashlib.sha256(state).hexdigest() != manifest.state_digest:
                raise ConfigurationError("the file state was altered")
            if _digest_of(file) != manifest.memory_digest:
                raise ConfigurationError("the file memory was altered")
    try:
        memory.prefetch(_read(directory, _HINT, _FIRST_WRITES_LIMIT))
    except FileNotFoundError:
        return SavedSnapshot(path, manifest, memory, complete=False)
    except ConfigurationError:
        pass  # a hint that is of no use
    return SavedSnapshot(path, manifest, memory, complete=True)


def _digest_of(file: int) -> str:
    """SHA-256 of every page that is not all zeros, with its number in front."""
    digest, zeros, size = hashlib.sha256(), bytes(mmap.PAGESIZE), os.fstat(file).st_size
    with mmap.mmap(file, size, prot=mmap.PROT_READ) as memory:
        memory.madvise(mmap.MADV_HUGEPAGE)
        for page in _pages_with_data(file, size):
            content = memory[page : page + mmap.PAGESIZE]
            if content != zeros:
                digest.update(page.to_bytes(8, "little") + content)
    return digest.hexdigest()


def _pages_with_data(file: int, size: int) -> Iterator[int]:
    """Where the pages begin that are no holes, lseek(2)."""
    end = 0
    while end < size:
        try:
            start = os.lseek(file, end, os.SEEK_DATA)
        except OSError:  # ENXIO: only holes follow
            return
        end = os.lseek(file, start, os.SEEK_HOLE)
        yield from range(start - start % mmap.PAGESIZE, end, mmap.PAGESIZE)


# ---- files that somebody else may have put there -----------------------------------------------


@contextmanager
def _directory(path: Path) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except NotADirectoryError:
        raise ConfigurationError("it is not a directory") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _regular(directory: int, name: str) -> Iterator[int]:
    """A regular file, no symlink, that is this user's or root's and nobody else may write."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(name, flags, dir_fd=directory)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a symbolic link, a socket
            raise ConfigurationError(f"{name} is not a regular file") from None
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigurationError(f"{name} is not a regular file")
        if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
            raise ConfigurationError(f"others than its owner may write to {name}")
        yield descriptor
    finally:
        os.close(descriptor)


def _read(directory: int, name: str, limit: int) -> bytes:
    with _regular(directory, name) as descriptor, open(descriptor, "rb", closefd=False) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ConfigurationError(f"{name} is larger than {limit} bytes")
    return content
