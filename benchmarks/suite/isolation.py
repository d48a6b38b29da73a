"""What a process of its own costs a VM: a start, an empty call, a reset and a print."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from floors import idle_guest
from measure import Result, median, samples

from hyperlight_core import Sandbox


def measure() -> Iterator[Result]:
    """Each beside the same in this process."""
    for name, unit, figure in (
        ("empty guest call, isolated", "us", _call),
        ("reset and print in CPython, isolated", "us", _reset_and_print),
        ("1 MiB to the guest and back, isolated", "us", _megabyte),
        ("new sandbox from the snapshot, to first output, isolated", "ms", _start),
    ):
        yield _beside(name, unit, figure)


def _beside(name: str, unit: str, figure: Callable[[str | None], float]) -> Result:
    figure("process")  # the first of all starts the zygote
    return Result(name, figure("process"), unit, figure(None), "in this process")


def _call(isolation: str | None) -> float:
    with Sandbox(idle_guest(), memory="16MiB", timeout=None, isolation=isolation) as sandbox:
        return median(samples(lambda: sandbox.call("nothing"), 3000)) * 1e6


def _reset_and_print(isolation: str | None) -> float:
    with Sandbox(timeout=None, isolation=isolation) as sandbox:

        def reset_and_print() -> None:
            sandbox.reset()
            sandbox.run("print('hello', 1 + 1)")

        return median(samples(reset_and_print, 500)) * 1e6


def _megabyte(isolation: str | None) -> float:
    with Sandbox(timeout=None, buffer="2MiB", isolation=isolation) as sandbox:
        sandbox.run("def back(text): return text")
        text = "x" * 2**20
        return median(samples(lambda: sandbox.call("back", text), 50, warmup=5)) * 1e6


def _start(isolation: str | None) -> float:
    taken = []
    for _ in range(12):
        began = time.perf_counter()
        with Sandbox(timeout=None, isolation=isolation) as sandbox:
            sandbox.run("print('hello')")
            taken.append(time.perf_counter() - began)
    return median(sorted(taken)) * 1e3
