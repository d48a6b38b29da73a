"""Many sandboxes: how fast clones are made, what idle ones take, two at a time beside one."""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, wait
from pathlib import Path

from measure import Result, median, private_mib

from hyperlight_core import Sandbox, SandboxPool, Snapshot

IDLE = 1000
BATCH = 50
BATCHES = 9
ROUNDS = 300
MIB = 1024


def measure() -> Iterator[Result]:
    """Clones made, parked and reset."""
    # Two descriptors for each VM.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with Sandbox(timeout=None) as origin:
        start = origin.snapshot()
        yield _cpu_of_creation(origin, start)
        for threads in (1, 2):
            yield _creation(origin, start, threads)
        yield from _first_runs(origin, start)
        yield from _idle(origin, start)
    yield from _reset_and_run()


def _cpu_of_creation(origin: Sandbox, start: Snapshot) -> Result:
    """What others on the machine change least: two cores make no more than 2 by this."""
    taken = []
    for _ in range(BATCHES):
        before = time.process_time()
        made = [origin.clone(start) for _ in range(BATCH)]
        taken.append((time.process_time() - before) / BATCH)
        for twin in made:
            twin.close()
    value = median(sorted(taken)) * 1e3
    return Result("CPU time to make a clone", value, "ms", target=4, target_is_value=True)


def _creation(origin: Sandbox, start: Snapshot, threads: int) -> Result:
    """Clones a second, without a run in them: the median over batches."""
    rates = []
    with ThreadPoolExecutor(threads) as makers:
        for _ in range(BATCHES):
            began = time.perf_counter()
            made = list(makers.map(lambda _: origin.clone(start), range(BATCH)))
            rates.append(BATCH / (time.perf_counter() - began))
            list(makers.map(Sandbox.close, made))
    name = f"clones created by {threads} thread{'s' * (threads > 1)}"
    target = 500 if threads == 2 else None
    value = median(sorted(rates))
    return Result(name, value, "1/s", target=target, higher_is_better=True, target_is_value=True)


def _first_runs(origin: Sandbox, start: Snapshot) -> Iterator[Result]:
    """What the first run takes beyond the making: first touches of the clone's pages."""
    before, taken = private_mib(), []
    twins = [origin.clone(start) for _ in range(BATCH)]
    for twin in twins:
        began = time.perf_counter()
        twin.run("print('hello')")
        taken.append(time.perf_counter() - began)
    yield Result("first run in a clone", median(sorted(taken)) * 1e3, "ms")
    yield _memory("a clone that has printed", (private_mib() - before) / BATCH)
    for twin in twins:
        twin.close()


def _memory(whose: str, value: float) -> Result:
    name = f"private memory of {whose}"
    return Result(name, value, "MiB", 6, "best published peer", 1.5, target_is_value=True)


def _idle(origin: Sandbox, start: Snapshot) -> Iterator[Result]:
    """A thousand that wait: their memory in the process and in all, and the CPU they use."""
    private, used = private_mib(), _used_mib()
    twins = [origin.clone(start) for _ in range(IDLE)]
    yield _memory("an idle clone", (private_mib() - private) / IDLE)
    yield Result(
        f"memory of {IDLE} idle clones, the kernel's included",
        _used_mib() - used,
        "MiB",
        target=4096,
        target_is_value=True,
    )
    before, began = time.process_time(), time.monotonic()
    time.sleep(1)
    share = (time.process_time() - before) / (time.monotonic() - began)
    yield Result(
        f"CPU of {IDLE} parked sandboxes",
        share * 100,
        "% of one",
        target=0.1,
        target_is_value=True,
    )
    with ThreadPoolExecutor(4) as closers:
        list(closers.map(Sandbox.close, twins))


def _used_mib() -> float:
    """Memory of this machine that is in use, from proc(5): also what KVM holds for a VM."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    fields = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return (fields["MemTotal"] - fields["MemAvailable"]) / MIB


def _reset_and_run() -> Iterator[Result]:
    """Runs after resets, two at a time beside one."""
    with SandboxPool(Sandbox(timeout=None), size=2) as pool:

        def work() -> None:
            for _ in range(ROUNDS):
                with pool.sandbox() as sandbox:
                    sandbox.run("print('hello')")

        with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
            rate, ratio = _two_beside_one(one, other, work)
    yield Result("reset-and-run of a pool, 1 thread", rate, "1/s")
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, fresh) as first, ProcessPoolExecutor(1, fresh) as second:
        _, without_gil = _two_beside_one(first, second, _work_in_process)
    yield Result(
        "the same with 2 threads beside 1",
        ratio,
        "x",
        without_gil,
        "2 processes beside 1",
        1.8,
        higher_is_better=True,
        target_is_value=True,
    )


def _two_beside_one(
    one: Executor, other: Executor, work: Callable[[], None]
) -> tuple[float, float]:
    """Rounds a second of one, and how many times as many of two; in turns, on the same machine."""
    ratios, rates = [], []
    for turn in range(8):
        times = []
        for workers in ([one], [one, other]):
            began = time.perf_counter()
            wait([worker.submit(work) for worker in workers])
            times.append((time.perf_counter() - began) / len(workers))
        if turn == 0:
            continue
        rates.append(ROUNDS / times[0])
        ratios.append(times[0] / times[1])
    return median(sorted(rates)), median(sorted(ratios))


#: This process's own.
_sandboxes: list[Sandbox] = []


def _work_in_process() -> None:
    if not _sandboxes:
        _sandboxes.append(Sandbox(timeout=None))
    (sandbox,) = _sandboxes
    for _ in range(ROUNDS):
        sandbox.reset()
        sandbox.run("print('hello')")
