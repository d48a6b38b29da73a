"""Compute: the same loop and the same matrix product inside a guest and outside."""

from __future__ import annotations

from collections.abc import Iterator

from floors import native_python
from measure import Result

from hyperlight_core import Sandbox

ROUNDS = 5
LOOP = """
import time
def work():
    total = 0
    for number in range(2_000_000):
        total += number * number % 7
    return total
taken = []
for _ in range(3):
    began = time.perf_counter(); work(); taken.append(time.perf_counter() - began)
print(min(taken))
"""
PRODUCT = """
import time, numpy
a = numpy.random.default_rng(1).random((700, 700))
a @ a
taken = []
for _ in range(5):
    began = time.perf_counter(); a @ a; taken.append(time.perf_counter() - began)
print(min(taken))
"""


def measure() -> Iterator[Result]:
    """Speed in the guest as a share of the speed outside, each the best of interleaved rounds."""
    with Sandbox(timeout=None) as sandbox:
        yield _compare("pure-Python loop", sandbox, LOOP)
    with Sandbox(timeout=None, memory="1GiB", guest_options={"packages": ["numpy"]}) as sandbox:
        yield _compare("numpy matrix product", sandbox, PRODUCT, "OPENBLAS_NUM_THREADS")


def _compare(name: str, sandbox: Sandbox, code: str, threads: str = "") -> Result:
    single = f"import os; os.environ[{threads!r}] = '1'\n" if threads else ""
    inside, outside = [], []
    for _ in range(ROUNDS):
        inside.append(float(sandbox.run(single + code).stdout))
        outside.append(float(native_python(single + code)))
    return Result(
        f"{name}, speed",
        1 / min(inside),
        "1/s",
        1 / min(outside),
        "outside",
        0.97,
        higher_is_better=True,
    )
