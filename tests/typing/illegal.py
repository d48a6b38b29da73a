"""What both type checkers must refuse: each comment that ignores an error is itself checked.

mypy reports an ignore that is not needed, and so does pyright; a line below that passes therefore
fails the test.
"""

from __future__ import annotations

from hyperlight_core.machine import MachineSpec
from hyperlight_core.states import (
    NOTHING,
    DevolvableSandbox,
    EvolvableSandbox,
    GuestCallback,
    Nothing,
    State,
)
from tests.typing.chain import Load, Loaded, Runtime, Tenant


def metadata_of_another_type(runtime: Runtime, loaded: Loaded) -> None:
    """Each move has its own."""
    runtime.evolve(NOTHING)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    runtime.evolve("/lib.so")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    runtime.evolve()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    loaded.devolve(NOTHING)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def metadata_that_lacks_what_the_move_needs() -> None:
    """It is a typed value."""
    Load()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Load(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    GuestCallback(len)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def moves_nobody_declared(runtime: Runtime, tenant: Tenant) -> None:
    """The first state has nothing behind it, the last one nothing before it."""
    runtime.devolve(NOTHING)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    tenant.evolve(NOTHING)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


def methods_of_another_state(runtime: Runtime, loaded: Loaded, tenant: Tenant) -> None:
    """A move's result has its own, and those of the state before are gone."""
    runtime.handle("x")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    loaded.evolve(NOTHING).version()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    tenant.devolve(NOTHING).handle("x")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    tenant.roll_back(runtime.mark()).handle("x")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


def results_taken_for_another_state(runtime: Runtime, tenant: Tenant) -> None:
    """Where a move leads is known."""
    _forwards: Tenant = runtime.evolve(Load("x"))  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    _backwards: Runtime = tenant.devolve(NOTHING)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]


def snapshots_of_another_state(runtime: Runtime, tenant: Tenant) -> None:
    """A snapshot knows its state."""
    tenant.restore(runtime.snapshot())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def starts_without_a_spec() -> None:
    """A state is not made from nothing."""
    Runtime.start()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Runtime(MachineSpec)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


class ToNoState(State, EvolvableSandbox[int, Nothing]):  # type: ignore[type-var]  # pyright: ignore[reportInvalidTypeArguments]
    """Leads to what is no state."""


class WithNoMetadata(State, DevolvableSandbox[Runtime, str]):  # type: ignore[type-var]  # pyright: ignore[reportInvalidTypeArguments]
    """Needs what is no metadata."""
