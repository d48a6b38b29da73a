"""Where the time of a reset and a print goes, on the clock that host and guest share."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measure import Result, median

from hyperlight_core.guests import find_guest
from hyperlight_core.machine import MachineSpec
from hyperlight_core.memory_snapshot import MemorySnapshot
from hyperlight_core.states import State
from hyperlight_core.vm import NEVER_NS, Exit, Vm, VmConfig

ROUNDS = 1000
PARTS = (
    "to the helper",
    "taking memory back, in C",
    "from the helper, and to it again",
    "entering, up to the code's first statement",
    "the code, which prints",
    "from its end to the exit's",
    "reading the reply",
)
CODE = "import time; began = time.monotonic_ns(); print(began); print(time.monotonic_ns())"


class TimedVm(Vm):
    """Notes when the helper is entered and left.

    Attributes:
        moments: in ns, of the last restore's and the last run's beginning and end.
    """

    def __init__(
        self, config: VmConfig, program: bytes | None, image: Path | None, *, stream: bool
    ) -> None:
        super().__init__(config, program, image, stream=stream)
        self.moments: list[int] = []

    def restore(self, snapshot: MemorySnapshot) -> None:
        """Restore, and begin new moments."""
        began = time.monotonic_ns()
        super().restore(snapshot)
        self.moments = [began, time.monotonic_ns()]

    def run(self, deadline_ns: int = NEVER_NS, cpu_ns: int = NEVER_NS) -> Exit:
        """Run, and add its moments."""
        began = time.monotonic_ns()
        left = super().run(deadline_ns, cpu_ns)
        self.moments[2:] = [began, time.monotonic_ns()]
        return left


class Ready(State):
    """The started guest."""


def measure() -> Iterator[Result]:
    """Each part's median, beside the median of the whole."""
    machines: list[TimedVm] = []

    def vm(*arguments: Any, **options: Any) -> TimedVm:
        machines.append(TimedVm(*arguments, **options))
        return machines[-1]

    with Ready.start(MachineSpec(find_guest("python"), cache=True, vm=vm)) as state:
        start = state.snapshot()
        state.restore(start)
        state.restore(start)  # from here on it copies
        before, rounds = machines[-1].counters(), []
        for _ in range(ROUNDS):
            began = time.monotonic_ns()
            state.restore(start)
            reply = state.call("run", {"code": CODE})
            ended = time.monotonic_ns()
            outside = machines[-1].moments
            inside = map(int, reply.stdout.split())
            rounds.append([began, *outside[:3], *inside, outside[3], ended])
        after = machines[-1].counters()
    whole = median(sorted(round_[-1] - round_[0] for round_ in rounds)) / 1000
    for part, name in enumerate(PARTS):
        each = median(sorted(round_[part + 1] - round_[part] for round_ in rounds)) / 1000
        yield Result(f"reset and print: {name}", each, "us", whole, "the whole")
    for counter in ("exits", "ioctls", "pages_copied"):
        each = (getattr(after, counter) - getattr(before, counter)) / ROUNDS
        yield Result(f"reset and print: {counter.replace('_', ' ')}", each, "")
