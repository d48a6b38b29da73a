"""A generic runtime is loaded first and user code later; then back to the runtime, and other code.

The guest is booted once. Loading code, running it and rolling back happen in place.
"""

from __future__ import annotations

from dataclasses import dataclass

from hyperlight_core.guests import find_guest
from hyperlight_core.machine import CallContext, MachineSpec
from hyperlight_core.states import (
    NOTHING,
    DevolvableSandbox,
    EvolvableSandbox,
    Nothing,
    State,
    Transition,
    Use,
)


@dataclass(frozen=True)
class LoadCode(Transition):
    """What loading needs to know: the source that defines `handle`."""

    source: str

    def move(self, calls: CallContext) -> None:
        """Run the source in the guest; if it fails, the runtime stays as it was."""
        reply = calls.call("run", {"code": self.source})
        if reply.result["exit_code"]:
            raise ValueError(reply.stderr.decode())


class Runtime(State, EvolvableSandbox["UserCode", LoadCode]):
    """An interpreter and nothing else."""


class UserCode(State, DevolvableSandbox[Runtime, Nothing], use=Use.RESET):
    """The interpreter with one user's code; every call finds it as it was loaded."""

    def handle(self, event: object) -> object:
        """Call the user's `handle`."""
        return self.call("call", {"function": "handle", "args": [event]}).result["value"]


GREET = "def handle(event): return f'hello {event}'"
COUNT = """
seen = []
def handle(event):
    seen.append(event)
    return len(seen)
"""


def main() -> None:
    """The story, line by line."""
    runtime = Runtime.start(MachineSpec(find_guest("python"), cache=True))
    greeter = runtime.evolve(LoadCode(GREET))
    print("first user:", greeter.handle("world"))

    runtime = greeter.devolve(NOTHING)
    counter = runtime.evolve(LoadCode(COUNT))
    print("second user:", counter.handle("a"), counter.handle("b"), "- reset after every call")

    runtime = counter.devolve(NOTHING)
    try:
        runtime.evolve(LoadCode("def handle(event) return 1"))
    except ValueError as error:
        print("third user:", str(error).splitlines()[-1])
    print("the runtime is", runtime.status)
    runtime.close()


if __name__ == "__main__":
    main()
