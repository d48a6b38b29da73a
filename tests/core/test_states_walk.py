"""Random walks over the states of a real guest: after every rollback all is as a model says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)

from hyperlight_core.errors import (
    GuestCrashedError,
    IllegalTransitionError,
    SandboxConsumedError,
    SandboxPoisonedError,
)
from hyperlight_core.guests import GuestImage
from hyperlight_core.states import (
    NOTHING,
    DevolvableSandbox,
    EvolvableSandbox,
    Mark,
    State,
    StateSnapshot,
    Transition,
)
from tests.core.doors import (
    CHAIN,
    MIDDLE,
    ROOM,
    Broken,
    First,
    Picture,
    Write,
    picture,
    spec_of,
)

pytestmark = pytest.mark.kvm


class Walk(RuleBasedStateMachine):
    """Any moves, legal or not; `past` is the model: a picture of each state that was left."""

    guest: GuestImage

    def __init__(self) -> None:
        super().__init__()
        self.state: Any = First.start(spec_of(self.guest))
        self.past: list[Picture] = []
        self.marks: list[Mark[Any]] = []
        self.consumed: list[Any] = []
        self.kept: list[tuple[StateSnapshot[Any], Picture, list[Picture], list[Mark[Any]]]] = []
        self.poisoned = False

    def teardown(self) -> None:
        """Let go of the VM."""
        self.state.close()

    def go(self, state: State) -> None:
        self.consumed.append(self.state)
        self.state = state

    def is_at(self, expected: Picture) -> None:
        self.poisoned = False
        assert picture(self.state) == expected

    # ---- legal moves ----

    @precondition(lambda self: not self.poisoned and len(self.past) < len(CHAIN) - 1)
    @rule(page=st.integers(0, 511))
    def evolve(self, page: int) -> None:
        """Forwards."""
        self.past.append(picture(self.state))
        self.marks.append(self.state.mark())
        self.go(self.state.evolve(Write(page)))
        assert type(self.state) is CHAIN[len(self.past)]

    @precondition(lambda self: self.past)
    @rule()
    def devolve(self) -> None:
        """Backwards, poisoned or not."""
        self.go(self.state.devolve(NOTHING))
        self.marks.pop()
        self.is_at(self.past.pop())

    @precondition(lambda self: self.past)
    @rule(data=st.data())
    def roll_back(self, data: st.DataObject) -> None:
        """Straight to any earlier state."""
        depth = data.draw(st.integers(0, len(self.past) - 1))
        self.go(self.state.roll_back(self.marks[depth]))
        expected = self.past[depth]
        del self.past[depth:], self.marks[depth:]
        self.is_at(expected)

    @precondition(lambda self: not self.poisoned)
    @rule()
    def snapshot(self) -> None:
        """Keep this state."""
        snapshot = self.state.snapshot()
        self.kept.append((snapshot, picture(self.state), self.past[:], self.marks[:]))

    @precondition(lambda self: self.kept)
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        """To any state kept, if it is one of the same class."""
        snapshot, expected, past, marks = data.draw(st.sampled_from(self.kept))
        before = picture(self.state)
        if snapshot.state is not type(self.state):
            with pytest.raises(IllegalTransitionError):
                self.state.restore(snapshot)
            assert picture(self.state) == before
            return
        self.state.restore(snapshot)
        self.past, self.marks = past[:], marks[:]
        self.is_at(expected)

    @precondition(lambda self: not self.poisoned)
    @rule()
    def clone(self) -> None:
        """The clone has all that the original has, and going its own way changes nothing here."""
        before = picture(self.state)
        with self.state.clone() as twin:
            assert picture(twin)._replace(table_version=0) == before._replace(table_version=0)
            twin.call("poke", {"address": MIDDLE, "value": 1})
        assert picture(self.state) == before

    # ---- what changes a state ----

    @precondition(lambda self: not self.poisoned)
    @rule(offset=st.integers(0, ROOM - 8), value=st.integers(0, 2**60))
    def the_guest_writes(self, offset: int, value: int) -> None:
        """One word."""
        self.state.call("poke", {"address": MIDDLE + offset, "value": value})

    @precondition(lambda self: not self.poisoned)
    @rule(name=st.sampled_from(["a.open", "b.open", "c.open", "d.open"]))
    def the_guest_opens_a_door(self, name: str) -> None:
        """If the state reaches it."""
        before = picture(self.state).doors
        answered, _ = self.state.call("call", {"method": name, "times": 1}).result
        assert answered is (name in self.state.reach)
        assert len(picture(self.state).doors) == len(before) + answered

    @precondition(lambda self: not self.poisoned)
    @rule()
    def the_guest_crashes(self) -> None:
        """And is of no use until it is rolled back or restored."""
        with pytest.raises(GuestCrashedError):
            self.state.call("peek", {"address": 0})
        self.poisoned = True

    # ---- what must not change anything ----

    @precondition(lambda self: self.poisoned)
    @rule()
    def use_a_poisoned_state(self) -> None:
        """Refused."""
        for use in (self.state.snapshot, self.state.clone, lambda: self.state.call("count")):
            with pytest.raises(SandboxPoisonedError):
                use()

    @precondition(lambda self: not self.poisoned and len(self.past) < len(CHAIN) - 1)
    @rule(page=st.integers(0, 511))
    def a_move_that_fails_half_way(self, page: int) -> None:
        """It has never been."""
        before = picture(self.state)
        with pytest.raises(Broken):
            self.state.evolve(Write(page, fail=True))
        self.is_at(before)

    @rule()
    def a_move_nobody_declared(self) -> None:
        """Metadata of another type, or no such direction."""
        before = picture(self.state)
        for base, move in ((EvolvableSandbox, "evolve"), (DevolvableSandbox, "devolve")):
            with pytest.raises(IllegalTransitionError):
                getattr(base, move)(self.state, Transition())
        assert picture(self.state) == before

    @precondition(lambda self: self.consumed)
    @rule(data=st.data())
    def use_a_consumed_state(self, data: st.DataObject) -> None:
        """Refused, and without effect."""
        old = data.draw(st.sampled_from(self.consumed))
        before = picture(self.state)
        for use in (old.snapshot, old.clone, lambda: old.call("count")):
            with pytest.raises(SandboxConsumedError):
                use()
        assert picture(self.state) == before


def test_any_walk_agrees_with_the_model(hostile: GuestImage) -> None:
    Walk.guest = hostile
    run_state_machine_as_test(
        Walk,
        settings=settings(
            max_examples=20,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
