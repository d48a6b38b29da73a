"""The host's memory: what a Python guest takes of it, and what comes back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hyperlight_core import Sandbox
from hyperlight_core.errors import MemoryExceededError

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


@pytest.mark.parametrize("size", ["10**9", "2**40", "2**62"])
def test_more_memory_than_there_is_has_an_error_of_its_own(sandbox: Sandbox, size: str) -> None:
    """The guest has dealt with it and may be used on."""
    with pytest.raises(MemoryExceededError, match="more memory than the sandbox has") as caught:
        sandbox.run(f"print('begun')\nbytearray({size})")
    assert caught.value.stdout == "begun\n"
    assert caught.value.stderr.endswith("MemoryError\n")
    sandbox.run(f"def take(): bytearray({size})")
    with pytest.raises(MemoryExceededError):
        sandbox.call("take")
    assert sandbox.status == "ready"
    assert sandbox.run("print(len(bytearray(10**8)))").stdout == "100000000\n"


def test_huge_reservations_are_refused(sandbox: Sandbox) -> None:
    """Reserved memory is real memory here, as docs/architecture.md says."""
    code = """
import mmap
for size in (2**30, 2**40, 2**46, 2**62):
    try:
        mmap.mmap(-1, size)
    except (OSError, OverflowError) as error:
        print(error)
"""
    assert sandbox.run(code).stdout == "[Errno 12] Cannot allocate memory\n" * 4


FILL = """
kept = []
try:
    while True:
        kept.append(bytearray(b"x") * 2**20)
except MemoryError:
    del kept[-12:]
print("y" * (2**22 - 100), flush=True)
"""


def test_the_host_needs_no_more_than_the_limits_say(sandbox: Sandbox) -> None:
    """All of guest memory, and the console text: as records, joined, and decoded."""
    del sandbox
    with Sandbox(memory="128MiB", output_limit=2**22) as greedy:
        before = resident()
        result = greedy.run(FILL)
        taken = resident() - before
    assert len(result.stdout) == 2**22 - 99
    assert 80 * MIB < taken < (128 + 3 * 4 + 4) * MIB
