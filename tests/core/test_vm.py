"""The micro-VM: memory with bounds, snapshots, kills, and an end."""

from __future__ import annotations

import gc
import multiprocessing
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hyperlight_core import wire
from hyperlight_core.errors import ConfigurationError, GuestImageError, StateError
from hyperlight_core.guests import GuestImage
from hyperlight_core.memory_snapshot import MemorySnapshot
from hyperlight_core.pytest_plugin import MakeGuest
from hyperlight_core.vm import CONTROL_ADDRESS, ExitKind, Vm, VmConfig

pytestmark = pytest.mark.kvm

CONFIG = VmConfig(8 * 2**20, 65536, 65536, 4096)
#: Behind the guest's program and before its stack.
MIDDLE = 0x500000


@pytest.fixture
def vm(hostile: GuestImage) -> Iterator[Vm]:
    """A VM whose guest waits for a request."""
    with booted(hostile) as vm:
        yield vm


def booted(guest: GuestImage) -> Vm:
    vm = Vm(CONFIG, guest.elf())
    assert vm.run().kind == ExitKind.PARK
    return vm


def ask(vm: Vm, method: str, **params: object) -> None:
    """Put a request into the guest's buffer."""
    vm.wrote(wire.write_frame(vm.buffers.to_guest, wire.request_text(method, params, 1)))


def count(vm: Vm) -> object:
    ask(vm, "count")
    assert vm.run().kind == ExitKind.PARK
    return wire.parse_response(wire.read_frame(vm.buffers.from_guest).text, 1).result


# ---- configuration -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        VmConfig(memory=0),
        VmConfig(memory=2**21 + 4096),
        VmConfig(memory=2**34 + 2**21),
        VmConfig(memory=2**21, in_size=2**20, out_size=2**20),
        VmConfig(in_size=0),
        VmConfig(out_size=4097),
        VmConfig(console_size=2**32 - 4096),
    ],
    ids=repr,
)
def test_sizes_that_cannot_be(config: VmConfig) -> None:
    with pytest.raises(ConfigurationError):
        Vm(config)


def test_an_image_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(GuestImageError, match="No such file"):
        Vm(CONFIG, image=tmp_path / "image")


def test_an_image_that_is_not_a_regular_file(tmp_path: Path) -> None:
    """Neither a device nor a folder nor a FIFO, which must not be waited for."""
    os.mkfifo(tmp_path / "fifo")
    for path in (Path("/dev/null"), tmp_path, tmp_path / "fifo"):
        with pytest.raises(ConfigurationError, match="not a regular file"):
            Vm(CONFIG, image=path)


def test_an_empty_image(tmp_path: Path) -> None:
    (tmp_path / "image").touch()
    with pytest.raises(ConfigurationError, match="image of 0 bytes"):
        Vm(CONFIG, image=tmp_path / "image")


def test_nothing_runs_before_something_is_loaded() -> None:
    with Vm(CONFIG) as vm, pytest.raises(StateError, match="nothing is loaded"):
        vm.run()


def test_a_failed_start_leaves_no_descriptor_open(hostile: GuestImage) -> None:
    booted(hostile).close()
    gc.collect()
    before = os.listdir("/proc/self/fd")
    for _ in range(20):
        with pytest.raises(GuestImageError):
            Vm(CONFIG, b"nonsense")
    assert len(os.listdir("/proc/self/fd")) == len(before)


# ---- memory ------------------------------------------------------------------------------------


def test_what_is_written_is_read(vm: Vm) -> None:
    vm.write(MIDDLE, b"hello")
    assert vm.read(MIDDLE - 1, 7) == b"\0hello\0"
    assert vm.read(MIDDLE, 0) == b""


@pytest.mark.parametrize(
    ("address", "size"),
    [
        (0, 1),
        (CONTROL_ADDRESS - 1, 1),
        (CONTROL_ADDRESS + CONFIG.memory - 1, 2),
        (CONTROL_ADDRESS, CONFIG.memory + 1),
        (2**64 - 1, 1),
        (2**64 - 1, 2**21),
        (2**64, 1),
        (-1, 1),
        (CONTROL_ADDRESS, -1),
        (CONTROL_ADDRESS, 2**70),
    ],
)
def test_memory_that_is_not_there(vm: Vm, address: int, size: int) -> None:
    with pytest.raises(ConfigurationError):
        vm.read(address, size)
    if 0 < size < 2**24:
        with pytest.raises(ConfigurationError):
            vm.write(address, bytes(size))


# ---- snapshots ---------------------------------------------------------------------------------


def test_a_restore_brings_back_memory_and_registers(vm: Vm) -> None:
    vm.write(MIDDLE, b"before")
    snapshot, registers = vm.snapshot(), vm.registers()
    memory = vm.read(CONTROL_ADDRESS, CONFIG.memory)
    for _ in range(3):
        assert count(vm) == 1
        vm.write(MIDDLE, b"after!")
        vm.restore(snapshot)
        assert vm.read(CONTROL_ADDRESS, CONFIG.memory) == memory
        assert vm.registers() == registers


def test_a_snapshot_restores_another_vm(vm: Vm) -> None:
    count(vm)
    snapshot = vm.snapshot()
    with Vm(CONFIG) as other:
        other.restore(snapshot)
        vm.close()
        assert [count(other), count(other)] == [2, 3]


def test_a_snapshot_of_another_configuration(vm: Vm) -> None:
    snapshot = vm.snapshot()
    other_config = VmConfig(CONFIG.memory, 2 * CONFIG.in_size, CONFIG.out_size, 4096)
    with Vm(other_config) as other, pytest.raises(ConfigurationError, match="buffers"):
        other.restore(snapshot)


def test_a_snapshot_travels_through_a_file(vm: Vm, tmp_path: Path) -> None:
    count(vm)
    state = tmp_path / "state"
    with (tmp_path / "memory").open("w+b") as file, state.open("xb") as state_file:
        vm.snapshot().save(file.fileno(), state_file.fileno())
        loaded = MemorySnapshot.load(CONFIG, file.fileno(), state.read_bytes())
        # A tenth of memory is not even written.
        assert os.fstat(file.fileno()).st_blocks * 512 < CONFIG.memory / 10
    with Vm(CONFIG) as other:
        other.restore(loaded)
        assert count(other) == 2


def test_a_reset_copies_only_what_was_written(vm: Vm) -> None:
    snapshot = vm.snapshot()
    for _ in range(3):
        count(vm)
        vm.restore(snapshot)
    before = vm.counters()
    count(vm)
    vm.restore(snapshot)
    after = vm.counters()
    assert after.resets == before.resets + 1
    assert after.restores == before.restores
    assert 0 < after.pages_copied - before.pages_copied < 20


def test_a_snapshot_holds_only_what_differs(vm: Vm) -> None:
    assert vm.snapshot().size > 0
    assert vm.snapshot().size == 0
    vm.write(MIDDLE, b"x")
    assert vm.snapshot().size == 4096


# ---- time and kills ----------------------------------------------------------------------------


def test_a_deadline_stops_the_guest(vm: Vm) -> None:
    ask(vm, "spin")
    deadline = time.monotonic_ns() + 20_000_000
    assert vm.run(deadline).kind == ExitKind.TIMEOUT
    assert time.monotonic_ns() >= deadline


def test_a_budget_stops_the_guest(vm: Vm) -> None:
    ask(vm, "spin")
    left = vm.run(cpu_ns=20_000_000)
    assert left.kind == ExitKind.CPU_TIME
    assert left.cpu_ns >= 20_000_000


def test_a_kill_from_another_thread_while_the_guest_runs(vm: Vm) -> None:
    """The other thread gets to run at all because the GIL is free meanwhile."""
    start = vm.snapshot()
    for _ in range(20):
        ask(vm, "spin")
        killer = threading.Thread(target=vm.kill)
        killer.start()
        assert vm.run().kind == ExitKind.KILLED
        killer.join()
        vm.restore(start)
        assert count(vm) == 1
        vm.restore(start)


def test_the_wake_descriptor_tells_of_a_kill_until_a_restore(vm: Vm) -> None:
    start = vm.snapshot()
    for early in (False, True):
        if early:
            vm.kill()
        poll = select.poll()
        poll.register(vm.wake_fd, select.POLLIN)
        assert bool(poll.poll(0)) is early
        vm.kill()
        assert poll.poll(0)
        vm.restore(start)
        assert not poll.poll(0)


def test_a_signal_is_handled_while_the_guest_runs(vm: Vm) -> None:
    """The run returns, so that Python runs its handler, and can be taken up again."""
    ask(vm, "spin")
    with pytest.raises(ZeroDivisionError):
        interrupted(vm)


def interrupted(vm: Vm) -> None:
    def handler(_number: int, _frame: object) -> None:
        raise ZeroDivisionError

    old = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        while vm.run(time.monotonic_ns() + 10**10).kind == ExitKind.SIGNAL:
            pass
    finally:
        signal.signal(signal.SIGALRM, old)


def timed_out(program: bytes) -> bool:
    with Vm(CONFIG, program) as vm:
        vm.run()
        ask(vm, "spin")
        return vm.run(time.monotonic_ns() + 1_000_000).kind == ExitKind.TIMEOUT


def test_time_outs_work_in_a_forked_process(hostile: GuestImage) -> None:
    assert timed_out(hostile.elf())
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(timed_out, (hostile.elf(),))


# ---- the end -----------------------------------------------------------------------------------


USES: dict[str, Callable[[Vm], object]] = {
    "run": Vm.run,
    "snapshot": Vm.snapshot,
    "registers": Vm.registers,
    "counters": Vm.counters,
    "buffers": lambda vm: vm.buffers,
    "wake_fd": lambda vm: vm.wake_fd,
    "read": lambda vm: vm.read(CONTROL_ADDRESS, 1),
    "write": lambda vm: vm.write(CONTROL_ADDRESS, b"x"),
    "wrote": lambda vm: vm.wrote(1),
    "set_table_version": lambda vm: vm.set_table_version(1),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_closed_vm_refuses_every_use(vm: Vm, use: Callable[[Vm], object]) -> None:
    vm.close()
    with pytest.raises(StateError, match="closed"):
        use(vm)


def test_closing_and_killing_a_closed_vm_does_nothing(vm: Vm) -> None:
    vm.close()
    vm.close()
    vm.kill()


def test_a_buffer_is_not_readable_after_the_end(vm: Vm) -> None:
    buffer = vm.buffers.to_guest
    vm.close()
    with pytest.raises(ValueError, match="released"):
        buffer[0]


def test_a_dropped_vm_gives_everything_back(hostile: GuestImage) -> None:
    booted(hostile).close()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        booted(hostile)
    assert len(os.listdir("/proc/self/fd")) == before


# ---- not a guest -------------------------------------------------------------------------------


def test_bytes_that_are_no_guest(hostile: GuestImage) -> None:
    elf = hostile.elf()
    patched = {
        "not an ELF file": b"#!/bin/sh\nexit 0\n" * 10,
        "32-bit": elf[:4] + b"\x01" + elf[5:],
        "another machine": elf[:18] + b"\xb7\x00" + elf[20:],
        "not a static executable": elf[:16] + b"\x03\x00" + elf[18:],
        "truncated": elf[: len(elf) // 8],
        "no ABI note": elf.replace(b"hyperlight\0", b"hyperfight\0"),
        "ABI version 9": elf.replace(
            b"\x01\0\0\0hyperlight\0\0\x02\0\0\0", b"\x01\0\0\0hyperlight\0\0\x09\0\0\0"
        ),
    }
    for message, program in patched.items():
        with pytest.raises(GuestImageError, match=message):
            Vm(CONFIG, program)
    with pytest.raises(GuestImageError):
        Vm(CONFIG, b"")


LARGE = """
static volatile char much[9 << 20];
void use(void);
void use(void) { much[hl_boot_info()->flags] = 1; }
const struct hl_method hl_methods[] = {{0}};
"""


def test_memory_that_is_too_small_for_the_guest(guest: MakeGuest) -> None:
    with pytest.raises(ConfigurationError, match="its memory ends at"):
        Vm(CONFIG, guest(LARGE).elf())
