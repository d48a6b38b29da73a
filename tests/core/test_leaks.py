"""Round after round, in every way a sandbox is used, and nothing of the process or of KVM grows."""

from __future__ import annotations

import gc
import os
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from hyperlight_core import GuestCrashedError, Sandbox, SandboxPool
from hyperlight_core.guests import GuestImage

pytestmark = [pytest.mark.kvm, pytest.mark.timeout(3600)]

#: `make leaks` asks for the long form.
LONG = os.environ.get("HL_LEAKS") == "long"
#: KiB of private memory that the process may have grown by: the allocator's arenas.
GROWTH = 2048


def descriptors() -> Counter[str]:
    """The process's descriptors by kind, VMs and vCPUs of KVM among them; proc_pid_fd(5)."""
    kinds: Counter[str] = Counter()
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the descriptor of the folder itself
            kinds[
                os.readlink(f"/proc/self/fd/{number}").partition(":")[0].rstrip("0123456789")
            ] += 1
    return kinds


def threads() -> int:
    """proc_pid_task(5)."""
    return len(os.listdir("/proc/self/task"))


def mappings() -> int:
    """proc_pid_maps(5)."""
    return Path("/proc/self/maps").read_text(encoding="utf-8").count("\n")


def private_kib() -> int:
    """proc_pid_smaps(5)."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def stays_flat(rounds: int, once: Callable[[int], object]) -> None:
    """Run `once` so many times, after some rounds for what is made only once."""
    for number in range(max(rounds // 10, 100)):
        once(number)
    gc.collect()
    before = descriptors(), threads(), mappings(), private_kib()
    for number in range(rounds):
        once(number)
    gc.collect()
    assert (descriptors(), threads()) == before[:2]
    assert mappings() <= before[2] + 16
    assert private_kib() <= before[3] + GROWTH


@pytest.fixture
def origin(sandbox: Callable[..., Sandbox], hostile: GuestImage) -> Sandbox:
    return sandbox(hostile, memory="8MiB", timeout=10.0)


def test_creating_running_and_closing(hostile: GuestImage) -> None:
    def once(number: int) -> None:
        with Sandbox(hostile, memory="8MiB") as made:
            assert made.call("count") == 1

    stays_flat(10_000 if LONG else 200, once)


def test_cloning_running_and_closing(origin: Sandbox) -> None:
    start = origin.snapshot()

    def once(number: int) -> None:
        with origin.clone(start if number % 2 else None) as twin:
            assert twin.call("count") == 1

    stays_flat(10_000 if LONG else 200, once)


def test_running_and_resetting(origin: Sandbox) -> None:
    """Each run writes elsewhere, and every hundredth ends in a crash."""

    def once(number: int) -> None:
        origin.call("scribble", address=0x400000 + number % 500 * 4096, size=5000, seed=number)
        assert origin.call("count") == 1
        if number % 100 == 0:
            with pytest.raises(GuestCrashedError):
                origin.call("peek", address=0)
        origin.reset()

    stays_flat(100_000 if LONG else 2_000, once)


def test_taking_snapshots_and_restoring_them(origin: Sandbox) -> None:
    def once(number: int) -> None:
        origin.call("poke", address=0x400000, value=number)
        taken = origin.snapshot()
        origin.call("poke", address=0x400000, value=0)
        origin.restore(taken)
        assert origin.call("peek", address=0x400000) == number
        origin.reset()

    stays_flat(10_000 if LONG else 500, once)


def crash(sandbox: Sandbox) -> None:
    with pytest.raises(GuestCrashedError):
        sandbox.call("peek", address=0)


def test_sandboxes_of_a_pool_that_come_back_killed_crashed_or_well(hostile: GuestImage) -> None:
    with SandboxPool(Sandbox(hostile, memory="8MiB"), size=2, warm=0) as pool:

        def once(number: int) -> None:
            for end in (Sandbox.kill, crash, Sandbox.reset):
                with pool.sandbox() as held:
                    assert held.call("count") == 1
                    end(held)

        stays_flat(4_000 if LONG else 100, once)
