"""Snapshots on disk: a booted guest is kept in the user's cache, for other processes to start from.

A kept snapshot is a directory with three files: `manifest.json` says what it belongs to, `memory`
is the guest's RAM, sparse, which is mapped and not read, and `vcpu` the ring-3 registers.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

import platformdirs
from pydantic import ValidationError

from hyperlight_core._vmm import lib
from hyperlight_core.errors import ConfigurationError, HypervisorError
from hyperlight_core.functions import Model
from hyperlight_core.vm import MemorySnapshot, VmConfig

if TYPE_CHECKING:
    from hyperlight_core.machine import MachineSpec

__all__ = ["Manifest", "cache_directory", "find", "keep", "load", "save"]

_log = logging.getLogger(__name__)
_VCPU_LIMIT = 65536
_MANIFEST_LIMIT = 65536


class Manifest(Model):
    """What a kept snapshot belongs to; it is used only where all of this is the same.

    Attributes:
        format: of this directory.
        abi_version: HL_ABI_VERSION.
        guest: kind of the guest.
        processor: hash of what the processor can do; a booted guest has adapted to that.
        memory, in_size, out_size, console_size: those of VmConfig, in bytes.
    """

    format: Literal[1] = 1
    abi_version: int
    guest: str
    processor: str
    memory: int
    in_size: int
    out_size: int
    console_size: int


def cache_directory() -> Path:
    """Where images and snapshots are kept; made if it is not there, for this user alone."""
    path = Path(platformdirs.user_cache_dir("hyperlight"))
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def _processor() -> str:
    """A hash of the processor's model and features, from proc_cpuinfo(5)."""
    lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split("\n\n")[0]
    kept = [line for line in lines.splitlines() if line.startswith(("flags", "model name"))]
    return hashlib.sha256("\n".join(kept).encode()).hexdigest()


def _manifest(guest: str, config: VmConfig) -> Manifest:
    return Manifest(
        abi_version=lib.HL_ABI_VERSION, guest=guest, processor=_processor(), **vars(config)
    )


def _place(manifest: Manifest) -> Path:
    name = hashlib.sha256(manifest.model_dump_json().encode()).hexdigest()[:32]
    return cache_directory() / "snapshots" / name


def find(spec: MachineSpec) -> MemorySnapshot | None:
    """The kept snapshot of this guest in this configuration, or None."""
    manifest = _manifest(spec.guest.kind, spec.config)
    place = _place(manifest)
    if not place.is_dir():
        return None
    try:
        return load(place, manifest)
    except (ConfigurationError, HypervisorError, OSError) as error:
        _log.warning("a kept snapshot is of no use and will be made again: %s", error)
        shutil.rmtree(place, ignore_errors=True)
        return None


def keep(spec: MachineSpec, snapshot: MemorySnapshot) -> None:
    """Keep the snapshot, if it can be written; a failure is logged and nothing more."""
    manifest = _manifest(spec.guest.kind, spec.config)
    try:
        save(snapshot, _place(manifest), manifest)
    except (HypervisorError, OSError) as error:
        _log.warning("the booted guest could not be kept: %s", error)


def save(snapshot: MemorySnapshot, place: Path, manifest: Manifest) -> None:
    """Write a snapshot directory, all of it or nothing.

    Raises:
        OSError: the directory cannot be written.
    """
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    half_done = Path(tempfile.mkdtemp(dir=place.parent, prefix=".new-"))
    try:
        with _create(half_done / "memory") as memory, _create(half_done / "vcpu") as vcpu:
            vcpu.write(snapshot.save(memory.fileno()))
        with _create(half_done / "manifest.json") as file:
            file.write(manifest.model_dump_json().encode())
        try:
            half_done.rename(place)
        except OSError:
            # Another process was first; its snapshot is as good.
            if not place.is_dir():
                raise
    finally:
        shutil.rmtree(half_done, ignore_errors=True)


def load(place: Path, expected: Manifest) -> MemorySnapshot:
    """The snapshot in a directory; its files are untrusted.

    Raises:
        ConfigurationError: it is not what `expected` says, or damaged; the message says how.
        OSError: it cannot be read.
    """
    try:
        manifest = Manifest.model_validate_json(_read(place / "manifest.json", _MANIFEST_LIMIT))
    except ValidationError as error:
        raise ConfigurationError(
            f"its manifest is malformed: {error.error_count()} errors"
        ) from error
    for name in Manifest.model_fields:
        if getattr(manifest, name) != getattr(expected, name):
            raise ConfigurationError(f"it was taken with another {name}")
    config = VmConfig(manifest.memory, manifest.in_size, manifest.out_size, manifest.console_size)
    descriptor = _open(place / "memory")
    try:
        return MemorySnapshot.load(config, descriptor, _read(place / "vcpu", _VCPU_LIMIT))
    finally:
        os.close(descriptor)


def _create(path: Path) -> BinaryIO:
    """A new file for this user alone, whatever the umask."""
    return open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600))


def _open(path: Path) -> int:
    """A regular file of this user's, no symlink, that nobody else may write."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    status = os.fstat(descriptor)
    if (
        stat.S_ISREG(status.st_mode)
        and status.st_uid == os.geteuid()
        and not status.st_mode & 0o022
    ):
        return descriptor
    os.close(descriptor)
    raise ConfigurationError(f"{path.name} is not a regular file that only its owner may write")


def _read(path: Path, limit: int) -> bytes:
    descriptor = _open(path)
    try:
        content = os.read(descriptor, limit + 1)
    finally:
        os.close(descriptor)
    if len(content) > limit:
        raise ConfigurationError(f"{path.name} is larger than {limit} bytes")
    return content
