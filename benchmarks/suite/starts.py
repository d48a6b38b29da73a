"""Starts: the first one ever, and from the snapshot on disk."""

from __future__ import annotations

import time
from collections.abc import Iterator

from floors import native_python
from measure import Result, median, samples

from hyperlight_core import Sandbox

#: What the interpreter of a guest has imported by its first run.
IMPORTED = "import sys; print(*(name for name in sys.modules if name in sys.stdlib_module_names))"


def measure() -> Iterator[Result]:
    """How long it takes until a new sandbox has printed something, its end not counted."""
    with Sandbox(timeout=None) as sandbox:
        imports = f"import {', '.join(sandbox.run(IMPORTED).stdout.split())}"
    native = median(samples(lambda: native_python("print('hello')"), 20))
    importing = median(samples(lambda: native_python(imports), 20))
    yield Result(
        "python3 outside, with the same imports",
        importing * 1e3,
        "ms",
        native * 1e3,
        "native python3 -c",
    )
    yield Result(
        "first start, image packed",
        _first_output(10, cache=False) * 1e3,
        "ms",
        importing * 1e3,
        "python3 outside, with the same imports",
        40,
        target_is_value=True,
    )
    yield Result(
        "new sandbox from the snapshot",
        _first_output(50, cache=True) * 1e3,
        "ms",
        7.1,
        "best published peer",
        2.5,
        target_is_value=True,
    )


def _first_output(rounds: int, *, cache: bool) -> float:
    """The median, in seconds."""
    taken = []
    for _ in range(rounds + 3):
        began = time.perf_counter()
        with Sandbox(cache=cache, timeout=None) as sandbox:
            if sandbox.run("print('hello')").stdout != "hello\n":
                raise RuntimeError("the guest printed something else")
            taken.append(time.perf_counter() - began)
    return median(sorted(taken[3:]))
