"""What gdb is told of the guest's processor: which registers there are, in which order."""

from __future__ import annotations

from hyperlight_core.debug.gdb_packets import hexadecimal
from hyperlight_core.vm import Registers

__all__ = ["REGISTER_COUNT", "TARGET_XML", "pack_register", "unpack_register"]

_GENERAL = ["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"]
_GENERAL += [f"r{number}" for number in range(8, 16)] + ["rip"]
#: Those of user mode; they never change.
_SELECTORS = {"cs": 0x33, "ss": 0x2B, "ds": 0x2B, "es": 0x2B, "fs": 0x2B, "gs": 0x2B}
_X87 = [f"st{number}" for number in range(8)]
_CONTROL = ["fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop"]

#: "Debugging with GDB", G.5.7: the features that gdb wants, each register's name and bits.
_FEATURES: dict[str, list[tuple[str, int, str]]] = {
    "org.gnu.gdb.i386.core": [
        *((name, 64, "int64") for name in _GENERAL),
        ("eflags", 32, "int32"),
        *((name, 32, "int32") for name in _SELECTORS),
        *((name, 80, "i387_ext") for name in _X87),
        *((name, 32, "int") for name in _CONTROL),
    ],
    "org.gnu.gdb.i386.linux": [("orig_rax", 64, "int64")],
    "org.gnu.gdb.i386.segments": [("fs_base", 64, "int64"), ("gs_base", 64, "int64")],
}
_REGISTERS = [register for feature in _FEATURES.values() for register in feature]
REGISTER_COUNT = len(_REGISTERS)


def _xml() -> str:
    features = "".join(
        f'<feature name="{name}">'
        + "".join(f'<reg name="{reg}" bitsize="{bits}" type="{kind}"/>' for reg, bits, kind in regs)
        + "</feature>"
        for name, regs in _FEATURES.items()
    )
    return (
        '<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd"><target version="1.0">'
        f"<architecture>i386:x86-64</architecture><osabi>GNU/Linux</osabi>{features}</target>"
    )


#: With Linux as the operating system gdb follows the dynamic loader's list of libraries by itself.
TARGET_XML = _xml().encode()


def _member(name: str) -> str | None:
    """The member of `Registers` that has it, if one has."""
    name = "rflags" if name == "eflags" else name
    return name if name in Registers.__dataclass_fields__ else None


def pack_register(number: int, registers: Registers) -> bytes:
    """A register as hexadecimal text in the guest's byte order; x for one that is not known."""
    name, bits, _ = _REGISTERS[number]
    member = _member(name)
    if member is None and name not in _SELECTORS and name != "orig_rax":
        return b"x" * (bits // 4)
    value: int = getattr(registers, member) if member else _SELECTORS.get(name, 2**64 - 1)
    return (value & ((1 << bits) - 1)).to_bytes(bits // 8, "little").hex().encode()


def unpack_register(number: int, text: bytes) -> dict[str, int]:
    """What `replace` makes of the registers when gdb writes one; nothing if it has no effect.

    Raises:
        ValueError: the text is not one of this register.
    """
    if number >= REGISTER_COUNT:
        return {}
    name, bits, _ = _REGISTERS[number]
    member = _member(name)
    if member is None:
        return {}
    if len(text) != bits // 4:
        raise ValueError("not as long as the register")
    hexadecimal(text)
    return {member: int.from_bytes(bytes.fromhex(text.decode("ascii")), "little")}
