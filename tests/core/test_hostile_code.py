"""Attacks of a real native guest with memory, instructions and ports: each has its own error."""

from __future__ import annotations

import contextlib
import random
import subprocess
from pathlib import Path

import pytest

from hyperlight_core.calls import Limits
from hyperlight_core.doctor import hides_cpuid
from hyperlight_core.errors import (
    GuestCrashedError,
    GuestError,
    SandboxPoisonedError,
    SandboxTimeoutError,
)
from hyperlight_core.guests import GuestImage
from hyperlight_core.sandbox import Sandbox

pytestmark = pytest.mark.kvm

RAM, IMAGE = 0x200000, 0x800000000
MEMORY = 8 * 2**20
CONTROL_SYSCALL_ENTRY, CONTROL_EXCEPTION_ENTRY = RAM, RAM + 0x18
IMAGE_SIZE = 5000
QUICK = Limits(timeout=0.05)


def code(text: str, *numbers: int) -> str:
    """Machine code in hex, each `q` replaced by one of `numbers` as eight bytes."""
    parts = text.replace(" ", "").split("q")
    quads = [number.to_bytes(8, "little", signed=number < 0).hex() for number in numbers]
    return "".join(part + quad for part, quad in zip(parts, [*quads, ""], strict=True))


def crash(target: Sandbox, text: str, match: str | None = "CPU exception") -> None:
    """Run machine code that must crash the guest, and no more than that."""
    with pytest.raises(GuestCrashedError, match=match):
        target.call("execute", code=code(text))
    assert target.status == "poisoned"
    with pytest.raises(SandboxPoisonedError):
        target.call("count")


# ---- memory ------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", [*range(0, 0x40000, 0x1000), 0x40000, 0x100000, RAM - 1])
def test_random_bytes_into_the_system_area(target: Sandbox, address: int) -> None:
    with pytest.raises(GuestCrashedError, match="page fault"):
        target.call("scribble", address=address, size=4096, seed=address)


@pytest.mark.parametrize("address", [0x0, 0x6000, 0x7000, 0x3F000, 0x40000, 0x1FF000])
def test_page_tables_cannot_even_be_read(target: Sandbox, address: int) -> None:
    with pytest.raises(GuestCrashedError, match="page fault"):
        target.call("peek", address=address)


@pytest.mark.parametrize("seed", range(8))
def test_random_bytes_into_the_control_block(target: Sandbox, seed: int) -> None:
    with pytest.raises(GuestCrashedError, match="more console text than its buffer"):
        target.call("scribble", address=RAM, size=4096, seed=seed)


def test_random_bytes_into_the_exception_stack_before_a_fault(target: Sandbox) -> None:
    target.call("scribble", address=0x203000, size=4096, seed=1)
    with pytest.raises(GuestCrashedError, match=r"page fault.*address 0x8"):
        target.call("peek", address=8)


@pytest.mark.parametrize("seed", range(4))
def test_random_bytes_into_all_of_memory(target: Sandbox, seed: int) -> None:
    params = {"address": RAM, "size": MEMORY, "seed": seed}
    with pytest.raises((GuestError, SandboxTimeoutError)):
        target._state.call("scribble", params, limits=QUICK)


@pytest.mark.parametrize(
    "address", [RAM + MEMORY, IMAGE - 8, 2**46, -(2**63), -8, 0x7FFF_FFFF_F000]
)
def test_reading_memory_that_is_not_there(target: Sandbox, address: int) -> None:
    with pytest.raises(GuestCrashedError):
        target.call("peek", address=address)


def test_writing_to_the_image(target: Sandbox, with_image: GuestImage) -> None:
    for address in (IMAGE, IMAGE + IMAGE_SIZE):
        with pytest.raises(GuestCrashedError, match="page fault"):
            target.call("poke", address=address, value=0)
        target.reset()
    assert with_image.image is not None
    assert with_image.image.read_bytes() == b"x" * IMAGE_SIZE


#: Every size and kind of access, at RDI.
ACCESSES = {
    "load": "488b07",
    "load of 16 bytes": "0f1007",
    "load of 32 bytes": "c5fc1007",
    "store": "488907",
    "store of 16 bytes": "0f1107",
    "compare and exchange of 16 bytes": "480fc70f",
    "locked add": "f0ff07",
    "string out of it": "4889fe 48bf q b900100000 f3a4",
    "string into it": "48be q b900100000 f3a4",
    "string to a port": "4889fe 66ba1000 b900100000 f36e",
    "string from a port": "66ba1000 b900100000 f36c",
    "save of the FPU": "0fae07",
    "load of the FPU": "0fae0f",
    "stack": "4889fc 50",
    "jump": "ffe7",
    "division": "48f737",
}


@pytest.mark.parametrize("kind", ACCESSES)
def test_reaching_behind_the_image(target: Sandbox, kind: str) -> None:
    """The page after the image's last one is not there for any kind of access."""
    scratch = [0x500000] * ACCESSES[kind].count("q")
    crash(target, code("48bf q" + ACCESSES[kind], IMAGE + 0x2000, *scratch), None)


@pytest.mark.parametrize("address", [IMAGE + 0x2000 - 4, RAM + MEMORY - 4, IMAGE - 4, RAM - 4])
def test_an_access_across_the_edge(target: Sandbox, address: int) -> None:
    crash(target, code("48bf q 488b07", address), "page fault")


# ---- instructions ------------------------------------------------------------------------------

#: Instructions that a program has no business with, and that raise an exception in ring 3.
FORBIDDEN = {
    "rdmsr": "b9800000c0 0f32",
    "wrmsr": "b9820000c0 0f30",
    "hlt": "f4",
    "cli of ring 0 only": "0f00d8",
    "lgdt": "0f011425 00005000",
    "lidt": "0f011c25 00005000",
    "mov to cr3": "0f22d8",
    "mov from cr0": "0f20c0",
    "mov from dr0": "0f21c0",
    "clts": "0f06",
    "invd": "0f08",
    "wbinvd": "0f09",
    "invlpg": "0f0138",
    "swapgs": "0f01f8",
    "xsetbv": "31c931d2b803000000 0f01d1",
    "sysretq": "480f07",
    "sysexit": "0f35",
    "vmlaunch": "0f01c2",
    "ud2": "0f0b",
    "int3": "cc",
    "into": "ce",
    "ltr": "66b84000 0f00d8",
    "null data segment as stack": "31c0 8ed0",
    "kernel data as stack": "66b81800 8ed0",
    "divide error": "31c9 f7f1",
    "trap flag": "9c 48810c2400010000 9d 90 90",
    "unaligned under alignment check": "9c 48810c2400000400 9d 488b0425 01002100",
    "stack that is not canonical": "48bc q 50",
    "jump that is not canonical": "48b8 q ffe0",
    "gs base that is not canonical": "48b8 q f3480faed8",
    "execution of the boot information": "48c7c000100000 ffe0",
    "execution of nothing": "31c0 ffe0",
    "return to a null selector": "6a00 6a00 48cb",
    "return to the kernel's code": "6a10 48b8 q 50 48cb",
    "iretq to the kernel": "6a18 54 9c 6a10 48b8 q 50 48cf",
    "iretq to a null stack": "6a00 54 9c 6a33 48b8 q 50 48cf",
    "iretq to an address that is not canonical": "6a2b 54 9c 6a33 48b8 q 50 48cf",
    "iretq with random selectors": "68efbe0000 54 9c 68addec000 48b8 q 50 48cf",
    "iretq to virtual 8086 mode": "6a2b 54 6802320200 6a33 48b8 q 50 48cf",
    "far jump to 32-bit code": "6a23 68 00002100 48cb",
}
NOT_CANONICAL = 0x8000_0000_0000 << 1


@pytest.mark.parametrize("name", FORBIDDEN)
def test_an_instruction_that_is_forbidden(target: Sandbox, name: str) -> None:
    text = FORBIDDEN[name]
    crash(target, code(text, *[NOT_CANONICAL] * text.count("q")), None)


@pytest.mark.parametrize("vector", [*range(26), *range(27, 33), 0x80, 0xFE, 0xFF])
def test_an_interrupt_of_the_guests_own(target: Sandbox, vector: int) -> None:
    crash(target, f"cd{vector:02x}")


#: What differs between processors and hypervisors, but must never do harm.
DOUBTFUL = {
    "cpuid": "31c0 31c9 0fa2",
    "vmcall": "0f01c1",
    "vmmcall": "0f01d9",
    "sysenter": "0f34",
    "interrupt 26, which does nothing on the page-table KVM": "cd1a",
    "rdtscp": "0f01f9",
    "rdpmc": "31c9 0f33",
    "sgdt": "480f010425 00005000",
    "smsw": "0f01e0",
    "monitor": "31c931d2 0f01c8",
    "mwait": "31c931c0 0f01c9",
    "umonitor": "f30faef0",
    "tpause": "660faef0",
    "xbegin": "c7f800000000",
    "rdpkru": "31c90f01ee",
    "enclu": "0f01d7",
    "sti and cli under IOPL 3": "fa fb",
    "nested task flag": "9c 48810c2400400000 9d 48cf",
    "mov ss before int3": "668cd0 8ed0 cc",
    "lock on a split line": "48c7c03d005000 f0ff00",
}


@pytest.mark.parametrize("name", DOUBTFUL)
def test_an_instruction_that_may_or_may_not_be_there(target: Sandbox, name: str) -> None:
    try:
        target.call("execute", code=code(DOUBTFUL[name]))
    except (GuestCrashedError, SandboxTimeoutError):
        assert target.status == "poisoned"


#: Instructions, and whether each of them faults every time; None: as processor and KVM please.
STORMS = {
    "cpuid": ("0fa2", False),
    "rdmsr": ("0f32", True),
    "wrmsr": ("0f30", True),
    "hlt": ("f4", True),
    "vmcall": ("0f01c1", None),
    "vmmcall": ("0f01d9", None),
    "int 0x80": ("cd80", True),
    "ud2": ("0f0b", True),
    "mov to cr3": ("0f22d8", True),
    "in": ("e580", None),
    "asking for a fault address": ("e715", False),
}


@pytest.mark.parametrize("name", STORMS)
def test_a_storm_of_one_instruction(target: Sandbox, name: str) -> None:
    """The guest survives each fault, to go on with the next; the host has nothing to do with it."""
    text, faults = STORMS[name]
    params = {"code": text, "length": len(text) // 2, "times": 1000}
    try:
        found = target.call("storm", **params)
    except GuestCrashedError:
        assert faults is None
    else:
        assert found in {True: [1000], False: [0], None: [0, 1000]}[faults]


MSRS = [0x10, 0x1B, 0x3A, 0x174, 0x1A0, 0x1D9, 0x277, 0x6E0, 0xDA0]
MSRS += [0x40000000, 0x4B564D00, *range(0xC0000080, 0xC0000085), *range(0xC0000100, 0xC0000104)]


@pytest.mark.parametrize("number", MSRS, ids=hex)
def test_no_register_of_the_machine_is_within_reach(target: Sandbox, number: int) -> None:
    """Neither those of the processor nor those that KVM makes up."""
    select = "b9" + number.to_bytes(4, "little").hex() + "31c031d2"
    for access in ("0f32", "0f30"):
        crash(target, select + access, "general protection")
        target.reset()


def cpuid(target: Sandbox, leaf: int) -> list[int]:
    """EAX, EBX, ECX and EDX of a leaf's first part."""
    ask = "53 b8" + leaf.to_bytes(4, "little").hex() + "31c9 0fa2"
    return [target.call("execute", code=code(f"{ask} 89{moved} 5b")) for moved in CPUID_MOVES]


#: To EAX from itself, EBX, ECX and EDX: what follows the opcode.
CPUID_MOVES = ("c0", "d8", "c8", "d0")


def bits(*numbers: int) -> int:
    return sum(1 << number for number in numbers)


#: EBX, ECX and EDX of each leaf: what no guest may see. Intel SDM vol. 2, CPUID; AMD APM vol. 3, E.
HIDDEN = {
    # MONITOR, VMX, SMX, TM2, PDCM, PCID, DCA, x2APIC, TSC-deadline
    1: (0, bits(3, 5, 6, 8, 15, 17, 18, 21, 24), 0),
    # SGX, INVPCID, MPX, PT; PKU, OSPKE, WAITPKG, CET, KL, ENQCMD; UINTR, IBT, AMX
    7: (bits(2, 10, 14, 25), bits(3, 4, 5, 7, 23, 29), bits(5, 20, 22, 24, 25)),
    # SVM, IBS, SKINIT, LWP, MWAITX
    0x80000001: (0, bits(2, 10, 12, 15, 29), 0),
}


HIDES = hides_cpuid(Path("/proc/cpuinfo").read_text(encoding="ascii"))
hiding = pytest.mark.skipif(not HIDES, reason="no `cpuid` of ring 3 leaves this processor")
#: Prints EBX of the leaf in its argument; leaves of the processor and of a hypervisor below.
NATIVE_CPUID = """
#include <stdio.h>
#include <stdlib.h>
int main(int count, char **arguments) {
    unsigned a = strtoul(arguments[count - 1], 0, 0), b, c = 0, d;
    __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    printf("%u", b);
}
"""


@hiding
@pytest.mark.parametrize("leaf", HIDDEN, ids=hex)
def test_cpuid_hides_what_a_guest_has_no_use_for(target: Sandbox, leaf: int) -> None:
    seen = zip(cpuid(target, leaf)[1:], HIDDEN[leaf], strict=True)
    assert [value & hidden for value, hidden in seen] == [0, 0, 0]


@hiding
@pytest.mark.parametrize("leaf", [3, 5, 6, 9, 0xA, 0xB, 0x8000000A, 0x8000001F], ids=hex)
def test_cpuid_is_zero_where_nothing_was_let_through(target: Sandbox, leaf: int) -> None:
    assert cpuid(target, leaf) == [0, 0, 0, 0]


@hiding
def test_cpuid_names_no_hypervisor_features(target: Sandbox) -> None:
    """Nothing at the hypervisor's leaves; their range starts at 0x40000000."""
    for leaf in ("00000040", "01000040"):
        assert target.call("execute", code=f"b8{leaf} 31c9 0fa2 89c8".replace(" ", "")) == 0


@pytest.mark.skipif(HIDES, reason="`cpuid` leaves this processor")
@pytest.mark.parametrize("leaf", [0, 7, 0x40000000, 0x80000002], ids=hex)
def test_cpuid_that_cannot_be_hidden_shows_what_any_process_sees(
    target: Sandbox, tmp_path: Path, leaf: int
) -> None:
    """KVM cannot have it leave the guest; it is no more than this host shows to all."""
    program = tmp_path / "cpuid"
    command = ["gcc", "-xc", "-", "-o", str(program)]
    subprocess.run(command, input=NATIVE_CPUID, text=True, check=True)
    shown = subprocess.run([program, str(leaf)], capture_output=True, text=True, check=True)
    assert cpuid(target, leaf)[1] == int(shown.stdout)


@pytest.mark.parametrize("seed", range(60))
def test_a_storm_of_random_code(with_image: GuestImage, shared: Sandbox, seed: int) -> None:
    """Random bytes, and random bytes behind opcodes that leave ring 3 or reach the host."""
    dice = random.Random(seed)  # noqa: S311 - to be repeated
    starts = ["", "0f", "0f01", "0fae", "e711", "e710", "e7", "e5", "6e", "f36f", "f36c", "48cf"]
    with shared.clone() as sandbox:
        for _ in range(12):
            text = "".join(dice.choice(starts) + dice.randbytes(3).hex() for _ in range(20))
            with contextlib.suppress(GuestError, SandboxTimeoutError):
                sandbox._state.call("execute", {"code": text}, limits=QUICK)
            sandbox.reset()
            assert sandbox.call("count") == 1


def test_code_that_changes_itself(target: Sandbox) -> None:
    """It counts a number in its own text up and gives what it says the second time."""
    # mov $2,%ecx; again: mov $3,%eax; incl again+1(%rip); sub $1,%ecx; jne again
    text = "b902000000 b803000000 ff05f6ffffff 83e901 75f0"
    assert target.call("execute", code=code(text)) == 4


# ---- ports -------------------------------------------------------------------------------------

#: Known ports and unknown ones, by immediate.
PORTS = [0x00, 0x0F, *range(0x10, 0x17), 0x18, 0x1A, 0x60, 0x80, 0xFF]


@pytest.mark.parametrize("opcode", ["e4", "66e5", "e5", "e6", "66e7"])
@pytest.mark.parametrize("port", PORTS)
def test_a_port_in_a_way_that_is_not_the_abis(target: Sandbox, opcode: str, port: int) -> None:
    """`in` of every width, and `out` of one or two bytes."""
    crash(target, f"{opcode}{port:02x}", None)


@pytest.mark.parametrize("port", [0x00, 0x0F, 0x17, 0x1A, 0x60, 0x80, 0xFF])
def test_a_port_that_is_not_the_abis(target: Sandbox, port: int) -> None:
    crash(target, f"e7{port:02x}", None)


@pytest.mark.parametrize("port", [0x3F8, 0x510, 0xCF8, 0xCFC, 0xFFFF])
@pytest.mark.parametrize("opcode", ["ec", "66ed", "ed", "ee", "66ef", "ef"])
def test_a_port_by_register(target: Sandbox, opcode: str, port: int) -> None:
    crash(target, f"66ba{port.to_bytes(2, 'little').hex()}{opcode}", None)


STRINGS = {"insb": "6c", "insw": "666d", "insd": "6d", "outsb": "6e", "outsw": "666f"}


@pytest.mark.parametrize("count", [1, 5, 5000, 2**62])
@pytest.mark.parametrize("name", STRINGS)
def test_string_io(target: Sandbox, name: str, count: int) -> None:
    text = "48bf q 48be q 48b9 q 66ba1000 f3" + STRINGS[name]
    crash(target, code(text, 0x500000, 0x500000, count), None)


def test_parking_in_a_way_that_is_not_known(target: Sandbox) -> None:
    crash(target, "b807000000 e711", "port")


def test_asking_for_a_fault_address_without_a_fault(target: Sandbox) -> None:
    target.call("execute", code="e715")
    assert target.call("peek", address=RAM + 0x20) == 0


# ---- entries -----------------------------------------------------------------------------------


def test_a_syscall_without_an_entry(target: Sandbox) -> None:
    crash(target, "0f05")


@pytest.mark.parametrize("entry", [NOT_CANONICAL, -1, 0x5000, 8, IMAGE + 0x100000])
def test_a_syscall_to_nowhere(target: Sandbox, entry: int) -> None:
    signed = entry - 2**64 if entry >= 2**63 else entry
    target.call("poke", address=CONTROL_SYSCALL_ENTRY, value=signed)
    with pytest.raises((GuestCrashedError, SandboxTimeoutError)):
        target._state.call("execute", {"code": "0f05"}, limits=QUICK)


@pytest.mark.parametrize("entry", [NOT_CANONICAL, -1, 8, IMAGE + 0x100000, RAM])
def test_an_exception_handler_that_faults(target: Sandbox, entry: int) -> None:
    """Each fault leads to the next, without end, until time is up or the CPU gives up."""
    target.call("poke", address=CONTROL_EXCEPTION_ENTRY, value=entry)
    with pytest.raises((GuestCrashedError, SandboxTimeoutError)):
        target._state.call("execute", {"code": "0f0b"}, limits=QUICK)


def test_a_forged_fault_report(target: Sandbox) -> None:
    """The frame of the report is wherever the guest's stack points, here to nowhere."""
    crash(target, code("48bc q e714", -8), None)
