"""Runs calls off the sandbox's thread, so that a timeout or a kill ends the wait for them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import logging
import math
import select
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from hyperlight_core.errors import CallLimitError
from hyperlight_core.functions import HostCall
from hyperlight_core.handover import Handover

__all__ = ["EventLoop", "in_thread", "wait"]

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

#: Seconds that closing waits for coroutines to let themselves be cancelled.
_CLOSING = 1.0


def in_thread(name: str, work: Callable[[], _T]) -> Future[_T]:
    """Start `work` in a thread of its own, which keeps no interpreter from exiting."""
    future: Future[_T] = Future()

    def run() -> None:
        future.set_running_or_notify_cancel()
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 (whoever waits gets it, whatever it is)
            future.set_exception(error)

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(run,), name=name, daemon=True).start()
    return future


class EventLoop:
    """An event loop in a thread, started with the first coroutine."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: Future[None] | None = None

    def submit(self, coroutine: Coroutine[Any, Any, _T]) -> Future[_T]:
        """Run `coroutine` in the loop; cancelling the future cancels it."""
        if self._loop is None:
            self._loop = loop = asyncio.new_event_loop()
            self._ended = in_thread("async tools", lambda: _serve(loop))
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def close(self) -> None:
        """Cancel what still runs and end the thread; a coroutine that resists is left behind."""
        if self._loop is None or self._ended is None:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        if not concurrent.futures.wait([self._ended], _CLOSING).done:
            _log.warning("an async tool does not end after its cancellation")
        self._loop = self._ended = None


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


def wait(
    name: str, future: Future[_T], call: HostCall, timeout: float | None, handover: Handover
) -> _T:
    """The result of `future`, or what it raised; meanwhile its calls into the guest are made here.

    Args:
        name: what the guest knows the call by.
        future: what is waited for. Where the wait ends first, it is cancelled if it can be, and
            a late result is dropped.
        call: its deadline and a kill of its sandbox end the wait as well.
        timeout: seconds; None for no bound but these. It interrupts no call into the guest.
        handover: what `future` was started in.

    Raises:
        CallLimitError: the wait ended first.
    """
    ends = [call.deadline, None if timeout is None else time.monotonic() + timeout]
    end = min((moment for moment in ends if moment is not None), default=None)
    _await(future, call.wake_fd, end, handover)
    if future.done():
        return future.result()
    future.add_done_callback(lambda late: _drop(name, late))
    future.cancel()
    if call.cancelled:
        raise CallLimitError("the sandbox was killed", errno="ECANCELED")
    raise CallLimitError(f"{name} took too long", errno="ETIMEDOUT")


def _await(future: Future[_T], wake_fd: int, end: float | None, handover: Handover) -> None:
    future.add_done_callback(lambda _: handover.wake())
    poller = select.poll()
    poller.register(handover, select.POLLIN)
    if wake_fd >= 0:
        poller.register(wake_fd, select.POLLIN)
    while not future.done():
        remaining = None if end is None else max(0, math.ceil((end - time.monotonic()) * 1000))
        ready = [descriptor for descriptor, _ in poller.poll(remaining)]
        if ready != [handover.fileno()]:
            return
        handover.perform()


def _drop(name: str, future: Future[_T]) -> None:
    if not future.cancelled():
        _log.warning("%s ended too late, its result is dropped", name, exc_info=future.exception())
