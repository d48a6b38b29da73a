"""A machine at one moment, guest and plugins, and which machines may go back to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hyperlight_core.errors import ConfigurationError
from hyperlight_core.hookspecs import SnapshotToken
from hyperlight_core.machine_spec import MachineSpec
from hyperlight_core.memory_snapshot import MemorySnapshot
from hyperlight_core.snapshot_files import SavedSnapshot, open_snapshot, write_snapshot

__all__ = ["MachineSnapshot"]


@dataclass(frozen=True, eq=False)
class MachineSnapshot:
    """Guest memory, registers and plugin handles at one moment; any number of machines may use it.

    Attributes:
        guest: kind of the guest it was taken from.
        memory: the guest's part.
        token: the plugins' part.
        plugins: the configurations of the plugins, whose handles `token` may hold; None before any
            and for a snapshot from disk.
        saved: the snapshot on disk that it is.
    """

    guest: str
    memory: MemorySnapshot
    token: SnapshotToken
    plugins: Mapping[str, object] | None = None
    saved: SavedSnapshot | None = None

    def save(self, path: Path, *, parent: Path | None = None) -> None:
        """Write it to disk; see `StateSnapshot.save`."""
        write_snapshot(
            self.memory,
            path,
            guest=self.guest,
            plugins=tuple(sorted(self.plugins or ())),
            handles=self.token.on_disk,
            parent=None if parent is None else open_snapshot(parent, verify=False),
        )

    @classmethod
    def of(cls, saved: SavedSnapshot) -> MachineSnapshot:
        """A snapshot from disk, without the handles that were open."""
        manifest = saved.manifest
        token = SnapshotToken(on_disk=dict(manifest.handles))
        return cls(manifest.guest, saved.memory, token, saved=saved)

    def check_fits(self, spec: MachineSpec) -> None:
        """Raise ConfigurationError, naming the difference, unless such a machine may go here."""
        if self.guest != spec.guest.kind:
            raise ConfigurationError(
                f"the snapshot is of another guest ({self.guest[:12]}) than this sandbox's"
                f" ({spec.guest.kind[:12]}, {spec.guest.name})"
            )
        if self.memory.config is not spec.config:
            self._check_config(spec)
        if self.plugins is not spec.plugins:
            self._check_plugins(spec.plugins)
        for name in self.saved.manifest.plugins if self.saved else ():
            if name not in spec.plugins:
                raise ConfigurationError(f"the snapshot needs the plugin {name!r}")

    def _check_config(self, spec: MachineSpec) -> None:
        for name, ours in vars(spec.config).items():
            other = getattr(self.memory.config, name)
            if other != ours:
                raise ConfigurationError(
                    f"the snapshot was taken with {name}={other}, this sandbox has {name}={ours}"
                )

    def _check_plugins(self, ours: Mapping[str, object]) -> None:
        """Handles that another configuration granted must not come with a snapshot."""
        theirs = self.plugins
        if theirs is None:
            return
        for name in {**theirs, **ours}:
            if name not in theirs or name not in ours:
                where = "this sandbox" if name in ours else "the snapshot's"
                raise ConfigurationError(f"only {where} has the plugin {name!r}")
            if theirs[name] != ours[name]:
                raise ConfigurationError(
                    f"the snapshot was taken with another configuration of the plugin {name!r}"
                )
