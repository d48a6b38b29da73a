"""States: moves and their metadata, reach, rollback, one-shot uses, snapshots and clones."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from hyperlight_core.errors import (
    ConfigurationError,
    GuestCrashedError,
    IllegalTransitionError,
    SandboxConsumedError,
)
from hyperlight_core.machine import CallContext, MachineSpec
from hyperlight_core.states import (
    NOTHING,
    Boot,
    DevolvableSandbox,
    EvolvableSandbox,
    GuestCallback,
    Nothing,
    State,
    Use,
)
from hyperlight_core.testing import FunctionGuest, fake_spec
from tests.core.chain import GUEST, Booted, Handles, Load, Loaded, Running, nothing


def consumed(state: State) -> None:
    """Every use of a consumed state raises."""
    uses: list[Callable[[], object]] = [lambda: state.call("get"), state.snapshot, state.clone]
    if isinstance(state, Booted):
        uses.append(lambda: state.evolve(Load(0)))
    if isinstance(state, Running):
        uses.append(lambda: state.devolve(GuestCallback(nothing)))
    for use in uses:
        with pytest.raises(SandboxConsumedError, match="moved on"):
            use()
    assert state.status == "consumed"


# ---- forwards and backwards --------------------------------------------------------------------


def test_moving_forwards_and_backwards(booted: Booted) -> None:
    loaded = booted.evolve(Load(5))
    running = loaded.evolve(NOTHING)
    assert running.get() == 5
    running.call("set", {"value": 6})
    loaded = running.devolve(GuestCallback(nothing))
    assert loaded.call("get").result == 5
    assert loaded.value == 5
    booted = loaded.devolve(NOTHING)
    assert booted.call("get").result is None
    assert booted.evolve(Load(7)).evolve(NOTHING).get() == 7


def test_a_state_that_has_moved_on_refuses_every_use(booted: Booted) -> None:
    loaded = booted.evolve(Load(5))
    consumed(booted)
    running = loaded.evolve(NOTHING)
    consumed(booted)
    consumed(loaded)
    back = running.devolve(GuestCallback(nothing))
    consumed(running)
    consumed(loaded)
    assert back.status == "ready"
    refused: list[Exception] = []

    def elsewhere() -> None:
        with pytest.raises(SandboxConsumedError) as caught:
            booted.call("get")
        refused.append(caught.value)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert len(refused) == 1


def test_straight_back_over_several_states(booted: Booted) -> None:
    mark = booted.mark()
    running = booted.evolve(Load(5)).evolve(NOTHING)
    again = running.roll_back(mark)
    assert type(again) is Booted
    assert again.call("get").result is None
    consumed(running)


def test_a_mark_of_another_past_is_refused(booted: Booted, spec: MachineSpec) -> None:
    """Even if a state of that kind is in the past: it is not the one that was marked."""
    with Booted.start(spec) as other, pytest.raises(IllegalTransitionError, match="past"):
        other.evolve(Load(1)).roll_back(booted.mark())
    loaded = booted.evolve(Load(1))
    mark = loaded.mark()
    with pytest.raises(IllegalTransitionError, match="Loaded is not in the past"):
        loaded.roll_back(mark)
    running = loaded.devolve(NOTHING).evolve(Load(2)).evolve(NOTHING)
    with pytest.raises(IllegalTransitionError, match="which has Booted, Loaded"):
        running.roll_back(mark)
    assert running.get() == 2


def test_what_the_author_set_comes_back(booted: Booted) -> None:
    loaded = booted.evolve(Load(5))
    loaded.value = "changed"
    running = loaded.evolve(NOTHING)
    loaded = running.devolve(GuestCallback(nothing))
    assert loaded.value == "changed"


def test_a_callback_calls_into_the_guest_while_moving_back(booted: Booted) -> None:
    seen: list[Any] = []
    running = booted.evolve(Load(5)).evolve(NOTHING)
    running.devolve(GuestCallback(lambda calls: seen.append(calls.call("get").result)))
    assert seen == [5]


def test_a_guest_that_is_only_loaded_is_booted_by_a_move(spec: MachineSpec) -> None:
    class Ready(State):
        pass

    class Unbooted(State, EvolvableSandbox[Ready, Boot]):
        pass

    with Unbooted.start(spec, boot=False) as state:
        assert state.evolve(Boot()).call("get").result is None


# ---- illegal moves -----------------------------------------------------------------------------


def test_metadata_of_another_type(booted: Booted) -> None:
    with pytest.raises(IllegalTransitionError, match=r"cannot evolve with Nothing.*Load"):
        booted.evolve(NOTHING)  # type: ignore[arg-type]
    assert booted.call("get").result is None


def test_a_move_nobody_declared(booted: Booted) -> None:
    assert not hasattr(booted, "devolve")
    with pytest.raises(IllegalTransitionError, match=r"Booted cannot devolve.*evolve\(Load\)"):
        DevolvableSandbox.devolve(booted, NOTHING)  # type: ignore[arg-type]


def test_a_state_that_came_from_elsewhere(spec: MachineSpec) -> None:
    with Loaded.start(spec) as state:
        with pytest.raises(IllegalTransitionError, match="did not come from Booted"):
            state.devolve(NOTHING)
        assert state.call("get").result is None


def test_a_state_is_not_made_by_calling_it() -> None:
    with pytest.raises(TypeError, match="start"):
        Booted()


def test_one_name_instead_of_a_list_of_names() -> None:
    with pytest.raises(TypeError, match="list of names"):
        type("Wrong", (State,), {}, functions="fs.*")


def test_states_of_equal_names_in_two_places_are_not_mixed_up(spec: MachineSpec) -> None:
    """A forward reference means the class beside the one that makes it."""
    first, second = (made_in(module) for module in ("one", "two"))
    for start, target in (first, second):
        with start.start(spec) as state:
            assert type(state.evolve(NOTHING)) is target  # type: ignore[attr-defined]


def made_in(module: str) -> tuple[type[State], type[State]]:
    names: dict[str, Any] = {
        "__name__": module,
        "State": State,
        "EvolvableSandbox": EvolvableSandbox,
        "Nothing": Nothing,
    }
    exec(  # noqa: S102 - two modules with the same content
        "class First(State, EvolvableSandbox['Next', Nothing]): pass\nclass Next(State): pass\n",
        names,
    )
    return names["First"], names["Next"]


# ---- reach and plugins -------------------------------------------------------------------------


def test_each_state_has_its_own_reach(booted: Booted) -> None:
    running = booted.evolve(Load(1)).evolve(NOTHING)
    loaded = running.devolve(GuestCallback(nothing))
    assert loaded.call("reach").result == ["boot", "load"]
    assert loaded.reach == {"boot.call", "load.call"}
    booted = loaded.devolve(NOTHING)
    assert booted.call("reach").result == ["boot"]
    assert booted.reach == {"boot.call"}


def test_a_running_state_reaches_nothing_it_was_not_given(booted: Booted) -> None:
    running = booted.evolve(Load(1)).evolve(NOTHING)
    assert running.call("reach").result == ["run"]


def test_the_guest_sees_the_same_table_again(booted: Booted) -> None:
    """Rolling back brings back the version, too: what the guest knows of the table stays true."""
    vm: Any = booted._machine.vm
    before = vm.table_version
    loaded = booted.evolve(Load(1))
    assert vm.table_version != before
    loaded.devolve(NOTHING)
    assert vm.table_version == before


def test_a_state_that_wants_what_is_not_there(spec: MachineSpec, handles: Handles) -> None:
    class Wrong(State, functions=["none.*"]):
        pass

    class First(State, EvolvableSandbox[Wrong, Nothing]):
        pass

    with pytest.raises(ConfigurationError, match=r"none\.\*"):
        Wrong.start(spec)
    with First.start(spec) as first:
        with pytest.raises(ConfigurationError, match=r"none\.\*"):
            first.evolve(NOTHING)
        assert first.call("get").result is None
    assert handles.told.count("entered First") == handles.told.count("left First") + 1


def test_plugins_are_told_in_order(booted: Booted, handles: Handles) -> None:
    loaded = booted.evolve(Load(1))
    loaded.devolve(NOTHING).close()
    assert handles.told == [
        *("restored", "entered Booted"),
        *("taken", "left Booted", "entered Loaded"),
        *("restored", "left Loaded", "entered Booted"),
        "closed",
    ]


def test_handles_follow_the_state(booted: Booted, handles: Handles) -> None:
    handles.open = {"a"}
    loaded = booted.evolve(Load(1))
    handles.open = {"a", "b"}
    running = loaded.evolve(NOTHING)
    handles.open = {"c"}
    loaded = running.devolve(GuestCallback(nothing))
    assert handles.open == {"a", "b"}
    loaded.devolve(NOTHING)
    assert handles.open == {"a"}


# ---- one shot and reset ------------------------------------------------------------------------


class Once(State, use=Use.ONCE):
    """Used up by one call."""


class Reset(State, use=Use.RESET):
    """As it was entered after every call."""

    def entered(self, calls: CallContext) -> None:
        """What every call finds."""
        calls.call("set", {"value": 1})


class Start(State, EvolvableSandbox[Once, Nothing]):
    """Comes before Once."""


def test_a_state_that_is_used_once(spec: MachineSpec) -> None:
    with Start.start(spec) as start:
        once = start.evolve(NOTHING)
        once.call("get")
        for use in (lambda: once.call("get"), once.snapshot, once.clone):
            with pytest.raises(SandboxConsumedError, match="only once"):
                use()


def test_one_use_may_be_several_calls(spec: MachineSpec) -> None:
    with Once.start(spec) as once:
        with once.calls() as calls:
            calls.call("set", {"value": 3})
            assert calls.call("get").result == 3
        with pytest.raises(SandboxConsumedError), once.calls():
            pass


def test_a_state_that_resets_itself(spec: MachineSpec) -> None:
    with Reset.start(spec) as state:
        for _ in range(3):
            with state.calls() as calls:
                assert calls.call("get").result == 1
                calls.call("set", {"value": 2})
                assert calls.call("get").result == 2
        with pytest.raises(GuestCrashedError):
            state.call("crash")
        assert state.status == "ready"
        assert state.call("get").result == 1


def test_a_restored_state_resets_to_where_the_snapshot_was_entered(spec: MachineSpec) -> None:
    """Not to where the object it is restored into was."""
    with Reset.start(spec) as one, Reset.start(spec) as two:
        two._machine.vm.write(0x300000, b"two")
        two._entry = two._machine.snapshot()
        one.restore(two.snapshot())
        for _ in range(2):
            with one.calls() as calls:
                assert calls.read(0x300000, 3) == b"two"


# ---- snapshots and clones ----------------------------------------------------------------------


def test_a_snapshot_of_a_state_brings_it_back(booted: Booted) -> None:
    loaded = booted.evolve(Load(5))
    snapshot = loaded.snapshot()
    loaded.call("set", {"value": 6})
    loaded.value = 6
    loaded.restore(snapshot)
    assert loaded.call("get").result == 5
    assert loaded.value == 5


def test_a_snapshot_moves_to_a_sandbox_of_the_same_kind(booted: Booted, spec: MachineSpec) -> None:
    snapshot = booted.evolve(Load(5)).snapshot()
    with Booted.start(spec) as other:
        loaded = other.evolve(Load(6))
        loaded.restore(snapshot)
        assert loaded.call("get").result == 5
        # With it came its past.
        assert loaded.devolve(NOTHING).call("get").result is None


def test_a_snapshot_of_another_state_is_refused(booted: Booted) -> None:
    snapshot = booted.snapshot()
    loaded = booted.evolve(Load(5))
    with pytest.raises(IllegalTransitionError, match="snapshot of Booted does not restore Loaded"):
        loaded.restore(snapshot)  # type: ignore[arg-type]
    assert loaded.call("get").result == 5


def test_a_snapshot_of_another_kind_of_sandbox_names_the_difference(
    booted: Booted, handles: Handles
) -> None:
    snapshot = booted.snapshot()
    for spec, difference in (
        (fake_spec(FunctionGuest({}), plugins={"handles": handles}), "another guest"),
        (fake_spec(GUEST, plugins={"handles": Handles()}), "configuration of the plugin 'handles'"),
    ):
        with Booted.start(spec) as other:
            with pytest.raises(ConfigurationError, match=difference):
                other.restore(snapshot)
            assert other.status == "ready"


def test_a_snapshot_does_not_bring_a_plugin_with_it(booted: Booted) -> None:
    class Bare(State):
        pass

    with Bare.start(fake_spec(GUEST)) as other, pytest.raises(ConfigurationError, match="only"):
        other._machine.restore(booted.snapshot().machine)


def test_clones_are_independent(booted: Booted) -> None:
    loaded = booted.evolve(Load(5))
    twins = [loaded.clone() for _ in range(3)]
    for number, twin in enumerate(twins):
        assert twin.value == 5
        twin.call("set", {"value": number})
    loaded.call("set", {"value": 9})
    assert [twin.call("get").result for twin in twins] == [0, 1, 2]
    assert twins[0].devolve(NOTHING).call("get").result is None
    assert loaded.call("get").result == 9
    for twin in twins:
        twin.close()
    assert loaded.status == "ready"
