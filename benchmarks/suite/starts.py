"""Starts: the first one ever, from the snapshot on disk, from a clone; memory of idle clones."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from measure import Result, median, samples

from hyperlight_core import Sandbox

CLONES = 100


def measure() -> Iterator[Result]:
    """How long it takes until a new sandbox has printed something."""
    command = [sys.executable, "-I", "-c", "print('hello')"]
    native = median(samples(lambda: subprocess.run(command, capture_output=True, check=True), 20))
    first = median(samples(lambda: _first_output(cache=False), 10, 1))
    yield Result(
        "first start, image packed",
        first * 1e3,
        "ms",
        native * 1e3,
        "native python3 -c",
        40,
        target_is_value=True,
    )
    snapshot = median(samples(lambda: _first_output(cache=True), 50, 3))
    yield Result(
        "new sandbox from the snapshot",
        snapshot * 1e3,
        "ms",
        7.1,
        "best published peer",
        2.5,
        target_is_value=True,
    )
    yield from _clones()


def _first_output(*, cache: bool) -> None:
    with Sandbox(cache=cache, timeout=None) as sandbox:
        if sandbox.run("print('hello')").stdout != "hello\n":
            raise RuntimeError("the guest printed something else")


def _clones() -> Iterator[Result]:
    with Sandbox(timeout=None) as sandbox:
        before, began = _private_mib(), time.perf_counter()
        twins = [sandbox.clone() for _ in range(CLONES)]
        rate = CLONES / (time.perf_counter() - began)
        yield Result(
            "clones created", rate, "1/s", target=500, higher_is_better=True, target_is_value=True
        )
        for twin in twins:
            twin.run("print('hello')")
        each = (_private_mib() - before) / CLONES
        yield Result(
            "private memory of a clone that has printed",
            each,
            "MiB",
            6,
            "best published peer",
            1.5,
            target_is_value=True,
        )
        for twin in twins:
            twin.close()


def _private_mib() -> float:
    """Private memory of this process, from proc(5)."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024
