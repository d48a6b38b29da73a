"""A state at one moment: restores it, here or in another sandbox, and marks where to roll back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic

from typing_extensions import TypeVar

from hyperlight_core.machine import Machine, MachineSnapshot
from hyperlight_core.snapshot_files import open_snapshot

if TYPE_CHECKING:
    from hyperlight_core.states import State

__all__ = ["Mark", "StateSnapshot"]

_S = TypeVar("_S", bound="State")


@dataclass(frozen=True, eq=False)
class StateSnapshot(Generic[_S]):
    """A state at one moment, with its past; restores this sandbox or another of the same kind.

    Attributes:
        state: its class.
        machine: guest and plugins.
        past: the states it came from, the oldest first, each as it was left.
        attributes: what its author had set on the object.
        entry: what a state with Use.RESET goes back to after each call.
    """

    state: type[_S]
    machine: MachineSnapshot
    past: tuple[StateSnapshot[Any], ...]
    attributes: Mapping[str, Any]
    entry: MachineSnapshot | None

    def save(
        self, path: str | os.PathLike[str], *, parent: str | os.PathLike[str] | None = None
    ) -> None:
        """Write the guest as it is here to a directory, for `State.start_from` in any process.

        Neither its past nor what its author has set on the object is kept, and no open handle.

        Args:
            path: of the directory, which is not there yet.
            parent: a snapshot in the same folder; only what differs from it is stored.

        Raises:
            ConfigurationError: `parent` is of another kind, damaged or elsewhere.
            OSError: the directory is there already or cannot be written.
        """
        self.machine.save(Path(path), parent=None if parent is None else Path(parent))

    @classmethod
    def load(
        cls, state: type[_S], path: str | os.PathLike[str], *, verify: bool = True
    ) -> StateSnapshot[_S]:
        """The snapshot in a directory, which is untrusted, as one of `state`.

        Args:
            state: what the guest is in.
            path: of the directory. Its memory is mapped: it must not change while it is in use.
            verify: whether to compare the checksums, which reads all of its memory.

        Raises:
            ConfigurationError: it is damaged, or not for this machine; the message says how.
            OSError: it cannot be read.
        """
        machine = MachineSnapshot.of(open_snapshot(Path(path), verify=verify))
        return StateSnapshot(state, machine, (), {}, None)


@dataclass(frozen=True, eq=False)
class Mark(Generic[_S]):
    """A place in the past of one sandbox, to roll back to from any later state.

    Attributes:
        state: its class.
        past: the states before it, the oldest first.
        machine: the sandbox's.
    """

    state: type[_S]
    past: tuple[StateSnapshot[Any], ...]
    machine: Machine
