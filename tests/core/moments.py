"""Does something from another thread at a moment that is known, not guessed by a timer."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Protocol


class HasStatus(Protocol):
    """A sandbox, a state or a machine."""

    @property
    def status(self) -> str:
        """One of "ready", "running" and others."""


def once_running(target: HasStatus, action: Callable[[], object]) -> None:
    """Do it as soon as somebody uses `target`."""

    def wait_and_act() -> None:
        while target.status != "running":
            os.sched_yield()
        action()

    threading.Thread(target=wait_and_act, daemon=True).start()
