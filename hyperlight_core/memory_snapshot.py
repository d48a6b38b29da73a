"""A guest's memory and registers at one moment, as the C helper keeps them."""

from __future__ import annotations

from typing import Any

from hyperlight_core._vmm import ffi, lib
from hyperlight_core.helper import check, native_config
from hyperlight_core.virtual_machine import VmConfig

__all__ = ["MemorySnapshot"]


class MemorySnapshot:
    """Memory and ring-3 registers of a guest at one moment; immutable, shared by any threads.

    Attributes:
        config: of the VM it was taken from.
    """

    def __init__(self, config: VmConfig, handle: Any) -> None:
        self.config = config
        self._handle = ffi.gc(handle, lib.hl_snapshot_unref)

    @property
    def size(self) -> int:
        """Bytes of memory it holds itself, beyond the snapshot it shares pages with."""
        return lib.hl_snapshot_size(self._handle)

    def save(self, memory_fd: int, state_fd: int, parent: MemorySnapshot | None = None) -> None:
        """Write what differs from `parent`, or all of it, into two empty files.

        Args:
            memory_fd: gets the memory, sparse.
            state_fd: gets the vCPU's state, and which pages the other file holds.
            parent: a snapshot with an equal `config`.

        Raises:
            ConfigurationError: `parent` is of another configuration.
            HypervisorError: writing fails.
        """
        check(lib.hl_snapshot_save(self._handle, _handle_of(parent), memory_fd, state_fd))

    @classmethod
    def load(
        cls, config: VmConfig, memory_fd: int, state: bytes, parent: MemorySnapshot | None = None
    ) -> MemorySnapshot:
        """A snapshot over a file, which is mapped and must not change while this object lives.

        Raises:
            ConfigurationError: the content is not what `save` writes for such a VM.
        """
        out = ffi.new("hl_snapshot **")
        arguments = (native_config(config), _handle_of(parent), memory_fd, state, len(state))
        check(lib.hl_snapshot_load(*arguments, out))
        return cls(config, out[0])

    def prefetch(self, ranges: bytes) -> None:
        """Have VMs get some pages as their own as soon as they begin here; before it is used.

        Args:
            ranges: what `Vm.save_written` wrote.

        Raises:
            ConfigurationError: it is malformed, or names more pages than it is worth.
        """
        check(lib.hl_snapshot_prefetch(self._handle, ranges, len(ranges)))


def _handle_of(snapshot: MemorySnapshot | None) -> Any:
    return ffi.NULL if snapshot is None else snapshot._handle  # noqa: SLF001
