"""Lets other threads that work for a host call have the thread that answers it call the guest."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import ContextVar
from typing import Any, TypeVar

from typing_extensions import Self

from hyperlight_core.errors import SandboxBusyError

__all__ = ["Handover"]

_T = TypeVar("_T")
_current: ContextVar[Handover | None] = ContextVar("hyperlight_handover", default=None)


class Handover:
    """What a host function uses that waits for work it has started elsewhere.

    Threads and tasks started within its `with` statement, which have a copy of the context, call
    the sandbox as if they were the thread that made this; that one does it in `perform`. At the end
    of the statement, calls that still wait fail.

    Attributes:
        owner: identifier of the thread that made it.
    """

    def __init__(self) -> None:
        self.owner = threading.get_ident()
        self._lock = threading.Lock()
        self._asked: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    @staticmethod
    def to(owner: int | None) -> Handover | None:
        """The one through which this thread reaches the thread `owner`, if it works for it."""
        found = _current.get()
        other = found is not None and found.owner == owner and owner != threading.get_ident()
        return found if other else None

    def __enter__(self) -> Self:
        self._token = _current.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)
        with self._lock:
            descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)
        for future, _work in self._asked:
            future.set_exception(_over())

    def fileno(self) -> int:
        """A descriptor that polls readable when there is something to perform, and after `wake`."""
        return self._descriptor

    def wake(self) -> None:
        """End a wait for the descriptor; any thread."""
        with self._lock:
            if self._descriptor >= 0:
                os.eventfd_write(self._descriptor, 1)

    def do(self, work: Callable[[], _T]) -> _T:
        """Have the owner do `work`, and wait for it; what it returns or raises.

        Raises:
            SandboxBusyError: the host call is over, or waiting would stop an event loop, which the
                work may need.
        """
        if _runs_a_loop():
            raise SandboxBusyError("a coroutine calls back with asyncio.to_thread(sandbox.call, …)")
        future: Future[_T] = Future()
        with self._lock:
            if self._descriptor < 0:
                raise _over()
            self._asked.append((future, work))
            os.eventfd_write(self._descriptor, 1)
        return future.result()

    def perform(self) -> None:
        """Do what was asked for; the owner calls this once the descriptor is readable."""
        os.eventfd_read(self._descriptor)
        while self._asked:
            future, work = self._asked.popleft()
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)
                if not isinstance(error, Exception):
                    raise


def _over() -> SandboxBusyError:
    return SandboxBusyError("the host call is over for which this thread has worked")


def _runs_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
