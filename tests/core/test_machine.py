"""The machine: one user at a time, poison, snapshots with plugins, and an end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from hyperlight_core.calls import Limits
from hyperlight_core.errors import (
    ConfigurationError,
    GuestCrashedError,
    GuestExitedError,
    GuestFunctionError,
    PluginError,
    SandboxBusyError,
    SandboxClosedError,
    SandboxConsumedError,
    SandboxKilledError,
    SandboxPoisonedError,
    SandboxTimeoutError,
    StateError,
)
from hyperlight_core.functions import HostFunction, Model
from hyperlight_core.hookspecs import SnapshotToken, hookimpl
from hyperlight_core.machine import Machine, MachineSpec
from hyperlight_core.testing import (
    FAKE_CONFIG,
    FakeVm,
    FunctionGuest,
    HostCall,
    fake_spec,
    leave,
)
from hyperlight_core.vm import CONTROL_ADDRESS, Exit, ExitKind, VmConfig
from tests.core.moments import once_running


class Nothing(Model):
    """No parameters, no result."""


class Probe:
    """A plugin that remembers what it was told, and whose handle is a number."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.handle = 0
        self.failing = ""
        self.machine: Machine | None = None

    @hookimpl
    def host_functions(self) -> list[HostFunction]:
        return [HostFunction("probe.reenter", self.reenter, Nothing, Nothing)]

    def reenter(self, request: Nothing) -> Nothing:
        """Do from within a host call what only its caller may do."""
        assert self.machine is not None
        with pytest.raises(SandboxBusyError), self.machine.using():
            pass
        with pytest.raises(SandboxBusyError):
            self.machine.close()
        return request

    def note(self, what: str) -> None:
        self.told.append(what)
        if self.failing == what:
            raise RuntimeError(f"{what} fails")

    @hookimpl
    def snapshot_taken(self, snapshot: SnapshotToken) -> None:
        self.note("taken")
        snapshot.plugin_state["probe"] = self.handle

    @hookimpl
    def snapshot_restored(self, snapshot: SnapshotToken) -> None:
        self.note("restored")
        self.handle = snapshot.plugin_state.get("probe", 0)

    @hookimpl
    def closed(self) -> None:
        self.note("closed")


def count(vm: FakeVm, _params: object) -> int:
    vm.state["count"] = vm.state.get("count", 0) + 1
    return int(vm.state["count"])


def spin(_vm: FakeVm, _params: object) -> Iterator[None]:
    while True:
        yield None


def crash(_vm: FakeVm, _params: object) -> Iterator[Exit]:
    yield leave(ExitKind.FAULT)


def fail(_vm: FakeVm, _params: object) -> None:
    raise GuestFunctionError("no")


def reenter(_vm: FakeVm, _params: object) -> Iterator[HostCall]:
    yield HostCall("probe.reenter")


GUEST = FunctionGuest(
    {"count": count, "spin": spin, "crash": crash, "fail": fail, "reenter": reenter}
)


def spec(**options: Any) -> MachineSpec:
    return fake_spec(GUEST, **options)


@pytest.fixture
def probe() -> Probe:
    return Probe()


@pytest.fixture
def machine(probe: Probe) -> Iterator[Machine]:
    """A booted machine with the probe."""
    with Machine.booted(spec(plugins={"probe": probe}))[0] as machine:
        machine.grant(machine.plugins.table)
        probe.machine = machine
        yield machine


def call(machine: Machine, method: str, **limits: Any) -> Any:
    with machine.using() as calls:
        return calls.call(method, limits=Limits(**limits) if limits else None).result


# ---- one at a time -----------------------------------------------------------------------------


def test_a_second_thread_waits(machine: Machine) -> None:
    order: list[str] = []

    def second() -> None:
        with machine.using():
            order.append("second")

    with machine.using():
        thread = threading.Thread(target=second)
        thread.start()
        assert machine.status == "running"
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert machine.status == "ready"


def test_the_same_thread_is_refused_and_not_locked_up(machine: Machine) -> None:
    with machine.using(), pytest.raises(SandboxBusyError), machine.using():
        pass
    call(machine, "reenter")
    assert call(machine, "count") == 1


def test_a_context_is_of_no_use_afterwards(machine: Machine) -> None:
    with machine.using() as calls:
        pass
    with pytest.raises(StateError):
        calls.call("count")


def test_many_threads_share_a_machine(machine: Machine) -> None:
    results: list[int] = []
    threads = [
        threading.Thread(target=lambda: results.append(call(machine, "count"))) for _ in range(32)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == list(range(1, 33))


def test_only_the_current_state_may_use_it(machine: Machine) -> None:
    machine.current = object()
    with pytest.raises(SandboxConsumedError), machine.using("an earlier one"):
        pass


# ---- poison ------------------------------------------------------------------------------------


def poison(machine: Machine) -> None:
    with pytest.raises(GuestCrashedError):
        call(machine, "crash")


def test_a_crash_poisons_until_a_restore(machine: Machine) -> None:
    with machine.using():
        start = machine.snapshot()
    for _ in range(3):
        poison(machine)
        assert machine.status == "poisoned"
        with pytest.raises(SandboxPoisonedError, match="GuestCrashedError") as caught:
            call(machine, "count")
        assert isinstance(caught.value.__cause__, GuestCrashedError)
        with machine.using(poisoned=True):
            machine.restore(start)
        assert machine.status == "ready"
        assert call(machine, "count") == 1
        with machine.using():
            machine.restore(start)


def test_a_breached_limit_poisons(machine: Machine) -> None:
    with pytest.raises(SandboxTimeoutError):
        call(machine, "spin", timeout=0.01)
    assert machine.status == "poisoned"


def test_an_error_of_the_guests_function_does_not_poison(machine: Machine) -> None:
    with pytest.raises(GuestFunctionError):
        call(machine, "fail")
    assert call(machine, "count") == 1


def test_a_kill_while_idle_poisons(machine: Machine) -> None:
    machine.kill()
    assert machine.status == "poisoned"
    with pytest.raises(SandboxPoisonedError, match="SandboxKilledError"):
        call(machine, "count")


def test_a_kill_stops_a_call_in_progress(machine: Machine) -> None:
    once_running(machine, machine.kill)
    with pytest.raises(SandboxKilledError):
        call(machine, "spin")
    assert machine.status == "poisoned"


# ---- snapshots ---------------------------------------------------------------------------------


def test_a_restore_brings_back_guest_memory_and_handles(machine: Machine, probe: Probe) -> None:
    probe.handle = 7
    with machine.using() as calls:
        calls.write(CONTROL_ADDRESS + 5, b"kept")
        snapshot = machine.snapshot()
        probe.handle = 8
        calls.write(CONTROL_ADDRESS + 5, b"lost")
        machine.restore(snapshot)
        assert calls.read(CONTROL_ADDRESS + 5, 4) == b"kept"
    assert probe.handle == 7


def test_a_snapshot_of_another_guest_names_the_difference(machine: Machine) -> None:
    with Machine.booted(fake_spec(FunctionGuest({})))[0] as other, other.using():
        foreign = other.snapshot()
    with machine.using(), pytest.raises(ConfigurationError, match="another guest"):
        machine.restore(foreign)
    assert machine.status == "ready"


@pytest.mark.parametrize("field", ["memory", "in_size", "out_size", "console_size"])
def test_a_snapshot_of_another_size_names_the_difference(machine: Machine, field: str) -> None:
    config = VmConfig(**{**vars(FAKE_CONFIG), field: 2 * getattr(FAKE_CONFIG, field)})
    with Machine.booted(spec(config=config))[0] as other, other.using():
        foreign = other.snapshot()
    with machine.using(), pytest.raises(ConfigurationError, match=f"{field}="):
        machine.restore(foreign)
    assert call(machine, "count") == 1


def test_a_plugin_that_fails_to_restore_poisons(machine: Machine, probe: Probe) -> None:
    with machine.using():
        snapshot = machine.snapshot()
        probe.failing = "restored"
        with pytest.raises(PluginError, match="restored fails"):
            machine.restore(snapshot)
    with pytest.raises(SandboxPoisonedError):
        call(machine, "count")
    probe.failing = ""
    with machine.using(poisoned=True):
        machine.restore(snapshot)
    assert call(machine, "count") == 1


# ---- beginning and end -------------------------------------------------------------------------


def test_the_guest_starts_before_any_plugin(probe: Probe) -> None:
    """What is kept of the start holds nothing of a sandbox."""
    machine, start = Machine.booted(spec(plugins={"probe": probe}))
    machine.close()
    assert start.token.plugin_state == {}
    assert probe.told == ["restored", "closed"]


def test_a_booted_machine_goes_on_in_the_vm_its_guest_started_in() -> None:
    made: list[FakeVm] = []

    def noting(vm: FakeVm) -> Iterator[Exit | None]:
        made.append(vm)
        yield from ()

    with Machine.booted(fake_spec(noting))[0] as machine:
        assert made == [machine.vm]


def test_a_plugin_that_refuses_lets_go_of_the_vm_that_has_booted() -> None:
    made: list[FakeVm] = []

    def noting(vm: FakeVm) -> Iterator[Exit | None]:
        made.append(vm)
        yield from ()

    with pytest.raises(ConfigurationError, match="not installed"):
        Machine.booted(fake_spec(noting, plugins={"missing": {}}))
    with pytest.raises(StateError, match="closed"):
        made[0].run()


def test_a_guest_that_does_not_start_lets_go_of_everything(probe: Probe) -> None:
    made: list[FakeVm] = []

    def ending(vm: FakeVm) -> Iterator[Exit]:
        made.append(vm)
        yield leave(ExitKind.ENDED, 1)

    with pytest.raises(GuestExitedError):
        Machine.booted(fake_spec(ending, plugins={"probe": probe}))
    with pytest.raises(StateError, match="closed"):
        made[0].run()


def test_a_snapshot_that_does_not_fit_lets_go_of_everything(probe: Probe) -> None:
    with Machine.booted(fake_spec(FunctionGuest({})))[0] as other, other.using():
        foreign = other.snapshot()
    with pytest.raises(ConfigurationError):
        Machine(spec(plugins={"probe": probe}), foreign)
    assert probe.told == ["closed"]


def test_closing_is_told_once_and_refuses_every_use(machine: Machine, probe: Probe) -> None:
    threads = [threading.Thread(target=machine.close) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert probe.told.count("closed") == 1
    assert machine.status == "closed"
    with pytest.raises(SandboxClosedError):
        call(machine, "count")
    machine.kill()


def test_closing_stops_a_call_in_progress(machine: Machine) -> None:
    once_running(machine, machine.close)
    with pytest.raises(SandboxKilledError):
        call(machine, "spin")
    assert machine.status == "closed"


def test_a_plugin_that_fails_to_close_does_not_keep_the_vm(machine: Machine, probe: Probe) -> None:
    probe.failing = "closed"
    with pytest.raises(PluginError, match="closed fails"):
        machine.close()
    with pytest.raises(StateError, match="closed"):
        machine.vm.run()
