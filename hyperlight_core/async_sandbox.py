"""The sandbox for asyncio and trio: each use waits in a worker thread, and cancelling it kills."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from os import PathLike
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from typing_extensions import Self

from hyperlight_core.errors import PoolExhaustedError
from hyperlight_core.pool import SandboxPool
from hyperlight_core.sandbox import RunResult, Sandbox, Snapshot

__all__ = ["AsyncSandbox", "AsyncSandboxPool"]

_T = TypeVar("_T")


class AsyncSandbox:
    """A Sandbox whose methods are awaited; made with `await AsyncSandbox.create(...)`.

    Where a task is cancelled while it waits for the guest, the guest is killed, the worker thread
    has ended before the cancellation goes on, and the sandbox is poisoned: reset or close it.

    Args:
        sandbox: the sandbox to use; from now on only through this object.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    @classmethod
    async def create(cls, *args: Any, **kwargs: Any) -> Self:
        """A new sandbox; arguments and exceptions are those of Sandbox."""
        return cls(await anyio.to_thread.run_sync(partial(Sandbox, *args, **kwargs)))

    async def run(
        self, code: str | bytes | PathLike[str], *, argv: list[str] | None = None
    ) -> RunResult:
        """See Sandbox.run."""
        return await self._wait(partial(self._sandbox.run, code, argv=argv))

    async def call(self, function: str, /, *args: Any, **kwargs: Any) -> Any:
        """See Sandbox.call."""
        return await self._wait(partial(self._sandbox.call, function, *args, **kwargs))

    async def snapshot(self) -> Snapshot:
        """See Sandbox.snapshot."""
        return await self._wait(self._sandbox.snapshot)

    async def restore(self, snapshot: Snapshot) -> None:
        """See Sandbox.restore."""
        await self._wait(partial(self._sandbox.restore, snapshot))

    async def reset(self) -> None:
        """See Sandbox.reset."""
        await self._wait(self._sandbox.reset)

    async def clone(self, snapshot: Snapshot | None = None) -> AsyncSandbox:
        """See Sandbox.clone."""
        return AsyncSandbox(await self._wait(partial(self._sandbox.clone, snapshot)))

    def kill(self) -> None:
        """See Sandbox.kill; returns at once."""
        self._sandbox.kill()

    async def close(self) -> None:
        """See Sandbox.close; also finishes when the task is being cancelled."""
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._sandbox.close)

    @property
    def status(self) -> str:
        """See Sandbox.status."""
        return self._sandbox.status

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _wait(self, work: Callable[[], _T]) -> _T:
        """Do `work` in a thread; on cancellation kill the guest and wait for the thread."""
        outcome: list[Callable[[], _T]] = []
        finished = anyio.Event()

        async def perform() -> None:
            with anyio.CancelScope(shield=True):
                outcome.append(await anyio.to_thread.run_sync(_captured, work))
                finished.set()

        async with anyio.create_task_group() as group:
            group.start_soon(perform)
            try:
                await finished.wait()
            except anyio.get_cancelled_exc_class():
                self._sandbox.kill()
                raise
        return outcome[0]()


class AsyncSandboxPool:
    """A SandboxPool whose sandboxes are AsyncSandboxes: `async with pool.sandbox() as sandbox`.

    Tasks wait for a sandbox in the event loop and take no thread for it.

    Args:
        pool: the pool to use; from now on only through this object.
    """

    def __init__(self, pool: SandboxPool) -> None:
        self._pool = pool
        self._places = anyio.Semaphore(pool.size)

    @asynccontextmanager
    async def sandbox(self, timeout: float | None = None) -> AsyncIterator[AsyncSandbox]:  # noqa: ASYNC109 - as SandboxPool.sandbox has it
        """See SandboxPool.sandbox; where a task is cancelled, its guest is killed and replaced."""
        await self._take_place(timeout)
        try:
            sandbox = await anyio.to_thread.run_sync(self._pool.acquire)
            try:
                yield AsyncSandbox(sandbox)
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(self._pool.release, sandbox)
        finally:
            self._places.release()

    async def _take_place(self, seconds: float | None) -> None:
        with anyio.move_on_after(seconds):
            await self._places.acquire()
            return
        raise PoolExhaustedError(
            f"none of the pool's {self._pool.size} sandboxes came back within {seconds} s"
        )

    async def close(self) -> None:
        """See SandboxPool.close; also finishes when the task is being cancelled."""
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._pool.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _captured(work: Callable[[], _T]) -> Callable[[], _T]:
    """A function that gives the result of `work`, or raises what it raised."""
    try:
        result = work()
    except Exception as error:  # noqa: BLE001 - raised again in the task that waits
        caught = error

        def fail() -> _T:
            raise caught

        return fail
    return lambda: result
