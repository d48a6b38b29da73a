"""The sandbox pool: clones of one sandbox, kept warm and handed out one at a time."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from typing_extensions import Self

from hyperlight_core.errors import (
    ConfigurationError,
    HyperlightError,
    PoolExhaustedError,
    SandboxClosedError,
    StateError,
)
from hyperlight_core.sandbox import Sandbox

__all__ = ["SandboxPool"]

#: Most of what making one takes is waiting for the kernel, so more than there are cores.
_MAKERS = 4

_log = logging.getLogger(__name__)


class SandboxPool:
    """Clones of one sandbox, each as that one was when the pool was made; any threads may use it.

    A sandbox that comes back is reset before anyone else gets it; one that comes back poisoned,
    closed or still running is closed, and another takes its place. It belongs to the process that
    made it: after a fork, the child makes its own.

    Args:
        origin: what to clone, with whatever its runs have prepared; the pool closes it.
        size: the most sandboxes there are at once, the origin not counted.
        warm: how many are made ahead of need, in the background; None for all of them.

    Raises:
        ConfigurationError: `size` is not positive, or `warm` not between 0 and `size`.
        StateError: the origin is poisoned or closed.
    """

    def __init__(self, origin: Sandbox, *, size: int, warm: int | None = None) -> None:
        self._warm = size if warm is None else warm
        if not (size > 0 and 0 <= self._warm <= size):
            raise ConfigurationError(f"size={size}, warm={warm}: no pool has that many sandboxes")
        self.size = size
        self._origin = origin
        self._start = origin.snapshot()
        self._process = os.getpid()
        self._closed = False
        self._changed = threading.Condition()
        # The last to come back is the first to go out: its memory is in the caches.
        self._idle: list[Sandbox] = []
        self._in_use: set[Sandbox] = set()
        self._in_making = 0
        self._makers = ThreadPoolExecutor(min(size, _MAKERS), "hyperlight-pool")
        with self._changed:
            self._make_ahead()

    # ---- use -----------------------------------------------------------------------------------

    @contextmanager
    def sandbox(self, timeout: float | None = None) -> Iterator[Sandbox]:
        """A sandbox for the length of a with statement; raises what `acquire` raises."""
        sandbox = self.acquire(timeout)
        try:
            yield sandbox
        finally:
            self.release(sandbox)

    def acquire(self, timeout: float | None = None) -> Sandbox:
        """A sandbox that nobody else has, until `release`; `sandbox` is the safer way.

        Args:
            timeout: seconds to wait while all of them are in use; None for no limit.

        Raises:
            PoolExhaustedError: none came back in time.
            SandboxClosedError: the pool is closed, or was closed meanwhile.
            StateError: the pool belongs to another process.
            HyperlightError: a sandbox had to be made and could not; as for `Sandbox.clone`.
        """
        self._check_process()
        with self._changed:
            came = self._changed.wait_for(
                lambda: self._closed or self._idle or self._room(), timeout
            )
            if self._closed:
                raise SandboxClosedError("the pool is closed")
            if not came:
                raise PoolExhaustedError(
                    f"none of the pool's {self.size} sandboxes came back within {timeout} s"
                )
            if self._idle:
                sandbox = self._idle.pop()
                self._in_use.add(sandbox)
                self._make_ahead()
                return sandbox
            self._in_making += 1
        return self._make(in_use=True)

    def release(self, sandbox: Sandbox) -> None:
        """Give back what `acquire` gave; it is used no more, and nothing in it is left.

        Raises:
            StateError: it is not in use, or not of this pool.
        """
        self._check_process()
        with self._changed:
            if sandbox not in self._in_use:
                raise StateError("this sandbox was not handed out by this pool, or is back already")
            self._in_use.remove(sandbox)
            self._in_making += 1
            keep = not self._closed
        keep = keep and _reset(sandbox)
        with self._changed:
            self._in_making -= 1
            keep = keep and not self._closed
            if keep:
                self._idle.append(sandbox)
            self._make_ahead()
            self._changed.notify()
        if not keep:
            _close(sandbox)

    @property
    def idle(self) -> int:
        """How many sandboxes wait to be handed out."""
        return len(self._idle)

    @property
    def in_use(self) -> int:
        """How many sandboxes are handed out."""
        return len(self._in_use)

    # ---- making --------------------------------------------------------------------------------

    def _room(self) -> int:
        """How many more there may be."""
        return self.size - len(self._idle) - len(self._in_use) - self._in_making

    def _make_ahead(self) -> None:
        """Have as many made as are missing; the caller has the lock."""
        missing = self._warm - len(self._idle) - self._in_making
        for _ in range(0 if self._closed else min(missing, self._room())):
            self._in_making += 1
            self._makers.submit(self._make_warm)

    def _make_warm(self) -> None:
        try:
            self._make(in_use=False)
        except Exception:  # noqa: BLE001 - whatever a plugin raises
            # Whoever needs it makes it, and then meets the error itself.
            _log.exception("a sandbox of a pool could not be made ahead of need")

    def _make(self, *, in_use: bool) -> Sandbox:
        """A new sandbox; `_in_making` counts it already."""
        made: list[Sandbox] = []
        try:
            made.append(self._origin.clone(self._start))
        finally:
            with self._changed:
                self._in_making -= 1
                closed = self._closed
                if not closed:
                    (self._in_use.update if in_use else self._idle.extend)(made)
                self._changed.notify()
        if closed:
            _close(made[0])
            if in_use:
                raise SandboxClosedError("the pool was closed meanwhile")
        return made[0]

    # ---- end -----------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the idle ones and the origin; a second call does nothing.

        Whoever waits gets SandboxClosedError. Sandboxes in use stay with their users, and are
        closed when they come back. In a child of the process that made the pool: does nothing.
        """
        if self._process != os.getpid():
            return
        with self._changed:
            self._closed = True
            idle, self._idle = self._idle, []
            self._changed.notify_all()
        self._makers.shutdown(cancel_futures=True)
        with ThreadPoolExecutor(_MAKERS) as closers:
            list(closers.map(_close, [*idle, self._origin]))

    def _check_process(self) -> None:
        if self._process != os.getpid():
            raise StateError("the pool belongs to the process that made it, not to its children")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _reset(sandbox: Sandbox) -> bool:
    """Whether it is as new."""
    if sandbox.status != "ready":
        return False
    try:
        sandbox.reset()
    except HyperlightError:
        _log.warning("a sandbox of a pool could not be reset and is replaced", exc_info=True)
        return False
    return True


def _close(sandbox: Sandbox) -> None:
    """Whatever a plugin says to it: the others must be closed, too."""
    try:
        sandbox.close()
    except HyperlightError:
        _log.warning("closing a sandbox of a pool", exc_info=True)
