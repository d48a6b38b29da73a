"""Where the time of a reset and a print goes, and what its parts take where nothing is cold."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from floors import floors
from measure import Result, median, samples

from hyperlight_core import wire
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
#: How each request begins.
BEFORE_ID = '{"jsonrpc":"2.0","id":'
#: In the guest: the line that is printed, compiled and run again and again.
LOOP = """
import io, sys, time
taken, shown, sys.stdout = [], sys.stdout, io.StringIO()
for _ in range(2000):
    began = time.monotonic_ns()
    exec(compile("print('hello', 1 + 1)", "<run>", "exec", dont_inherit=True), {})
    taken.append(time.monotonic_ns() - began)
sys.stdout = shown
print(sorted(taken)[1000])
"""


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


class PretendingVm(Vm):
    """Once told to, it leaves the guest alone and answers each request as the guest last did."""

    pretends = False

    def restore(self, snapshot: MemorySnapshot) -> None:
        """Restore, or do nothing."""
        if not self.pretends:
            super().restore(snapshot)

    def run(self, deadline_ns: int = NEVER_NS, cpu_ns: int = NEVER_NS) -> Exit:
        """Run, or give the answer there is to the request there is."""
        if not self.pretends:
            self.last = super().run(deadline_ns, cpu_ns)
            return self.last
        request = bytes(self.buffers.to_guest[wire.HEADER_SIZE + len(BEFORE_ID) :][:20])
        answer = wire.result_text(int(request.partition(b",")[0]), b'{"exit_code":0}')
        wire.write_frame(self.buffers.from_guest, answer)
        return self.last


class Ready(State):
    """The started guest."""


def measure() -> Iterator[Result]:
    """Each part's median, beside the median of the whole."""
    with Ready.start(MachineSpec(find_guest("python"), cache=True, vm=TimedVm)) as state:
        vm = cast("TimedVm", state.inspect(lambda machine: machine.vm))
        start = state.snapshot()
        state.restore(start)
        state.restore(start)  # from here on it copies
        before, rounds = vm.counters(), []
        for _ in range(ROUNDS):
            began = time.monotonic_ns()
            state.restore(start)
            reply = state.call("run", {"code": CODE})
            ended = time.monotonic_ns()
            outside = vm.moments
            inside = map(int, reply.stdout.split())
            rounds.append([began, *outside[:3], *inside, outside[3], ended])
        after = vm.counters()
        alone = _stay_alone(vm, start.machine.memory)
    whole = median(sorted(round_[-1] - round_[0] for round_ in rounds)) / 1000
    for part, name in enumerate(PARTS):
        each = median(sorted(round_[part + 1] - round_[part] for round_ in rounds)) / 1000
        yield Result(f"reset and print: {name}", each, "us", whole, "the whole")
    for counter in ("exits", "ioctls", "pages_copied"):
        each = (getattr(after, counter) - getattr(before, counter)) / ROUNDS
        yield Result(f"reset and print: {counter.replace('_', ' ')}", each, "")
    stay = median(sorted(round_[6] - round_[3] for round_ in rounds)) / 1000
    name = "a reset and print's stay in the guest"
    yield Result(name, stay, "us", alone, "the same, the host doing nothing but resets")
    yield from _hot(whole, (after.pages_copied - before.pages_copied) / ROUNDS)


def _stay_alone(vm: TimedVm, start: MemorySnapshot) -> float:
    """A run without what Python on the host does around it, in microseconds."""
    text = wire.request_text("run", {"code": CODE, "reseed": True}, 1)
    size, stays = wire.write_frame(vm.buffers.to_guest, text), []
    frame = bytes(vm.buffers.to_guest[:size])
    for _ in range(ROUNDS):
        vm.restore(start)
        vm.buffers.to_guest[:size] = frame
        vm.wrote(size)
        vm.run()
        stays.append(vm.moments[3] - vm.moments[2])
    return median(sorted(stays)) / 1000


def _hot(whole: float, pages: float) -> Iterator[Result]:
    """The parts alone and in a loop, which nothing but another way could make faster."""
    with Ready.start(MachineSpec(find_guest("python"), cache=True, vm=PretendingVm)) as state:
        vm = cast("PretendingVm", state.inspect(lambda machine: machine.vm))
        start = state.snapshot()
        guest = int(state.call("run", {"code": LOOP}).stdout) / 1000
        state.call("run", {"code": "print('hello', 1 + 1)"})
        vm.pretends = True

        def again() -> None:
            state.restore(start)
            state.call("run", {"code": "print('hello', 1 + 1)"})

        host = median(samples(again, ROUNDS)) * 1e6
    copying = floors()["copy_100_ns"] / 100 * pages / 1000
    parts = {
        "the exit": floors()["exit_ns"] / 1000,
        "memcpy of as many pages": copying,
        "compile and print in the guest": guest,
        "Python on the host": host,
    }
    for name, value in (*parts.items(), ("their sum", sum(parts.values()))):
        yield Result(f"of a reset and print, in a loop: {name}", value, "us", whole, "the whole")
