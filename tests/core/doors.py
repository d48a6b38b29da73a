"""A chain of five states over a real guest, and a plugin whose handles follow them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, NamedTuple

from hyperlight_core.functions import HostFunction, Model
from hyperlight_core.guests import GuestImage
from hyperlight_core.hookspecs import SnapshotToken, hookimpl
from hyperlight_core.machine import CallContext, MachineSpec
from hyperlight_core.states import (
    DevolvableSandbox,
    EvolvableSandbox,
    Nothing,
    State,
    Transition,
)
from hyperlight_core.vm import CONTROL_ADDRESS, Registers, VmConfig

CONFIG = VmConfig(2 * 2**20, 65536, 65536, 4096)
#: Behind the guest's program and before its stack.
MIDDLE, ROOM = 0x280000, 0x100000


class Empty(Model):
    """No parameters, no result."""


class Doors:
    """A plugin with four functions, of which each call opens one more handle."""

    namespaces = ("a", "b", "c", "d")

    def __init__(self) -> None:
        self.open: frozenset[int] = frozenset()
        self.made = 0

    @hookimpl
    def host_functions(self) -> list[HostFunction]:
        names = [f"{namespace}.open" for namespace in self.namespaces]
        return [HostFunction(name, self.door, Empty, Empty) for name in names]

    def door(self, request: Empty) -> Empty:
        self.made += 1
        self.open |= {self.made}
        return request

    @hookimpl
    def snapshot_taken(self, snapshot: SnapshotToken) -> None:
        snapshot.plugin_state["doors"] = self.open

    @hookimpl
    def snapshot_restored(self, snapshot: SnapshotToken) -> None:
        self.open = snapshot.plugin_state.get("doors", frozenset())


class Broken(Exception):  # noqa: N818 - not an error of the library
    """Raised by metadata."""


@dataclass(frozen=True)
class Write(Transition):
    """Writes to a page of the guest, lets it compute, and may fail then."""

    page: int
    fail: bool = False

    def move(self, calls: CallContext) -> None:
        """Change memory and registers."""
        address = MIDDLE + self.page * 4096 % ROOM
        calls.write(address, self.page.to_bytes(4, "little") * 2000 if self.page < 500 else b"x")
        calls.call("count")
        if self.fail:
            raise Broken


class First(State, EvolvableSandbox["Second", Write], functions=["a.open"]):
    """Depth 0."""


class Second(
    State,
    EvolvableSandbox["Third", Write],
    DevolvableSandbox[First, Nothing],
    functions=["a.open", "b.open"],
):
    """Depth 1."""


class Third(
    State,
    EvolvableSandbox["Fourth", Write],
    DevolvableSandbox[Second, Nothing],
    functions=["c.open"],
):
    """Depth 2."""


class Fourth(
    State, EvolvableSandbox["Last", Write], DevolvableSandbox[Third, Nothing], functions=["d.*"]
):
    """Depth 3."""


class Last(State, DevolvableSandbox[Fourth, Nothing]):
    """Depth 4, without any host function."""


CHAIN = (First, Second, Third, Fourth, Last)


class Picture(NamedTuple):
    """All that must be as before after a rollback."""

    state: type[State]
    memory: bytes
    registers: Registers
    table_version: int
    reach: frozenset[str]
    doors: frozenset[int]


def picture(state: State) -> Picture:
    machine: Any = state._machine
    return Picture(
        type(state),
        hashlib.blake2b(machine.vm.read(CONTROL_ADDRESS, CONFIG.memory)).digest(),
        machine.vm.registers(),
        machine.calls.table.version,
        state.reach,
        machine.plugins.instances["doors"].open,
    )


def spec_of(guest: GuestImage) -> MachineSpec:
    return MachineSpec(guest, CONFIG, {"doors": Doors()})
