"""The host's memory: what a Python guest takes of it, and what comes back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hyperlight_core import Sandbox

pytestmark = pytest.mark.kvm
MIB = 2**20
TAKE = "x = bytearray(100 * 2**20)\nfor at in range(0, len(x), 4096): x[at] = 1"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(memory="256MiB") as sandbox:
        yield sandbox


@pytest.fixture(autouse=True)
def fresh(sandbox: Sandbox) -> None:
    """Start and first call done, as at the beginning of each test."""
    sandbox.reset()
    sandbox.run("x = None")


def resident() -> int:
    """Bytes of memory this process has: proc_pid_statm(5)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_memory_that_a_run_frees_goes_back(sandbox: Sandbox) -> None:
    before = resident()
    sandbox.run(TAKE)
    assert resident() - before > 95 * MIB
    sandbox.run("del x")
    assert resident() - before < 10 * MIB
    assert sandbox.run("print(any(bytearray(100 * 2**20)))").stdout == "False\n"


def test_memory_of_many_small_objects_goes_back(sandbox: Sandbox) -> None:
    before = resident()
    sandbox.run("x = [[number] for number in range(500_000)]")
    assert resident() - before > 30 * MIB
    sandbox.run("del x")
    assert resident() - before < 10 * MIB


def test_a_reset_gives_back_what_a_large_run_took(sandbox: Sandbox) -> None:
    for _ in range(3):
        before = resident()
        sandbox.run(TAKE)
        assert resident() - before > 95 * MIB
        sandbox.reset()
        assert resident() - before < 10 * MIB


def test_memory_given_back_and_taken_again_is_followed_by_resets(sandbox: Sandbox) -> None:
    """The log of dirtied pages stays right: a reset finds all that was written since."""
    sandbox.run("kept = bytes(range(256)) * 8192")
    start = sandbox.snapshot()
    for _ in range(3):
        sandbox.run(TAKE + "\ndel x")
        sandbox.run("kept = b'y' * 2**21; x = [kept + b'x' for _ in range(20)]; del x")
        sandbox.restore(start)
        code = "print(kept == bytes(range(256)) * 8192, any(bytearray(2**26)))"
        assert sandbox.run(code).stdout == "True False\n"
