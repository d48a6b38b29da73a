"""Five states of one sandbox, each with host functions of its own, and the way back."""

from __future__ import annotations

from dataclasses import dataclass

from hyperlight_core.guests import find_guest
from hyperlight_core.machine import CallContext, MachineSpec
from hyperlight_core.states import (
    NOTHING,
    Boot,
    DevolvableSandbox,
    EvolvableSandbox,
    GuestCallback,
    Nothing,
    State,
    Transition,
)

PROBE = """
import hyperlight
def probe(names):
    reached = []
    for name in names:
        try:
            hyperlight.call(name)
        except hyperlight.MethodNotFoundError:
            continue
        reached.append(name)
    return reached
"""


@dataclass(frozen=True)
class LoadLibrary(Transition):
    """Asks the host for a library's source, which only the state before it may do."""

    name: str

    def move(self, calls: CallContext) -> None:
        """Fetch and run it inside the guest."""
        code = f"import hyperlight\nexec(hyperlight.tools.library(name={self.name!r}))"
        calls.call("run", {"code": code})


@dataclass(frozen=True)
class LoadTenant(Transition):
    """One tenant's code."""

    source: str

    def move(self, calls: CallContext) -> None:
        """Run it inside the guest."""
        calls.call("run", {"code": self.source})


class Uninitialised(State, EvolvableSandbox["Booted", Boot]):
    """Loaded, but has not run: nothing to call, nothing within reach."""


class Booted(State, EvolvableSandbox["Warm", GuestCallback], functions=["tools.clock"]):
    """The interpreter waits; it may ask the time."""

    def entered(self, calls: CallContext) -> None:
        """Give the guest the means to say what it reaches."""
        calls.call("run", {"code": PROBE})


class Warm(State, EvolvableSandbox["Library", LoadLibrary], functions=["tools.library"]):
    """Modules are imported; libraries may be fetched."""


class Library(State, EvolvableSandbox["Tenant", LoadTenant], functions=["tools.settings"]):
    """The library is loaded; settings may be read."""


class Tenant(State, DevolvableSandbox[Library, Nothing], functions=["tools.lookup"]):
    """A tenant's code runs; of all the functions it has one."""


def clock() -> str:
    """The time, as far as this example cares."""
    return "noon"


def library(name: str = "") -> str:
    """The source of a library."""
    return f"def {name or 'empty'}(x): return 2 * x"


def settings() -> dict[str, str]:
    """What the library is configured with."""
    return {"mode": "demo"}


def lookup(sku: str = "") -> str:
    """The tenant's one ability."""
    return f"price of {sku}"


def show(state: State) -> None:
    """Print what the guest itself finds within reach."""
    names = [f"tools.{tool.__name__}" for tool in (clock, library, settings, lookup)]
    found = state.call("call", {"function": "probe", "args": [names]}).result["value"]
    print(f"{type(state).__name__}: {', '.join(found) or 'nothing'}")


def main() -> None:
    """Forward through all five, and back."""
    guest = find_guest("python")
    tools = {tool.__name__: tool for tool in (clock, library, settings, lookup)}
    spec = MachineSpec(guest, plugins={"tools": {"functions": tools}})

    uninitialised = Uninitialised.start(spec, boot=False)
    print("Uninitialised: nothing runs yet")
    booted = uninitialised.evolve(Boot(guest.boot))
    show(booted)
    warm = booted.evolve(GuestCallback(lambda calls: calls.call("run", {"code": "import json"})))
    show(warm)
    warm_again = warm.mark()
    library_loaded = warm.evolve(LoadLibrary("double"))
    show(library_loaded)
    tenant = library_loaded.evolve(LoadTenant("def total(x): return double(x) + 1"))
    show(tenant)
    print("total(20) =", tenant.call("call", {"function": "total", "args": [20]}).result["value"])

    library_loaded = tenant.devolve(NOTHING)
    show(library_loaded)
    show(library_loaded.roll_back(warm_again))
    library_loaded.close()


if __name__ == "__main__":
    main()
