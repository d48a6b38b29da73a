"""States: moves over one page and over 64 MiB, and the cost of a reset by pages dirtied."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from floors import floors, idle_guest
from measure import Result, median, samples

from hyperlight_core.guests import native_guest
from hyperlight_core.machine import CallContext, MachineSpec
from hyperlight_core.states import (
    NOTHING,
    DevolvableSandbox,
    EvolvableSandbox,
    Nothing,
    State,
    StateSnapshot,
    Transition,
)
from hyperlight_core.vm import VmConfig

LARGE = 64 * 2**20 // 4096
CURVE = (1, 10, 100, 1000, 10_000, 100_000)


@dataclass(frozen=True)
class Touch(Transition):
    """Dirties so many pages."""

    pages: int

    def move(self, calls: CallContext) -> None:
        """Have the guest write to each."""
        calls.call("touch", {"pages": self.pages})


class Idle(State, EvolvableSandbox["Touched", Touch]):
    """Nothing has happened."""


class Touched(State, DevolvableSandbox[Idle, Nothing]):
    """Pages are dirty."""


def measure() -> Iterator[Result]:
    """Moves there and back, beside a bare reset and a copy of the same bytes."""
    spec = MachineSpec(native_guest(idle_guest()), VmConfig(memory=512 * 2**20))
    with Idle.start(spec) as state:
        taken = state.snapshot()
        reset = _reset(state, taken, 1, 1000) * 1e6
        yield Result("bare reset after one page", reset, "us")
        forward, back = _moves(state, 1, 500)
    yield Result("evolve, one page", forward * 1e6, "us", reset, "bare reset")
    yield Result("devolve, one page", back * 1e6, "us", reset, "bare reset", 2)
    copy = floors()[f"copy_{LARGE}_ns"] / 1e6
    with Idle.start(spec) as state:
        forward, back = _moves(state, LARGE, 9)
    yield Result("evolve, 64 MiB", forward * 1e3, "ms", copy, "memcpy of as much")
    yield Result("devolve, 64 MiB", back * 1e3, "ms", copy, "memcpy of as much")
    yield from _curve(spec)


def _reset(state: Idle, taken: StateSnapshot[Idle], pages: int, rounds: int) -> float:
    """Median seconds of a reset alone, each after a call that dirtied so many pages."""
    state.restore(taken)
    spent = []
    for _ in range(rounds + 2):
        state.call("touch", {"pages": pages})
        began = time.perf_counter()
        state.restore(taken)
        spent.append(time.perf_counter() - began)
    return median(sorted(spent[2:]))


def _moves(state: Idle, pages: int, rounds: int) -> tuple[float, float]:
    """Median seconds of moving forward and of moving back, without the guest's own work."""
    work = median(samples(lambda: state.call("touch", {"pages": pages}), max(3, rounds // 4), 1))
    forward, back = [], []
    for _ in range(rounds + 2):
        began = time.perf_counter()
        touched = state.evolve(Touch(pages))
        half = time.perf_counter()
        state = touched.devolve(NOTHING)
        back.append(time.perf_counter() - half)
        forward.append(half - began - work)
    return median(sorted(forward[2:])), median(sorted(back[2:]))


def _curve(spec: MachineSpec) -> Iterator[Result]:
    for pages in CURVE:
        with Idle.start(spec) as state:
            figure = _reset(state, state.snapshot(), pages, max(5, 2000 // pages)) * 1e6
        copy = floors()[f"copy_{pages}_ns"] / 1000
        yield Result(f"reset, {pages} pages dirtied", figure, "us", copy, "memcpy", 1.5)
