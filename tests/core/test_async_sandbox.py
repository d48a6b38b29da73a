"""AsyncSandbox over a real native guest, under asyncio and trio."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from hyperlight_core import GuestFunctionError, SandboxKilledError
from hyperlight_core.async_sandbox import AsyncSandbox

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
