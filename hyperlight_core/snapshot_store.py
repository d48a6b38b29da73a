"""Booted guests in the user's cache, for other sandboxes and other processes to start from."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from pathlib import Path

import platformdirs

from hyperlight_core._vmm import lib
from hyperlight_core.errors import ConfigurationError, HypervisorError
from hyperlight_core.machine_spec import MachineSpec
from hyperlight_core.memory_snapshot import MemorySnapshot
from hyperlight_core.snapshot_files import (
    FORMAT,
    SavedSnapshot,
    open_snapshot,
    processor,
    write_snapshot,
)

__all__ = ["cache_directory", "find", "keep"]

_log = logging.getLogger(__name__)

#: Opened in this process, with what the files were then.
_opened: dict[Path, tuple[object, SavedSnapshot]] = {}


def cache_directory() -> Path:
    """Where images and snapshots are kept; made if it is not there, for this user alone."""
    path = Path(platformdirs.user_cache_dir("hyperlight"))
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def _place(spec: MachineSpec) -> Path:
    """Another one for everything that a booted guest depends on."""
    here = FORMAT, lib.HL_ABI_VERSION, spec.guest.kind, spec.config, processor()
    return cache_directory() / "snapshots" / hashlib.sha256(repr(here).encode()).hexdigest()[:32]


def find(spec: MachineSpec) -> SavedSnapshot | None:
    """The kept snapshot of this guest in this configuration, or None."""
    place = _place(spec)
    if not place.is_dir():
        return None
    try:
        return _open(place, spec)
    except (ConfigurationError, HypervisorError, OSError) as error:
        _log.warning("a kept snapshot is of no use and will be made again: %s", error)
        shutil.rmtree(place, ignore_errors=True)
        return None


def _open(place: Path, spec: MachineSpec) -> SavedSnapshot:
    files = _identity(place)
    known = _opened.get(place)
    if known is not None and known[0] == files:
        return known[1]
    saved = open_snapshot(place, verify=False)
    manifest = saved.manifest
    if (manifest.guest, manifest.config) != (spec.guest.kind, spec.config) or manifest.plugins:
        raise ConfigurationError("it is of another guest")
    _opened[place] = files, saved
    return saved


def _identity(place: Path) -> object:
    """Differs when a file was put in place of another one or changed."""
    with os.scandir(place) as entries:
        found = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
    return sorted((name, tuple(status)[:7], status.st_ctime_ns) for name, status in found)


def keep(spec: MachineSpec, snapshot: MemorySnapshot) -> None:
    """Keep the snapshot, if it can be written; a failure is logged and nothing more."""
    place = _place(spec)
    try:
        write_snapshot(snapshot, place, guest=spec.guest.kind)
    except (HypervisorError, OSError) as error:
        # Another process may have been first; its snapshot is as good.
        if not place.is_dir():
            _log.warning("the booted guest could not be kept: %s", error)
