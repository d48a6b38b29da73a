"""What is left of a state when a move, a plugin or a start fails half way."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from hyperlight_core.errors import (
    GuestCrashedError,
    PluginError,
    SandboxBusyError,
    SandboxClosedError,
    SandboxKilledError,
    SandboxPoisonedError,
)
from hyperlight_core.machine import CallContext, MachineSpec
from hyperlight_core.states import (
    NOTHING,
    GuestCallback,
    State,
)
from tests.core.chain import Booted, Handles, Load, nothing
from tests.core.moments import once_running

# ---- moves that fail half way ------------------------------------------------------------------


class Broken(Exception):  # noqa: N818 - not an error of the library
    """Raised by metadata."""


@dataclass(frozen=True)
class Failing(Load):
    """Changes the guest, then fails."""

    how: str = "raise"

    def move(self, calls: CallContext) -> None:
        """Half of it."""
        super().move(calls)
        if self.how == "crash":
            calls.call("crash")
        raise Broken


@pytest.mark.parametrize(("how", "error"), [("raise", Broken), ("crash", GuestCrashedError)])
def test_metadata_that_fails_leaves_everything_as_before(
    booted: Booted, handles: Handles, how: str, error: type[Exception]
) -> None:
    handles.open = {"a"}
    for _ in range(3):
        with pytest.raises(error):
            booted.evolve(Failing(9, how))
        handles.open.add("b")
    assert booted.status == "ready"
    assert booted.call("get").result is None
    assert booted.call("reach").result == ["boot"]
    assert handles.told.count("left Booted") == 0
    assert booted.evolve(Load(1)).value == 1


def test_entering_that_fails_leaves_everything_as_before(booted: Booted, handles: Handles) -> None:
    handles.failing = "entered Loaded"
    with pytest.raises(PluginError, match="entered Loaded fails"):
        booted.evolve(Load(9))
    assert booted.status == "ready"
    assert booted.call("get").result is None
    assert booted.call("reach").result == ["boot"]
    assert handles.told[-3:] == ["restored", "left Loaded", "entered Booted"]


def test_leaving_that_fails_leaves_everything_as_before(booted: Booted, handles: Handles) -> None:
    handles.failing = "left Booted"
    with pytest.raises(PluginError, match="left Booted fails"):
        booted.evolve(Load(9))
    assert booted.call("get").result is None
    assert booted.call("reach").result == ["boot"]
    entered = [what for what in handles.told if what.split()[0] in ("entered", "left")]
    assert entered == [
        *("entered Booted", "left Booted", "entered Loaded"),
        *("left Loaded", "entered Booted"),
    ]


def test_recovering_that_fails_poisons(booted: Booted, handles: Handles) -> None:
    """And the reach is that of the state that is left to be restored, never a later one's."""
    before = booted.snapshot()
    handles.failing = "restored"
    with pytest.raises(PluginError, match="restored fails"):
        booted.evolve(Failing(9))
    assert booted.status == "poisoned"
    with pytest.raises(SandboxPoisonedError):
        booted.call("get")
    handles.failing = ""
    booted.restore(before)
    assert booted.call("get").result is None
    assert booted.call("reach").result == ["boot"]


def test_going_back_that_fails_poisons_and_can_be_repeated(
    booted: Booted, handles: Handles
) -> None:
    running = booted.evolve(Load(5)).evolve(NOTHING)
    for what in ("restored", "left Running", "entered Loaded"):
        handles.failing = what
        with pytest.raises(PluginError, match=f"{what} fails"):
            running.devolve(GuestCallback(nothing))
        assert running.status == "poisoned"
        with pytest.raises(SandboxPoisonedError):
            running.get()
    handles.failing = ""
    loaded = running.devolve(GuestCallback(nothing))
    assert loaded.call("get").result == 5
    assert loaded.call("reach").result == ["boot", "load"]


def test_a_callback_that_fails_while_moving_back_changes_nothing(booted: Booted) -> None:
    running = booted.evolve(Load(5)).evolve(NOTHING)

    def fail(calls: CallContext) -> None:
        calls.call("set", {"value": 9})
        raise Broken

    with pytest.raises(Broken):
        running.devolve(GuestCallback(fail))
    assert running.status == "ready"
    assert running.get() == 5


def test_a_kill_while_moving_leaves_everything_as_before(booted: Booted) -> None:
    @dataclass(frozen=True)
    class Endless(Load):
        def move(self, calls: CallContext) -> None:
            calls.call("set", {"value": 9})
            once_running(booted, booted.kill)
            calls.call("spin")

    with pytest.raises(SandboxKilledError):
        booted.evolve(Endless(1))
    assert booted.call("get").result is None


def test_closing_while_moving_ends_it(booted: Booted) -> None:
    @dataclass(frozen=True)
    class Endless(Load):
        def move(self, calls: CallContext) -> None:
            once_running(booted, booted.close)
            calls.call("spin")

    with pytest.raises(SandboxKilledError):
        booted.evolve(Endless(1))
    with pytest.raises(SandboxClosedError):
        booted.call("get")
    assert booted.status == "closed"


def test_a_poisoned_state_goes_back_without_the_metadatas_work(booted: Booted) -> None:
    running = booted.evolve(Load(5)).evolve(NOTHING)
    with pytest.raises(GuestCrashedError):
        running.call("crash")
    worked: list[object] = []
    loaded = running.devolve(GuestCallback(worked.append))
    assert not worked
    assert loaded.call("get").result == 5


def test_a_state_is_not_moved_from_within_its_own_call(booted: Booted) -> None:
    with booted.calls(), pytest.raises(SandboxBusyError):
        booted.evolve(Load(1))
    assert booted.status == "ready"


def test_a_clone_that_fails_leaves_nothing_behind(booted: Booted, handles: Handles) -> None:
    handles.failing = "entered Booted"
    with pytest.raises(PluginError):
        booted.clone()
    assert handles.told[-1] == "closed"
    handles.failing = ""
    assert booted.call("get").result is None


def test_a_failing_start_closes_the_machine(spec: MachineSpec, handles: Handles) -> None:
    class Wrong(State):
        def entered(self, calls: CallContext) -> None:
            calls.call("set", {"value": 1})
            raise Broken

    with pytest.raises(Broken):
        Wrong.start(spec)
    assert handles.told[-1] == "closed"
