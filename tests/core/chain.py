"""Three states over a guest of Python functions, and a plugin whose handles follow them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hyperlight_core.functions import HostFunction, Model
from hyperlight_core.hookspecs import SnapshotToken, StateInfo, hookimpl
from hyperlight_core.machine import CallContext
from hyperlight_core.states import (
    DevolvableSandbox,
    EvolvableSandbox,
    GuestCallback,
    Nothing,
    State,
    Transition,
)
from hyperlight_core.testing import FakeVm, FunctionGuest, HostCall, leave
from hyperlight_core.vm import Exit, ExitKind


class Empty(Model):
    """No parameters, no result."""


class Handles:
    """A plugin whose handles follow the state, and that remembers what it was told."""

    namespaces = ("boot", "load", "run")

    def __init__(self) -> None:
        self.told: list[str] = []
        self.open: set[str] = set()
        self.failing = ""

    @hookimpl
    def host_functions(self) -> list[HostFunction]:
        return [
            HostFunction(f"{name}.call", self.call, Empty, Empty)
            for name in ("boot", "load", "run")
        ]

    def call(self, request: Empty) -> Empty:
        return request

    def note(self, what: str) -> None:
        self.told.append(what)
        if what == self.failing:
            raise RuntimeError(f"{what} fails")

    @hookimpl
    def state_entered(self, state: StateInfo) -> None:
        self.note(f"entered {state.name}")

    @hookimpl
    def state_left(self, state: StateInfo) -> None:
        self.note(f"left {state.name}")

    @hookimpl
    def snapshot_taken(self, snapshot: SnapshotToken) -> None:
        self.note("taken")
        snapshot.plugin_state["handles"] = frozenset(self.open)

    @hookimpl
    def snapshot_restored(self, snapshot: SnapshotToken) -> None:
        self.note("restored")
        self.open = set(snapshot.plugin_state.get("handles", ()))

    @hookimpl
    def closed(self) -> None:
        self.note("closed")


# ---- the chain under test ----------------------------------------------------------------------


@dataclass(frozen=True)
class Load(Transition):
    """Puts a value into the guest."""

    value: int

    def move(self, calls: CallContext) -> None:
        """Call into the guest."""
        calls.call("set", {"value": self.value})


class Booted(State, EvolvableSandbox["Loaded", Load], functions=["boot.*"]):
    """The first state."""


class Loaded(
    State,
    EvolvableSandbox["Running", Nothing],
    DevolvableSandbox[Booted, Nothing],
    functions=["load.call", lambda function: function.name.startswith("boot.")],
):
    """A value is loaded."""

    def entered(self, calls: CallContext) -> None:
        """Remember it here, too."""
        self.value = calls.call("get").result


class Running(State, DevolvableSandbox[Loaded, GuestCallback], functions=["run.call"]):
    """The last state."""

    def get(self) -> Any:
        return self.call("get").result


def set_value(vm: FakeVm, params: dict[str, Any]) -> None:
    vm.state["value"] = params["value"]


def get_value(vm: FakeVm, _params: object) -> Any:
    return vm.state.get("value")


def reach(_vm: FakeVm, _params: object) -> Iterator[HostCall]:
    """Which functions the guest gets an answer from."""
    found = []
    for name in ("boot", "load", "run"):
        answer = yield HostCall(f"{name}.call")
        if answer.error is None:  # type: ignore[attr-defined]
            found.append(name)
    return found  # type: ignore[return-value]


def crash(_vm: FakeVm, _params: object) -> Iterator[Exit]:
    yield leave(ExitKind.FAULT)


def spin(_vm: FakeVm, _params: object) -> Iterator[None]:
    while True:
        yield None


GUEST = FunctionGuest(
    {"set": set_value, "get": get_value, "reach": reach, "crash": crash, "spin": spin}
)


def nothing(_calls: CallContext) -> None:
    pass
