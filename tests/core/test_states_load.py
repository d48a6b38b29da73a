"""States of real guests many times over and in many threads at once."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from hyperlight_core.errors import (
    GuestCrashedError,
    SandboxConsumedError,
)
from hyperlight_core.guests import GuestImage
from hyperlight_core.states import (
    NOTHING,
)
from tests.core.doors import (
    CHAIN,
    MIDDLE,
    First,
    Second,
    Write,
    picture,
    spec_of,
)

pytestmark = pytest.mark.kvm


class Use(NamedTuple):
    """What this process has, in units of its own."""

    memory: int
    descriptors: int
    threads: int

    @classmethod
    def now(cls) -> Use:
        """Resident pages, descriptors, threads; proc_pid_statm(5)."""
        return cls(
            int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]),
            len(os.listdir("/proc/self/fd")),
            len(os.listdir("/proc/self/task")),
        )


def test_a_thousand_rounds_leave_nothing_behind(hostile: GuestImage) -> None:
    """Each round changes other memory in the first state as well, so that snapshots differ."""
    with First.start(spec_of(hostile)) as first:
        for number in range(1200):
            first.call("poke", {"address": MIDDLE + number % 50 * 4096, "value": number})
            first = first.evolve(Write(number % 512)).devolve(NOTHING)  # noqa: PLW2901
            if number == 199:
                before = Use.now()
        after = Use.now()
    assert after.memory - before.memory < 512
    assert after.descriptors - before.descriptors <= 16
    assert after.threads == before.threads


@pytest.fixture
def faults() -> Iterator[list[BaseException]]:
    """What went wrong in threads."""
    found: list[BaseException] = []
    yield found
    assert found == []


def test_sixteen_chains_in_sixteen_threads(
    hostile: GuestImage, faults: list[BaseException]
) -> None:
    with First.start(spec_of(hostile)) as origin:
        snapshot = origin.snapshot()

        def walk(seed: int) -> None:
            try:
                with origin.clone() as state:
                    stroll(state, random.Random(seed))  # noqa: S311 - to be repeated
            except BaseException as error:  # noqa: BLE001 - told to the main thread
                faults.append(error)

        threads = [threading.Thread(target=walk, args=(seed,)) for seed in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        origin.restore(snapshot)
        assert origin.call("count").result == 1


def stroll(start: First, dice: random.Random) -> None:
    """Random moves; each value comes back when its state does."""
    state: Any = start
    values: list[int] = []
    for _ in range(60):
        choice = dice.random()
        if choice < 0.4 and len(values) < len(CHAIN) - 1:
            values.append(dice.randrange(2**40))
            state.call("poke", {"address": MIDDLE, "value": values[-1]})
            state = state.evolve(Write(300))
            state.call("poke", {"address": MIDDLE, "value": 0})
        elif choice < 0.7 and values:
            state = state.devolve(NOTHING)
            assert state.call("peek", {"address": MIDDLE}).result == values.pop()
        elif values:
            with suppress(GuestCrashedError):
                state.call("peek", {"address": 0})
            state = state.devolve(NOTHING)
            assert state.call("peek", {"address": MIDDLE}).result == values.pop()


def test_one_chain_used_by_many_threads(hostile: GuestImage, faults: list[BaseException]) -> None:
    """Exactly one of them moves it on; the others are told that it has moved."""
    with First.start(spec_of(hostile)) as first:
        moved: list[Second] = []
        refused: list[SandboxConsumedError] = []

        def move() -> None:
            try:
                moved.append(first.evolve(Write(1)))
            except SandboxConsumedError as error:
                refused.append(error)
            except BaseException as error:  # noqa: BLE001 - told to the main thread
                faults.append(error)

        threads = [threading.Thread(target=move) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(moved), len(refused)) == (1, 15)
        assert moved[0].call("count").result == 2


def test_clones_differ_in_seed_and_epoch_alone(hostile: GuestImage) -> None:
    """The boot information at 0x1000: epoch at 80, seed from 96 to 128."""
    with First.start(spec_of(hostile)) as first:
        twins = [first.clone() for _ in range(4)]
        assert len({picture(twin).memory for twin in [first, *twins]}) == 1
        seen = {
            tuple(twin.call("peek", {"address": 0x1000 + at}).result for at in (80, 96, 104, 112))
            for twin in [first, *twins]
        }
        assert len(seen) == 5
        for twin in twins:
            twin.close()


def test_snapshots_of_many_threads_share_one_guest(
    hostile: GuestImage, faults: list[BaseException]
) -> None:
    """Snapshots move between sandboxes of one kind while others take and restore their own."""
    with First.start(spec_of(hostile)) as origin:
        shared = [origin.snapshot()]

        def work(seed: int) -> None:
            dice = random.Random(seed)  # noqa: S311 - to be repeated
            try:
                with origin.clone() as state:
                    for _ in range(40):
                        state.restore(dice.choice(shared))
                        before = state.call("count").result
                        taken = state.snapshot()
                        state.call("count")
                        state.restore(taken)
                        assert state.call("count").result == before + 1
                        shared.append(taken)
                        del shared[:-8]
            except BaseException as error:  # noqa: BLE001 - told to the main thread
                faults.append(error)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
