"""VMs in processes of their own: what such a process may do, and what becomes of it."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hyperlight_core import Sandbox
from hyperlight_core.errors import (
    ConfigurationError,
    HypervisorError,
)
from hyperlight_core.guests import GuestImage
from hyperlight_core.isolation import IsolatedVm, process, protocol
from hyperlight_core.isolation.process import Process
from hyperlight_core.isolation.protocol import Op, Reply
from hyperlight_core.memory_snapshot import MemorySnapshot
from hyperlight_core.pytest_plugin import MakeSandbox
from hyperlight_core.vm import ExitKind, VmConfig

pytestmark = pytest.mark.kvm
CONFIG = VmConfig(8 * 2**20, 65536, 65536, 4096)


@pytest.fixture
def vm(hostile: GuestImage) -> Iterator[IsolatedVm]:
    """The hostile guest, started."""
    with IsolatedVm(CONFIG, hostile.elf()) as vm:
        assert vm.run().kind == ExitKind.PARK
        yield vm


@pytest.fixture
def isolated(hostile: GuestImage, sandbox: MakeSandbox) -> Sandbox:
    return sandbox(hostile, memory="8MiB", timeout=10.0, isolation="process")


def process_of(vm: IsolatedVm) -> Process:
    found = vm._process
    assert found is not None
    return found


def process_id(item: Process) -> int:
    """From pidfd_open(2), section notes of proc_pid_fdinfo(5)."""
    lines = Path(f"/proc/self/fdinfo/{item.descriptor}").read_text().splitlines()
    pid = next(int(line.split()[1]) for line in lines if line.startswith("Pid:"))
    assert pid > 0, "the process has ended"
    return pid


def vm_of(sandbox: Sandbox) -> IsolatedVm:
    vm = sandbox._state._machine.vm
    assert isinstance(vm, IsolatedVm)
    return vm


def wait_for_end(descriptor: int) -> None:
    assert select.select([descriptor], [], [], 30)[0], "the process lives on"


# ---- what it may do ----------------------------------------------------------------------------

ATTEMPTS = {
    "open": "os.open('/etc/passwd', os.O_RDONLY)",
    "open itself": "os.open('/proc/self/mem', os.O_RDWR)",
    "create": "os.open('/tmp/x', os.O_CREAT | os.O_RDWR)",
    "look": "os.stat('/etc/passwd')",
    "list": "os.listdir('/')",
    "socket": "socket.socket()",
    "unix socket": "socket.socketpair()",
    "execve": "os.execv('/bin/true', ['true'])",
    "fork": "os.fork()",
    "signal another": "os.kill(os.getppid(), 0)",
    "ptrace": "confine._call('ptrace', 101, 16, os.getppid(), 0, 0)",
    "read another": "confine._call('process_vm_readv', 310, os.getppid(), 0, 0, 0, 0, 0)",
    "executable memory": "mmap.mmap(-1, 4096, prot=mmap.PROT_EXEC)",
    "prctl": "confine._prctl(1, 0)",
    "bpf": "confine._call('bpf', 321, 0, 0, 0)",
    "io_uring": "confine._call('io_uring_setup', 425, 1, 0)",
    "terminal": "fcntl.ioctl(0, 0x5401, b'x' * 64)",
    "namespace": "confine._call('unshare', 272, 0x10000000)",
}
TRY = """
import fcntl, mmap, os, socket, sys
from hyperlight_core.isolation import confine
confine.confine_files({})
if sys.argv[1] == "calls":
    confine.confine_system_calls()
for attempt in sys.argv[2:]:
    try:
        eval(attempt)
    except OSError as error:
        print(error.errno, flush=True)
    else:
        print("done", flush=True)
os._exit(0)
"""


def attempts(confined: str, *names: str) -> dict[str, str]:
    """What comes of each attempt in a process that is confined so: an errno."""
    wanted = [ATTEMPTS[name] for name in names]
    command = [sys.executable, "-c", TRY, confined, *wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return dict(zip(names, done.stdout.split(), strict=True))


def test_system_calls_that_a_vm_does_not_need_are_refused() -> None:
    assert attempts("calls", *ATTEMPTS) == dict.fromkeys(ATTEMPTS, str(errno.EPERM))


def test_landlock_alone_refuses_files_too() -> None:
    names = ["open", "open itself", "create", "list"]
    assert attempts("files", *names) == dict.fromkeys(names, str(errno.EACCES))


def test_every_thread_of_it_is_confined(vm: IsolatedVm) -> None:
    threads = list(Path(f"/proc/{process_id(process_of(vm))}/task").iterdir())
    assert len(threads) >= 3  # the guest's, the second socket's, the one for time-outs
    for thread in threads:
        status = (thread / "status").read_text()
        assert "\nNoNewPrivs:\t1\n" in status
        assert "\nSeccomp:\t2\n" in status


def test_it_has_no_descriptors_but_its_own(vm: IsolatedVm) -> None:
    with open("/proc/self/status", "rb"):  # one that it could inherit
        files = Path(f"/proc/{process_id(process_of(vm))}/fd")
        kinds = sorted(os.readlink(file).partition(":[")[0] for file in files.iterdir())
    pagemap = f"/proc/{process_id(process_of(vm))}/pagemap"
    machine = ["anon_inode:kvm-vcpu:0", "anon_inode:kvm-vm"]
    shared = "/memfd:hyperlight-buffers (deleted)"
    assert kinds == sorted(["/dev/null"] * 3 + [pagemap, shared, *machine, "socket", "socket"])


def test_it_has_nothing_of_the_environment(
    hostile: GuestImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_zygote", None)
    monkeypatch.setenv("A_SECRET", "of the program")
    with IsolatedVm(CONFIG, hostile.elf()) as vm:
        environment = Path(f"/proc/{process_id(process_of(vm))}/environ").read_bytes()
    assert environment == b""


# ---- its end -----------------------------------------------------------------------------------


def test_a_process_that_was_killed_is_a_clear_error(isolated: Sandbox) -> None:
    os.kill(process_id(process_of(vm_of(isolated))), signal.SIGKILL)
    with pytest.raises(HypervisorError, match="the process of the VM has ended"):
        isolated.call("count")
    assert isolated.status == "poisoned"
    with pytest.raises(HypervisorError, match="the process of the VM has ended"):
        isolated.reset()
    isolated.close()


def test_a_process_that_is_killed_while_the_guest_runs(isolated: Sandbox) -> None:
    pid = process_id(process_of(vm_of(isolated)))
    vm_of(isolated).set_table_version(1)
    threading.Timer(0.1, os.kill, (pid, signal.SIGKILL)).start()
    with pytest.raises(HypervisorError, match="the process of the VM has ended"):
        isolated.call("spin")


def test_the_process_ends_with_the_vm_and_its_snapshots(hostile: GuestImage) -> None:
    vm = IsolatedVm(CONFIG, hostile.elf())
    assert vm.run().kind == ExitKind.PARK
    snapshot = vm.snapshot()
    descriptor = os.dup(process_of(vm).descriptor)
    vm.close()
    with IsolatedVm(CONFIG) as other:
        other.restore(snapshot)
    assert not select.select([descriptor], [], [], 0)[0]
    del snapshot
    wait_for_end(descriptor)
    os.close(descriptor)


def test_the_process_ends_with_the_program(hostile: GuestImage, tmp_path: Path) -> None:
    guest = tmp_path / "guest"
    guest.write_bytes(hostile.elf())
    code = f"""
        import os, pathlib, signal, sys, threading
        from hyperlight_core.isolation import IsolatedVm
        vm = IsolatedVm(None, pathlib.Path({str(guest)!r}).read_bytes())
        vm.run()
        info = open(f"/proc/self/fdinfo/{{vm._process.descriptor}}").read()
        print(next(line.split()[1] for line in info.splitlines() if line.startswith("Pid:")))
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert program.stdout
    with program:
        pid = int(program.stdout.readline())
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return
    wait_for_end(descriptor)
    os.close(descriptor)


def test_the_thread_that_made_it_may_end(hostile: GuestImage) -> None:
    made: list[IsolatedVm] = []
    thread = threading.Thread(target=lambda: made.append(IsolatedVm(CONFIG, hostile.elf())))
    thread.start()
    thread.join()
    with made[0] as vm:
        assert vm.run().kind == ExitKind.PARK


def test_another_zygote_follows_one_that_ended(hostile: GuestImage) -> None:
    with IsolatedVm(CONFIG, hostile.elf()) as vm:
        status = Path(f"/proc/{process_id(process_of(vm))}/status").read_text()
        zygote = int(status.partition("PPid:")[2].split()[0])
        os.kill(zygote, signal.SIGKILL)
        wait_for_end(process_of(vm).descriptor)  # with its zygote
    with IsolatedVm(CONFIG, hostile.elf()) as vm:
        assert vm.run().kind == ExitKind.PARK


# ---- one that lies -----------------------------------------------------------------------------


@pytest.fixture
def silent(isolated: Sandbox, monkeypatch: pytest.MonkeyPatch) -> IsolatedVm:
    """A VM whose process is stopped, as if an attacker kept it silent; nobody waits long for it."""
    vm = vm_of(isolated)
    os.kill(process_id(process_of(vm)), signal.SIGSTOP)
    monkeypatch.setattr("hyperlight_core.isolation.isolated_vm._GRACE", 0.1)
    monkeypatch.setattr("hyperlight_core.isolation.isolated_vm._PATIENCE", 0.1)
    return vm


def test_a_process_that_does_not_keep_a_deadline_is_ended(silent: IsolatedVm) -> None:
    with pytest.raises(HypervisorError, match="has ended"):
        silent.run(time.monotonic_ns())
    wait_for_end(process_of(silent).descriptor)


def test_a_process_that_ignores_a_kill_is_ended(silent: IsolatedVm) -> None:
    threading.Timer(0.05, silent.kill).start()
    with pytest.raises(HypervisorError, match="has ended"):
        silent.run()
    wait_for_end(process_of(silent).descriptor)


def test_a_process_that_does_not_answer_is_ended(silent: IsolatedVm) -> None:
    with pytest.raises(HypervisorError, match="has ended"):
        silent.read(0x200000, 8)
    wait_for_end(process_of(silent).descriptor)


@pytest.mark.parametrize(
    ("kind", "value", "console", "cpu_ns", "frame"),
    [(0, 0, 0, 0, 0), (99, -1, 2**62, -(2**63), 2**64 - 1), (2, 2**63 - 1, -1, 5, 65537)],
)
def test_numbers_that_are_lies(
    vm: IsolatedVm, kind: int, value: int, console: int, cpu_ns: int, frame: int
) -> None:
    left = vm._exit(Reply(0, 0, kind, value, console, cpu_ns, frame))
    assert left.kind in set(ExitKind)
    assert 0 <= left.value < 2**32
    assert 0 <= left.console_used <= CONFIG.console_size
    assert left.cpu_ns >= 0


@pytest.mark.parametrize("size", [0, 1, 55])
def test_a_message_that_is_cut_off(size: int) -> None:
    with pytest.raises(HypervisorError):
        protocol.parse_reply(bytes(size))


@pytest.mark.parametrize("code", [-1, 1, 2, 3, 4, 5, 2**62])
def test_every_code_is_an_error_of_this_library(code: int) -> None:
    error = protocol.error_of(Reply(code, -1, 0, 0, 0, 0, 0, b"\xff" * 9))
    assert isinstance(error, (HypervisorError, ConfigurationError, RuntimeError))


def test_what_the_guest_sent_does_not_change_once_it_is_here(vm: IsolatedVm) -> None:
    before = bytes(vm.buffers.from_guest)
    vm._shared[CONFIG.in_size :] = b"\xff" * (len(vm._shared) - CONFIG.in_size)
    assert bytes(vm.buffers.from_guest) == before


def test_shared_memory_cannot_shrink(vm: IsolatedVm) -> None:
    maps = Path("/proc/self/map_files")
    name = next(item for item in maps.iterdir() if "hyperlight-buffers" in os.readlink(item))
    with open(name, "r+b") as file, pytest.raises(PermissionError):
        os.ftruncate(file.fileno(), 0)
    assert vm.run().kind == ExitKind.PARK


def test_an_exported_snapshot_cannot_be_changed_any_more(vm: IsolatedVm) -> None:
    snapshot = vm.snapshot()
    files = snapshot.exported()
    for file in (files.memory, files.state):
        with pytest.raises(PermissionError):
            os.pwrite(file, b"x", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(file, 0)


# ---- what no test of a sandbox shows -----------------------------------------------------------


def test_a_snapshot_travels_through_files(vm: IsolatedVm, tmp_path: Path) -> None:
    vm.write(0x300000, b"kept" * 10000)
    with open(tmp_path / "memory", "w+b") as memory, open(tmp_path / "state", "w+b") as state:
        vm.snapshot().save(memory.fileno(), state.fileno())
        loaded = MemorySnapshot.load(CONFIG, memory.fileno(), state.read())
    with IsolatedVm(CONFIG) as other:
        other.restore(loaded)
        assert other.read(0x300000, 40000) == b"kept" * 10000


def test_an_image_is_seen(with_image: GuestImage, sandbox: MakeSandbox) -> None:
    found = sandbox(with_image, memory="8MiB", isolation="process")
    assert found.call("peek", address=0x800000000) == int.from_bytes(b"x" * 8, "little")


def test_a_kill_before_a_restore_is_forgotten_and_one_after_it_is_not(vm: IsolatedVm) -> None:
    snapshot = vm.snapshot()
    for _ in range(20):
        vm.kill()
        vm.restore(snapshot)
        assert vm.run().kind == ExitKind.PARK
        vm.kill()
        assert vm.run(time.monotonic_ns() + 30 * 10**9).kind == ExitKind.KILLED


class Enough(Exception):  # noqa: N818 - no error
    """Raised by a signal's handler."""


def enough(*_: object) -> None:
    raise Enough


def test_a_signals_handler_may_break_off_a_run(isolated: Sandbox) -> None:
    old = signal.signal(signal.SIGALRM, enough)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(Enough):
            isolated.call("spin")
    finally:
        signal.signal(signal.SIGALRM, old)
    assert isolated.status == "poisoned"
    isolated.reset()
    assert isolated.call("count") == 1


def test_snapshots_nobody_has_are_given_up(vm: IsolatedVm) -> None:
    for _ in range(5):
        vm.snapshot()
    assert len(vm._dropped) <= 1


def test_a_snapshot_of_a_process_of_its_own_comes_into_no_other_kind(
    isolated: Sandbox, hostile: GuestImage, sandbox: MakeSandbox
) -> None:
    other = sandbox(hostile, memory="8MiB")
    with pytest.raises(ConfigurationError, match="another isolation"):
        other.restore(isolated.snapshot())
    other.call("count")
    isolated.restore(other.snapshot())
    assert isolated.call("count") == 2


def test_an_isolation_that_is_not_known(hostile: GuestImage) -> None:
    with pytest.raises(ConfigurationError, match="isolation"):
        Sandbox(hostile, isolation="thread")


def test_messages_that_are_none_do_not_end_it(vm: IsolatedVm) -> None:
    with pytest.raises(HypervisorError):
        vm._ask(99)
    with pytest.raises(HypervisorError):
        vm._ask(Op.RESTORE, 12345, 1)
    assert vm.read(0x200000, 4)


def test_a_vm_of_ones_own_is_not_left_out_in_silence(hostile: GuestImage) -> None:
    with pytest.raises(ConfigurationError, match="leave out `vm`"):
        Sandbox(
            hostile, isolation="process", vm=lambda *_arguments, **_options: pytest.fail("made")
        )
