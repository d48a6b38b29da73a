"""SandboxPool over a real native guest."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from hyperlight_core import (
    ConfigurationError,
    GuestCrashedError,
    PoolExhaustedError,
    Sandbox,
    SandboxClosedError,
    SandboxPool,
    StateError,
)
from hyperlight_core.errors import HypervisorError
from hyperlight_core.guests import GuestImage

pytestmark = pytest.mark.kvm

Fill = Callable[..., SandboxPool]


@pytest.fixture
def origin(hostile: GuestImage) -> Sandbox:
    """A sandbox that has counted to one; the pool that gets it closes it."""
    sandbox = Sandbox(hostile, memory="8MiB", timeout=10.0)
    sandbox.call("count")
    return sandbox


@pytest.fixture
def fill(origin: Sandbox) -> Iterator[Fill]:
    """Makes the test's pool."""
    pools: list[SandboxPool] = []

    def make(size: int, warm: int | None = None) -> SandboxPool:
        pools.append(SandboxPool(origin, size=size, warm=warm))
        return pools[0]

    yield make
    for pool in pools:
        pool.close()
    origin.close()


def test_a_sandbox_begins_where_the_origin_was_and_comes_back_reset(fill: Fill) -> None:
    pool = fill(1)
    with pool.sandbox() as first:
        assert [first.call("count"), first.call("count")] == [2, 3]
    with pool.sandbox() as second:
        assert second is first
        assert second.call("count") == 2


def test_nobody_else_has_it_meanwhile(fill: Fill) -> None:
    pool = fill(3)
    held = [pool.acquire() for _ in range(3)]
    assert len(set(held)) == 3
    assert (pool.idle, pool.in_use) == (0, 3)
    for sandbox in held:
        pool.release(sandbox)
    assert (pool.idle, pool.in_use) == (3, 0)


def test_one_more_than_there_are_is_waited_for_and_then_refused(fill: Fill) -> None:
    pool = fill(1)
    with pool.sandbox(), pytest.raises(PoolExhaustedError, match=r"1 sandboxes .* 0\.01 s"):
        pool.acquire(timeout=0.01)


def test_who_waits_gets_the_one_that_comes_back(fill: Fill) -> None:
    pool = fill(1)
    held = pool.acquire()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(pool.acquire, 60)
        pool.release(held)
        assert waiting.result() is held
    pool.release(held)


def crash(sandbox: Sandbox) -> None:
    with pytest.raises(GuestCrashedError):
        sandbox.call("peek", address=0)


@pytest.mark.parametrize("spoil", [crash, Sandbox.kill, Sandbox.close])
def test_one_that_comes_back_broken_is_replaced(
    fill: Fill, spoil: Callable[[Sandbox], None]
) -> None:
    pool = fill(1)
    with pool.sandbox() as broken:
        spoil(broken)
    assert broken.status == "closed"
    with pool.sandbox() as other:
        assert other is not broken
        assert other.call("count") == 2


def test_one_that_comes_back_running_is_stopped(fill: Fill) -> None:
    pool = fill(1)
    with ThreadPoolExecutor(1) as threads:
        with pool.sandbox() as busy:
            started = threads.submit(busy.call, "spin")
            while busy.status != "running" and not started.done():
                pass
        assert started.exception() is not None
    assert busy.status == "closed"


def test_what_was_not_handed_out_is_not_taken_back(fill: Fill, origin: Sandbox) -> None:
    pool = fill(1)
    with pytest.raises(StateError, match="not handed out"):
        pool.release(origin)
    sandbox = pool.acquire()
    pool.release(sandbox)
    with pytest.raises(StateError, match="back already"):
        pool.release(sandbox)


def test_none_is_made_ahead_of_need_if_none_is_wanted(fill: Fill) -> None:
    pool = fill(4, warm=0)
    assert (pool.idle, pool.in_use) == (0, 0)
    with pool.sandbox() as sandbox:
        assert sandbox.call("count") == 2
        assert (pool.idle, pool.in_use) == (0, 1)


@pytest.mark.parametrize(("size", "warm"), [(0, None), (-1, None), (1, 2), (1, -1)])
def test_a_pool_of_impossible_size_is_refused(origin: Sandbox, size: int, warm: int | None) -> None:
    with origin, pytest.raises(ConfigurationError, match="no pool"):
        SandboxPool(origin, size=size, warm=warm)


def test_an_error_in_making_reaches_who_asks_and_leaves_the_place_free(fill: Fill) -> None:
    pool = fill(1, warm=0)
    with no_more_descriptors():
        for _ in range(3):
            with pytest.raises(HypervisorError, match="Too many open files"):
                pool.acquire(timeout=1)
    with pool.sandbox(timeout=1) as sandbox:
        assert sandbox.call("count") == 2


@contextmanager
def no_more_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# ---- the end -------------------------------------------------------------------------------------


def test_closing_ends_the_idle_at_once_and_those_in_use_when_they_come_back(
    fill: Fill, origin: Sandbox
) -> None:
    pool = fill(2)
    used, idle = pool.acquire(), pool.acquire()
    pool.release(idle)
    pool.close()
    pool.close()
    assert (idle.status, origin.status) == ("closed", "closed")
    assert used.call("count") == 2
    pool.release(used)
    assert used.status == "closed"
    with pytest.raises(SandboxClosedError):
        pool.acquire()


def test_closing_wakes_who_waits(fill: Fill) -> None:
    pool = fill(1)
    held = pool.acquire()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(pool.acquire)
        pool.close()
        assert isinstance(waiting.exception(), SandboxClosedError)
    pool.release(held)


def test_closing_while_all_are_being_made_leaves_none(fill: Fill) -> None:
    pool = fill(20)
    pool.close()
    assert (pool.idle, pool.in_use) == (0, 0)
    assert not [name for name in descriptors() if "kvm-vm" in name]


def descriptors() -> list[str]:
    """What this process's descriptors are; proc_pid_fd(5)."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{number}"))
        except FileNotFoundError:  # the descriptor of the folder itself
            continue
    return found


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_of_the_process_is_refused(fill: Fill) -> None:
    pool = fill(1)
    child = os.fork()
    if not child:  # pragma: no cover - in the child
        try:
            pool.close()
            pool.acquire()
        except StateError as error:
            os._exit(7 if "children" in str(error) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    with pool.sandbox() as sandbox:
        assert sandbox.call("count") == 2


# ---- many threads --------------------------------------------------------------------------------


def test_more_threads_than_sandboxes_each_find_a_fresh_one(fill: Fill) -> None:
    """Some crash theirs and some kill theirs; there are never more than the pool may have."""
    pool = fill(4, warm=2)
    most = 0
    lock = threading.Lock()

    def use(number: int) -> int:
        nonlocal most
        with pool.sandbox(timeout=60) as sandbox:
            with lock:
                most = max(most, pool.in_use)
            value: int = sandbox.call("count")
            if number % 5 == 0:
                crash(sandbox)
            if number % 7 == 0:
                sandbox.kill()
            return value

    with ThreadPoolExecutor(16) as threads:
        assert set(threads.map(use, range(200))) == {2}
    assert most <= 4
    assert pool.idle <= 4
    assert pool.in_use == 0
