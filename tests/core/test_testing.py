"""What this library offers to tests: fake VMs, guests from C source, fixtures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hyperlight_core.calls import GuestCalls
from hyperlight_core.errors import ConfigurationError, GuestImageError, StateError
from hyperlight_core.pytest_plugin import BuildGuest, MakeFakeVm
from hyperlight_core.table import HostFunctionTable
from hyperlight_core.testing import FAKE_CONFIG, FakeVm, FunctionGuest, build_guest
from hyperlight_core.vm import CONTROL_ADDRESS, ExitKind, VirtualMachine, Vm, VmConfig

pytest_plugins = ["pytester"]

EMPTY = "const struct hl_method hl_methods[] = {{0}};"


def nothing(_vm: FakeVm, _params: object) -> None:
    pass


# ---- the fake VM does as the real one ----------------------------------------------------------


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.kvm)])
def vm(request: pytest.FixtureRequest, build_guest: BuildGuest) -> Iterator[VirtualMachine]:
    """A booted VM of either kind; nothing below may tell them apart."""
    made: VirtualMachine
    if request.param == "fake":
        made = FakeVm(FunctionGuest({"f": nothing}))
    else:
        source = (
            "static void f(struct hl_request *request) { hl_json_null(&request->result); }\n"
            'const struct hl_method hl_methods[] = {{"f", f}, {0}};'
        )
        made = Vm(FAKE_CONFIG, build_guest(source).read_bytes())
    assert made.run().kind == ExitKind.PARK
    yield made
    made.close()


def test_both_answer(vm: VirtualMachine) -> None:
    assert GuestCalls(vm, HostFunctionTable()).call("f").result is None


def test_both_have_memory_with_bounds(vm: VirtualMachine) -> None:
    address = CONTROL_ADDRESS + 0x80000
    vm.write(address, b"hello")
    assert vm.read(address, 5) == b"hello"
    for outside in (-1, 0, CONTROL_ADDRESS - 1, CONTROL_ADDRESS + vm.config.memory):
        with pytest.raises(ConfigurationError):
            vm.read(outside, 1)
        with pytest.raises(ConfigurationError):
            vm.write(outside, b"x")


def test_both_have_buffers_of_the_configured_sizes(vm: VirtualMachine) -> None:
    sizes = [len(buffer) for buffer in vm.buffers]
    assert sizes == [FAKE_CONFIG.in_size, FAKE_CONFIG.out_size, FAKE_CONFIG.console_size]


def test_both_go_back_to_a_snapshot(vm: VirtualMachine) -> None:
    snapshot = vm.snapshot()
    vm.write(CONTROL_ADDRESS + 0x80000, b"x")
    vm.kill()
    vm.restore(snapshot)
    assert vm.read(CONTROL_ADDRESS + 0x80000, 1) == b"\0"
    assert GuestCalls(vm, HostFunctionTable()).call("f").result is None


def test_both_remember_a_kill(vm: VirtualMachine) -> None:
    vm.kill()
    assert [vm.run().kind for _ in range(2)] == [ExitKind.KILLED] * 2


def test_both_stop_at_a_deadline_in_the_past(vm: VirtualMachine) -> None:
    assert vm.run(1).kind in (ExitKind.TIMEOUT, ExitKind.PARK)


def test_both_refuse_use_after_the_end(vm: VirtualMachine) -> None:
    vm.close()
    vm.close()
    vm.kill()
    for use in (vm.run, vm.snapshot, lambda: vm.buffers, lambda: vm.read(CONTROL_ADDRESS, 1)):
        with pytest.raises(StateError, match="closed"):
            use()


def test_a_snapshot_of_another_configuration(fake_vm: MakeFakeVm) -> None:
    snapshot = fake_vm({}).snapshot()
    with pytest.raises(ConfigurationError):
        fake_vm({}, VmConfig(4 * 2**20, 65536, 65536, 4096)).restore(snapshot)


def test_what_a_fake_guest_remembers_is_copied(fake_vm: MakeFakeVm) -> None:
    vm = fake_vm({})
    vm.state["list"] = [1]
    snapshot = vm.snapshot()
    vm.state["list"].append(2)
    vm.restore(snapshot)
    assert vm.state["list"] == [1]


# ---- guests from C source ----------------------------------------------------------------------


def test_a_guest_is_compiled_once(build_guest: BuildGuest) -> None:
    first = build_guest(EMPTY)
    before = first.stat()
    assert build_guest(EMPTY) == first
    assert first.stat() == before
    assert build_guest(EMPTY, flags=("-DX",)) != first


def test_a_guest_that_does_not_compile(tmp_path: Path) -> None:
    with pytest.raises(GuestImageError, match="unknown_name"):
        build_guest("int f(void) { return unknown_name; }" + EMPTY, tmp_path)


# ---- fixtures ----------------------------------------------------------------------------------


@pytest.mark.kvm
def test_the_fixtures_in_a_test_suite_of_someone_elses(pytester: pytest.Pytester) -> None:
    """The installed entry point brings them."""
    pytester.makepyfile(
        """
        SOURCE = '''
        static void answer(struct hl_request *request) { hl_json_int(&request->result, 42); }
        const struct hl_method hl_methods[] = {{"answer", answer}, {0}};
        '''

        def test_native(sandbox, guest):
            assert sandbox(guest(SOURCE), memory="8MiB").call("answer") == 42

        def test_fake(fake_vm):
            assert fake_vm({"f": lambda vm, params: 1}).run().kind == 2
        """
    )
    pytester.runpytest().assert_outcomes(passed=2)
