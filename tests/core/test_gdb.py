"""Guests debugged by a real gdb, and the debugger attacked by what is no gdb."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from hyperlight_core import HyperlightError, Sandbox
from hyperlight_core.debug.gdb_stub import Debugger
from hyperlight_core.guests import GuestImage, native_guest
from hyperlight_core.pytest_plugin import BuildGuest
from tests.core.gdb_client import BareClient, Gdb

pytestmark = pytest.mark.kvm
GUESTS = Path(__file__).parent / "guests"

PROGRAM = r"""
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int twice(int number) {
    int result = number * 2;
    return result;
}

static void on_fault(int number, siginfo_t *details, void *context) {
    (void)number, (void)context;
    _exit(details->si_addr == (void *)0x18 ? 42 : 1);
}

int main(int count, char **arguments) {
    int sum = 0;
    for (int i = 1; i <= 3; i++)
        sum += twice(i);
    write(1, "written\n", 8);
    if (count > 1) {
        struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
        sigaction(SIGSEGV, &action, NULL);
        *(volatile long *)strtoul(arguments[1], NULL, 0) = 1;
    }
    return sum;
}
"""


#: Nothing executes the first byte of the ELF header.
FIRST_CODE = 0x210000


def memory(sandbox: Sandbox, address: int) -> bytes:
    """One byte as it really is in the guest."""
    return sandbox._state.inspect(lambda machine: machine.vm.read(address, 1))


@pytest.fixture(scope="module")
def elf(build_guest: BuildGuest) -> Path:
    source = (GUESTS / "debuggee.c").read_text(encoding="utf-8")
    return build_guest(source, flags=("-g", "-O0"))


@pytest.fixture(scope="module")
def guest(elf: Path) -> GuestImage:
    return native_guest(elf)


@pytest.fixture
def debugger(guest: GuestImage) -> Iterator[Debugger]:
    with closing(Debugger(guest)) as debugger:
        yield debugger


@pytest.fixture
def sandbox(guest: GuestImage, debugger: Debugger) -> Iterator[Sandbox]:
    with Sandbox(guest, memory="8MiB", timeout=0.5, vm=debugger) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PROGRAM as an ordinary Linux program, linked to the shared libc."""
    place = tmp_path_factory.mktemp("program") / "program"
    place.with_suffix(".c").write_text(PROGRAM)
    command = ["gcc", "-g", "-O0", "-w", "-o", str(place), str(place.with_suffix(".c"))]
    subprocess.run(command, check=True)
    return place


# ---- native guests -------------------------------------------------------------------------------


def test_gdb_stops_steps_reads_and_changes_a_variable(
    sandbox: Sandbox, debugger: Debugger, elf: Path
) -> None:
    """The third round's doubled number becomes 100; no limit counts while gdb thinks."""
    commands = ["break twice if number == 3", "continue", "backtrace", "next", "print result"]
    commands += ["next", "set variable result = 100", "detach"]
    debugger.stop_next()
    with Gdb(elf, debugger.port, *commands) as gdb:
        assert sandbox.call("sum", last=4) == 2 + 4 + 100 + 8
    assert "twice (number=3)" in gdb.output
    assert re.search(r"#1 .* in sum ", gdb.output)
    assert "$1 = 6" in gdb.output


def test_after_gdb_has_left_the_guest_runs_and_resets_as_ever(
    sandbox: Sandbox, debugger: Debugger, elf: Path
) -> None:
    """A snapshot taken under gdb has no breakpoints in it."""
    debugger.stop_next()
    with Gdb(elf, debugger.port, "break twice", "continue", "detach") as gdb:
        assert sandbox.call("sum", last=3) == 12
    assert "Breakpoint 1, twice (number=1)" in gdb.output
    assert sandbox.call("sum", last=3) == 12
    sandbox.reset()
    assert sandbox.call("sum", last=4) == 20


def test_what_is_made_from_a_guest_under_gdb_has_no_breakpoints(
    sandbox: Sandbox, debugger: Debugger
) -> None:
    """Gdb has left one, which the guest never reaches; the clone's memory is as it was."""
    before = memory(sandbox, FIRST_CODE)
    debugger.stop_next()
    with closing(BareClient(debugger.port)) as client:
        client.send(b"+" + packet(b"Z0,%x,1" % FIRST_CODE) + packet(b"c"))
        assert sandbox.call("sum", last=1) == 2
        assert memory(sandbox, FIRST_CODE) == b"\xcc"
        with sandbox.clone() as twin:
            assert memory(twin, FIRST_CODE) == before
            assert twin.call("sum", last=2) == 6
        assert memory(sandbox, FIRST_CODE) == b"\xcc"
        sandbox.reset()
        assert sandbox.call("sum", last=3) == 12


def test_gdb_interrupts_an_endless_loop(guest: GuestImage, debugger: Debugger, elf: Path) -> None:
    """Ctrl-C comes when the guest has said that it loops."""

    def interrupt(_stream: str, _text: bytes) -> None:
        gdb.process.send_signal(signal.SIGINT)

    commands = ("continue", "frame function loop", "set variable stop = 7", "detach")
    with Sandbox(guest, memory="8MiB", vm=debugger, stream=interrupt) as sandbox:
        debugger.stop_next()
        with Gdb(elf, debugger.port, *commands) as gdb:
            assert sandbox.call("loop") == 7
    assert "received signal SIGINT" in gdb.output


# ---- Linux programs ------------------------------------------------------------------------------


def execute(program: Path, *arguments: str) -> tuple[subprocess.Popen[bytes], int]:
    """`hyperlight exec --gdb 0`, and the port it waits at."""
    command = [sys.executable, "-m", "hyperlight_core", "exec", "--gdb", "0", "--", str(program)]
    process = subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stderr
    line = process.stderr.readline()
    found = re.fullmatch(rb"hyperlight: waiting for gdb: target remote localhost:(\d+)\n", line)
    assert found, line
    return process, int(found[1])


def test_gdb_debugs_a_program_and_its_libraries(program: Path) -> None:
    """It begins at the first instruction, finds the libraries, and steps over a system call."""
    commands = ["info symbol $pc", "break twice", "continue", "backtrace", "finish"]
    commands += ["delete", "break write", "continue", "info sharedlibrary"]
    # cmpb, je, then a jump and four instructions instead of mov and syscall.
    commands += ["stepi 7", "x/i $pc - 2", "print $rax", "finish", "next", "continue"]
    process, port = execute(program)
    with Gdb(program, port, *commands) as gdb:
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, output, errors) == (12, b"written\n", b"")
    assert re.search(r"_start in section .text of .*ld-linux-x86-64.so.2", gdb.output)
    assert "Breakpoint 1, twice (number=1)" in gdb.output
    assert re.search(r"#1 .* in main \(count=1, ", gdb.output)
    assert "Value returned is $1 = 2" in gdb.output
    assert re.search(r"0x\w+ +0x\w+ +Yes .*libc.so.6", gdb.output)
    assert re.search(r"write\+\d+>:\s+syscall", gdb.output)
    assert "$2 = 8" in gdb.output
    assert "exited with code 014" in gdb.output


def test_a_signal_reaches_the_program_with_its_address(program: Path) -> None:
    """Gdb sees it first; the program's own handler ends it with 42."""
    process, port = execute(program, "0x18")
    with Gdb(program, port, "continue", "backtrace", "continue") as gdb:
        process.communicate(timeout=30)
    assert process.returncode == 42
    assert "Program received signal SIGSEGV" in gdb.output
    assert re.search(r"#0 .*main \(count=2, ", gdb.output)
    assert "exited with code 052" in gdb.output


def test_a_killed_program_is_an_error_of_hyperlight(program: Path) -> None:
    process, port = execute(program)
    with Gdb(program, port, "kill"):
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (125, b"hyperlight: the sandbox was killed\n")


# ---- what is no gdb ------------------------------------------------------------------------------


def packet(content: bytes) -> bytes:
    return b"$" + content + b"#%02x" % (sum(content) & 0xFF)


def test_the_debugger_listens_on_the_loopback_interface_only(debugger: Debugger) -> None:
    assert debugger._listener.getsockname()[0] == "127.0.0.1"


@pytest.mark.parametrize(
    "content",
    [
        *(b"m", b"m,", b"mx,1", b"m210000,", b"m-1,1", b"m 1,1", b"m210000,1,1", b"p", b"pzz"),
        *(b"m" + b"f" * 17 + b",1", b"M210000,2:00", b"M210000,1:zz", b"M210000,1:\xff", b"P0"),
        *(b"P0=00", b"P0=" + b"z" * 16, b"P99=00", b"pff", b"G00", b"G" + b"z" * 700),
        *(
            b"Z0",
            b"Z0,",
            b"Z0,x,1",
            b"qXfer:auxv:read::0,fff",
            b"qXfer:features:read:/etc/passwd:0,9",
        ),
        *(b"qXfer:features:read:target.xml:x,9", b"qXfer:exec-file:read:1:0,99"),
    ],
)
def test_a_malformed_command_is_an_error(
    sandbox: Sandbox, debugger: Debugger, content: bytes
) -> None:
    debugger.stop_next()
    with closing(BareClient(debugger.port)) as client, running(sandbox) as results:
        assert re.fullmatch(rb"(E[0-9a-f]{2})?", client.ask(content))
        client.send(packet(b"D"))
    assert results == [6]


@pytest.mark.parametrize("address", [0, 0x1000, 0x1FFFFF, 2**32, 2**35, 2**63, 2**64 - 1])
def test_memory_outside_of_ram_is_refused(
    sandbox: Sandbox, debugger: Debugger, address: int
) -> None:
    """Neither read nor written, and no breakpoint goes there."""
    debugger.stop_next()
    with closing(BareClient(debugger.port)) as client, running(sandbox) as results:
        for command in (b"m%x,8", b"M%x,1:cc", b"Z0,%x,1"):
            assert client.ask(command % address) == b"E0e"
        client.send(packet(b"D"))
    assert results == [6]


def test_no_answer_is_larger_than_a_packet(sandbox: Sandbox, debugger: Debugger) -> None:
    debugger.stop_next()
    with closing(BareClient(debugger.port)) as client, running(sandbox) as results:
        for size in (0x2000, 2**31, 2**64 - 1):
            assert len(client.ask(b"m210000,%x" % size)) < 0x4000
        client.send(packet(b"D"))
    assert results == [6]


def test_noise_and_endless_packets_are_dropped(sandbox: Sandbox, debugger: Debugger) -> None:
    debugger.stop_next()
    with closing(BareClient(debugger.port)) as client, running(sandbox) as results:
        client.send(b"GET / HTTP/1.1\r\n\r\n\x03\x03+-+")
        client.send(b"$" + b"m" * 200_000)
        client.send(b"#00")
        assert client.ask(b"qC") == b"QC1"
        client.send(packet(b"D"))
    assert results == [6]


def test_registers_that_cannot_be_crash_the_guest_alone(
    sandbox: Sandbox, debugger: Debugger
) -> None:
    """A stack and an instruction pointer that are no addresses, and flags of the system."""
    debugger.stop_next()
    with closing(BareClient(debugger.port)) as client, running(sandbox) as results:
        for number in (7, 16):
            assert client.ask(b"P%x=%s" % (number, b"1122334455667788")) == b"OK"
        assert client.ask(b"P11=ffffffff") == b"OK"
        client.send(packet(b"D"))
    assert results == ["GuestCrashedError"]
    sandbox.reset()
    assert sandbox.call("sum", last=2) == 6


def test_the_guest_goes_on_when_the_connection_breaks(sandbox: Sandbox, debugger: Debugger) -> None:
    debugger.stop_next()
    with running(sandbox) as results:
        client = BareClient(debugger.port)
        client.send(packet(b"Z0,%x,1" % FIRST_CODE))
        client.close()
    assert results == [6]


def test_a_kill_ends_the_wait_for_gdb_s_next_command(sandbox: Sandbox, debugger: Debugger) -> None:
    debugger.stop_next()
    with closing(BareClient(debugger.port)) as client, running(sandbox) as results:
        assert client.ask(b"qC") == b"QC1"
        sandbox.kill()
    assert results == ["SandboxKilledError"]


@contextmanager
def running(sandbox: Sandbox) -> Iterator[list[object]]:
    """A call in another thread; afterwards its result, or the name of its error."""
    results: list[object] = []

    def call() -> None:
        try:
            results.append(sandbox.call("sum", last=2))
        except HyperlightError as error:
            results.append(type(error).__name__)

    thread = threading.Thread(target=call)
    thread.start()
    yield results
    thread.join(timeout=30)
    assert not thread.is_alive()
