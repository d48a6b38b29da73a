"""Reports and core files of guests that crashed, also of such that lie about themselves."""

from __future__ import annotations

import dataclasses
import os
import re
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hyperlight_core import GuestCrashedError, GuestExitedError, HyperlightError, Sandbox
from hyperlight_core._vmm import lib
from hyperlight_core.debug.backtrace import backtrace
from hyperlight_core.debug.core_file import write_core
from hyperlight_core.debug.crash_report import CrashReport, crash_report
from hyperlight_core.debug.last_calls import HostCallOutcome, LastCalls
from hyperlight_core.debug.library_os import LibraryOs
from hyperlight_core.debug.modules import find_modules
from hyperlight_core.guests import BootRequest, GuestImage, native_guest
from hyperlight_core.image import pack_program
from hyperlight_core.machine import Machine, MachineSpec
from hyperlight_core.pytest_plugin import BuildGuest
from hyperlight_core.vm import Vm, VmConfig
from tests.core.gdb_client import gdb_command

pytestmark = pytest.mark.kvm
GUESTS = Path(__file__).parent / "guests"
#: No instruction: the third byte of the ELF header, which is "F", then 2: an invalid opcode.
NO_CODE = 0x1000

PROGRAM = r"""
#include <link.h>
#include <stdlib.h>
#include <string.h>

static long depth(long left, char *what) {
    if (left)
        return depth(left - 1, what) + 1;
    if (!strcmp(what, "abort"))
        abort();
    if (!strcmp(what, "exit"))
        exit(139);
    if (!strcmp(what, "circle"))
        _r_debug.r_map->l_next = _r_debug.r_map;
    if (!strcmp(what, "nowhere"))
        _r_debug.r_map = (struct link_map *)0x7766554433221100;
    if (!strcmp(what, "names"))
        for (struct link_map *at = _r_debug.r_map; at; at = at->l_next)
            at->l_name = (char *)-1;
    *(volatile long *)0x28 = left;
    return 0;
}

int main(int count, char **arguments) { return depth(3, arguments[count - 1]); }
"""


@pytest.fixture(scope="module")
def elf(build_guest: BuildGuest) -> Path:
    source = (GUESTS / "debuggee.c").read_text(encoding="utf-8")
    return build_guest(source, flags=("-g", "-O1", "-fno-inline"))


@pytest.fixture
def sandbox(elf: Path) -> Iterator[Sandbox]:
    with Sandbox(native_guest(elf), memory="8MiB", after_host_call=LastCalls()) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PROGRAM as an ordinary Linux program, optimized and without frame pointers."""
    place = tmp_path_factory.mktemp("program") / "program"
    place.with_suffix(".c").write_text(PROGRAM)
    options = ["-g", "-O1", "-fno-inline", "-fno-optimize-sibling-calls"]
    command = ["gcc", *options, "-o", str(place), str(place.with_suffix(".c"))]
    subprocess.run(command, check=True)
    return place


def started(program: Path, argument: str) -> Machine:
    """A machine in which the program has run to its end, whatever that was."""
    packed = pack_program(program)
    boot = BootRequest((packed.path, argument))
    image = GuestImage("program", packed.key, image=packed.image, boot=boot)
    machine = Machine(MachineSpec(image, VmConfig(32 << 20)))
    with machine.using() as calls, pytest.raises(GuestExitedError):
        calls.boot(boot)
    return machine


def names(report: CrashReport) -> list[str]:
    return [frame.symbol.name if frame.symbol else "" for frame in report.frames]


# ---- honest guests -------------------------------------------------------------------------------


def test_a_report_says_where_why_and_after_which_calls(sandbox: Sandbox) -> None:
    with pytest.raises(GuestCrashedError):
        sandbox.call("crash", address=0x18)
    report = sandbox.crash_report()
    assert (report.crashed, report.kind) == (True, "GuestCrashedError")
    assert report.stopped.fault_address == 0x18
    assert report.stopped.registers.rdi == 0x18
    assert names(report) == ["store", "crash", "serve", "answer", "hl_main", "_start"]
    assert {frame.how for frame in report.frames[1:]} == {"cfi"}
    assert report.calls == (HostCallOutcome("no.such", -32601),)
    text = str(report)
    assert "page fault" in text.splitlines()[0]
    assert "fault address 0x18" in text
    assert re.search(r"#1 .* in crash\+0x", text)
    assert "  no.such -32601" in text


def test_a_guest_that_is_well_has_a_report_too(sandbox: Sandbox) -> None:
    """It stands where it waits for the next request."""
    report = sandbox.crash_report()
    assert (report.crashed, report.kind, report.reason) == (False, "", "")
    assert names(report)[0] == "hl_main"
    assert sandbox.call("sum", last=1) == 2


def test_a_report_of_a_program_unwinds_through_its_libraries(program: Path) -> None:
    with started(program, "abort") as machine:
        report = crash_report(machine)
    assert report.crashed
    assert [name for name in names(report) if name] == [
        *("gsignal", "abort", "depth", "depth", "depth", "depth", "main"),
        *("__libc_start_main", "_start"),
    ]
    assert any(frame.module.endswith("libc.so.6") for frame in report.frames)


def test_an_exit_status_like_a_signal_s_is_no_crash(program: Path) -> None:
    with started(program, "exit") as machine:
        assert not crash_report(machine).crashed


def test_gdb_opens_a_core_file_with_symbols(program: Path, tmp_path: Path) -> None:
    """Of a program with its libraries: signal, address, calls, arguments and variables."""
    core = tmp_path / "core"
    with started(program, "crash") as machine:
        write_core(machine, core)
    assert core.stat().st_mode & 0o777 == 0o600
    commands = ("backtrace", "print $_siginfo._sifields._sigfault.si_addr", "print *what@5")
    command = [*gdb_command(program, *commands), str(core)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "terminated with signal SIGSEGV" in output
    assert re.search(r"#0 .*depth \(left=(left@entry=)?0, what=.*\"crash\"", output)
    assert re.search(r"#4 .* in main \(count=<optimized out>, arguments=", output)
    assert "$1 = (void *) 0x28" in output
    assert '$2 = "crash"' in output


def test_a_core_file_takes_no_room_for_zero_pages(sandbox: Sandbox, tmp_path: Path) -> None:
    """It has the size of RAM, and gdb finds a native guest's variables in it."""
    core = tmp_path / "core"
    assert sandbox.call("sum", last=4) == 20
    sandbox.write_core(core)
    assert core.stat().st_size > 8 << 20
    assert core.stat().st_blocks * 512 < 2 << 20
    elf = sandbox._state._machine.spec.guest.program
    assert elf is not None
    (tmp_path / "elf").write_bytes(elf)
    command = [*gdb_command(tmp_path / "elf", "print total"), str(core)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "$1 = 20" in output
    assert sandbox.call("sum", last=1) == 2


def test_a_core_file_goes_through_no_symlink(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "target").touch()
    (tmp_path / "core").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic links"):
        sandbox.write_core(tmp_path / "core")
    assert (tmp_path / "target").stat().st_size == 0


# ---- guests that lie -----------------------------------------------------------------------------

PLACES = [0, 1, 8, 0x1FFFF8, 0x200000, 0x9FFFF9, 2**40, 2**63, 2**64 - 8, 2**64 - 1]


@pytest.mark.parametrize("place", PLACES)
def test_a_broken_stack_ends_the_backtrace(sandbox: Sandbox, tmp_path: Path, place: int) -> None:
    """Stack, frame pointer and instruction pointer anywhere; a core file is written as well."""
    signed = place - 2**64 if place >= 2**63 else place
    with pytest.raises(HyperlightError):
        sandbox.call("stray", stack=signed, frame=signed, code=NO_CODE)
    report = sandbox.crash_report()
    assert report.crashed
    assert len(report.frames) <= 17
    sandbox.write_core(tmp_path / "core")
    sandbox.reset()
    assert sandbox.call("sum", last=1) == 2


def test_frames_in_a_circle_end_the_backtrace(sandbox: Sandbox) -> None:
    with pytest.raises(GuestCrashedError):
        sandbox.call("circle", code=NO_CODE)
    assert 1 < len(sandbox.crash_report().frames) < 10


def test_a_stack_of_return_addresses_is_cut_off(sandbox: Sandbox) -> None:
    """All of RAM as one endless stack of frames pointers that go up."""
    with pytest.raises(GuestCrashedError):
        sandbox.call("crash", address=0)
    report = sandbox.crash_report()
    code = report.frames[1].address

    def look(machine: Machine) -> int:
        vm, start = machine.vm, 0x600000
        assert isinstance(vm, Vm)
        frames = (struct.pack("<2Q", start + 16 * n, code) for n in range(1, 4097))
        vm.write(start, b"".join(frames))
        registers = dataclasses.replace(vm.registers(), rip=0, rsp=start - 8, rbp=start)
        modules = find_modules(vm, machine.spec.guest)
        return len(backtrace(vm, modules, registers))

    assert sandbox._state.inspect(look) == 64


@pytest.mark.parametrize("lie", ["circle", "nowhere", "names"])
def test_a_list_of_libraries_that_lies_is_no_more_than_a_hint(
    program: Path, tmp_path: Path, lie: str
) -> None:
    """The program itself is found without it."""
    with started(program, lie) as machine:
        report = crash_report(machine)
        write_core(machine, tmp_path / "core")
    assert names(report)[:5] == ["depth", "depth", "depth", "depth", "main"]
    assert report.stopped.fault_address == 0x28


@pytest.mark.parametrize("value", PLACES)
def test_what_the_library_os_says_is_no_more_than_a_hint(
    program: Path, tmp_path: Path, value: int
) -> None:
    """Its own variables, overwritten: where registers, path and auxiliary vector are."""
    with started(program, "crash") as machine:
        library_os = LibraryOs.serving(machine.spec.guest)
        assert library_os is not None
        word = value.to_bytes(8, "little")
        machine.vm.write(library_os._kernel_stack, word)
        machine.vm.write(library_os._program, word * (4096 // 8 + 6))
        machine.vm.write(lib.HL_RAM_ADDRESS + 0x20, word)
        assert len(crash_report(machine).frames) <= 64
        write_core(machine, tmp_path / "core")
    assert os.path.getsize(tmp_path / "core") > 32 << 20


def test_no_name_that_a_guest_gives_leads_out_of_the_image(program: Path) -> None:
    """Not even that of a file which the host has: it is looked up in the image alone."""
    with started(program, "crash") as machine:
        library_os = LibraryOs.serving(machine.spec.guest)
        assert library_os is not None
        machine.vm.write(library_os._program, os.fsencode(program) + b"\0")
        assert [module.path for module in find_modules(vm_of(machine), machine.spec.guest)] == [
            "libos.elf"
        ]


def vm_of(machine: Machine) -> Vm:
    assert isinstance(machine.vm, Vm)
    return machine.vm
