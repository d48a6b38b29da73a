"""AsyncSandbox over a real native guest, under asyncio and trio."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from hyperlight_core import (
    AsyncSandbox,
    AsyncSandboxPool,
    GuestFunctionError,
    PoolExhaustedError,
    Sandbox,
    SandboxKilledError,
    SandboxPool,
)

pytestmark = [pytest.mark.anyio, pytest.mark.kvm]

SOURCE = """
#include "hl_guest.h"
static uint64_t calls;
static void count(struct hl_request *request) { hl_json_uint(&request->result, ++calls); }
static void spin(struct hl_request *request) {
    (void)request;
    hl_print("spinning");
    for (;;) __asm__ volatile("");
}
static void fail(struct hl_request *request) { hl_reply_error(request, -32000, "no"); }
const struct hl_method hl_methods[] = {{"count", count}, {"spin", spin}, {"fail", fail}, {0}};
"""


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def guest(build_guest: Callable[[str], Path]) -> Path:
    return build_guest(SOURCE)


async def test_calls_reset_and_clone_are_awaited(guest: Path) -> None:
    async with await AsyncSandbox.create(guest, memory="16MiB") as sandbox:
        assert [await sandbox.call("count"), await sandbox.call("count")] == [1, 2]
        taken = await sandbox.snapshot()
        async with await sandbox.clone() as twin:
            assert await twin.call("count") == 3
        await sandbox.reset()
        assert await sandbox.call("count") == 1
        await sandbox.restore(taken)
        assert await sandbox.call("count") == 3
    assert sandbox.status == "closed"


async def test_exceptions_arrive_in_the_task(guest: Path) -> None:
    async with await AsyncSandbox.create(guest, memory="16MiB") as sandbox:
        with pytest.raises(GuestFunctionError, match="no"):
            await sandbox.call("fail")


async def test_cancelling_kills_the_guest_and_leaves_no_thread_in_it(guest: Path) -> None:
    started = threading.Event()
    async with await AsyncSandbox.create(
        guest, memory="16MiB", timeout=None, stream=lambda *_: started.set()
    ) as sandbox:
        async with anyio.create_task_group() as group:
            group.start_soon(sandbox.call, "spin")
            await anyio.to_thread.run_sync(started.wait)
            group.cancel_scope.cancel()
        assert sandbox.status == "poisoned"
        await sandbox.reset()
        assert await sandbox.call("count") == 1


async def test_a_kill_from_another_task_ends_the_call(guest: Path) -> None:
    started = threading.Event()
    async with (
        await AsyncSandbox.create(
            guest, memory="16MiB", timeout=None, stream=lambda *_: started.set()
        ) as sandbox,
        anyio.create_task_group() as group,
    ):

        async def kill() -> None:
            await anyio.to_thread.run_sync(started.wait)
            sandbox.kill()

        group.start_soon(kill)
        with pytest.raises(SandboxKilledError):
            await sandbox.call("spin")


# ---- pools ---------------------------------------------------------------------------------------


def pool_of(guest: Path, size: int) -> AsyncSandboxPool:
    return AsyncSandboxPool(SandboxPool(Sandbox(guest, memory="16MiB", timeout=None), size=size))


async def test_more_tasks_than_threads_share_two_sandboxes(guest: Path) -> None:
    """Waiting takes no thread: else those that wait would keep those that work from ending."""
    counts: list[int] = []
    async with pool_of(guest, 2) as pool, anyio.create_task_group() as group:

        async def use() -> None:
            async with pool.sandbox() as sandbox:
                counts.append(await sandbox.call("count"))

        for _ in range(60):
            group.start_soon(use)
    assert counts == [1] * 60


async def test_a_task_waits_for_a_sandbox_only_so_long(guest: Path) -> None:
    async with pool_of(guest, 1) as pool, pool.sandbox():
        with pytest.raises(PoolExhaustedError, match=r"0\.01 s"):
            async with pool.sandbox(timeout=0.01):
                pass


async def test_a_task_cancelled_in_a_pool_leaves_room_for_the_next(guest: Path) -> None:
    async with pool_of(guest, 1) as pool:
        async with anyio.create_task_group() as group:
            used: list[AsyncSandbox] = []

            async def spin() -> None:
                async with pool.sandbox() as sandbox:
                    used.append(sandbox)
                    await sandbox.call("spin")

            group.start_soon(spin)
            while not (used and used[0].status == "running"):
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        assert used[0].status == "closed"
        async with pool.sandbox() as sandbox:
            assert await sandbox.call("count") == 1
