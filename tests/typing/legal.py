"""What both type checkers must accept, with the types they must infer."""

from __future__ import annotations

from typing_extensions import assert_type

from hyperlight_core.machine import CallContext, MachineSpec
from hyperlight_core.states import NOTHING, GuestCallback, Mark, Sandbox, StateSnapshot
from tests.typing.chain import Load, Loaded, Runtime, Tenant


def callback(calls: CallContext) -> object:
    """Calls into the guest."""
    return calls.call("stop").result


def moves(spec: MachineSpec) -> None:
    """Forwards and backwards."""
    runtime = Runtime.start(spec)
    assert_type(runtime, Runtime)
    loaded = runtime.evolve(Load("/lib.so"))
    assert_type(loaded, Loaded)
    tenant = loaded.evolve(NOTHING)
    assert_type(tenant, Tenant)
    assert_type(tenant.handle("x"), str)
    back = tenant.devolve(NOTHING)
    assert_type(back, Loaded)
    assert_type(back.devolve(GuestCallback(callback)), Runtime)


def places(runtime: Runtime, tenant: Tenant) -> None:
    """Marks, snapshots and clones know their state."""
    mark = runtime.mark()
    assert_type(mark, Mark[Runtime])
    assert_type(tenant.roll_back(mark), Runtime)
    snapshot = tenant.snapshot()
    assert_type(snapshot, StateSnapshot[Tenant])
    tenant.restore(snapshot)
    assert_type(tenant.clone(), Tenant)
    with runtime as same:
        assert_type(same, Runtime)


def any_sandbox(sandbox: Sandbox) -> str:
    """Takes every state of every chain."""
    return sandbox.status


def protocol(runtime: Runtime, tenant: Tenant) -> list[str]:
    """A state has what any sandbox has."""
    return [any_sandbox(runtime), any_sandbox(tenant)]
