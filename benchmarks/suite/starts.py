"""Starts: the first one ever, and from the snapshot on disk."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from measure import Result, median, samples

from hyperlight_core import Sandbox


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


def _first_output(*, cache: bool) -> None:
    with Sandbox(cache=cache, timeout=None) as sandbox:
        if sandbox.run("print('hello')").stdout != "hello\n":
            raise RuntimeError("the guest printed something else")
