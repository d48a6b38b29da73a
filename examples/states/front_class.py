"""The way most users meet a sandbox type: one friendly class over the states of another file."""

from __future__ import annotations

from types import TracebackType

from runtime_first import LoadCode, Runtime, UserCode
from typing_extensions import Self

from hyperlight_core.guests import find_guest
from hyperlight_core.machine import MachineSpec
from hyperlight_core.states import NOTHING


class HandlerSandbox:
    """Runs one user's `handle` after another's in the same micro-VM.

    >>> with HandlerSandbox() as sandbox:
    ...     sandbox.load("def handle(event): return event + 1")
    ...     sandbox.handle(41)
    42
    """

    def __init__(self) -> None:
        self._state: Runtime | UserCode = Runtime.start(
            MachineSpec(find_guest("python"), cache=True)
        )

    def load(self, source: str) -> None:
        """Replace whatever was loaded; raises ValueError if the source does not run."""
        runtime = self._state.devolve(NOTHING) if isinstance(self._state, UserCode) else self._state
        self._state = runtime
        self._state = runtime.evolve(LoadCode(source))

    def handle(self, event: object) -> object:
        """Give the loaded code an event; nothing of it is left for the next one."""
        if isinstance(self._state, Runtime):
            raise RuntimeError("load some code first")
        return self._state.handle(event)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._state.close()


if __name__ == "__main__":
    with HandlerSandbox() as sandbox:
        for source in ("def handle(event): return event + 1", "def handle(event): return -event"):
            sandbox.load(source)
            print(sandbox.handle(41))
