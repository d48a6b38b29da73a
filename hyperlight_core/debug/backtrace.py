"""The calls that led to where a guest is: by call frame information, frame pointers or guesses."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from elftools.common.exceptions import DWARFError, ELFError
from elftools.construct import ConstructError
from elftools.dwarf.callframe import FDE, CallFrameInfo
from elftools.dwarf.structs import DWARFStructs
from elftools.elf.elffile import ELFFile

from hyperlight_core.debug.library_os import Inspected
from hyperlight_core.debug.modules import Module, Symbol, find_module
from hyperlight_core.errors import ConfigurationError
from hyperlight_core.vm import Registers

__all__ = ["Frame", "backtrace"]

_WORD = struct.Struct("<Q")
_MASK = 2**64 - 1
_FRAMES_MAXIMUM = 64
_GUESSES_MAXIMUM = 16
_SCANNED = 4096
#: System V ABI for x86-64, figure 3.36: DWARF's numbers of registers.
_DWARF = (
    "rax",
    "rdx",
    "rcx",
    "rbx",
    "rsi",
    "rdi",
    "rbp",
    "rsp",
    *(f"r{n}" for n in range(8, 16)),
    "rip",
)
_RBP, _RSP, _RIP = 6, 7, 16
#: Linux Standard Base, 10.6.2: the one form of .eh_frame_hdr that linkers write.
_TABLE_HEADER = struct.Struct("<4B2i")
_TABLE_FORM = (1, 0x1B, 0x03, 0x3B)
_TABLE_ENTRY = struct.Struct("<2i")
#: `mov $__NR_rt_sigreturn, %rax; syscall`, which libc puts behind handlers; then registers as in
#: <asm/ucontext.h> and <asm/sigcontext.h>, by DWARF's numbers.
_SIGRETURN = bytes.fromhex("48c7c00f0000000f05")
_CONTEXT_OFFSET, _CONTEXT = 40, struct.Struct("<17Q")
_CONTEXT_ORDER = (*range(8, 16), 5, 4, 6, 3, 1, 0, 2, 7, 16)
_LENGTH_AND_CIE = struct.Struct("<2I")


@dataclass(frozen=True)
class Frame:
    """One call in progress.

    Attributes:
        address: of the next instruction.
        how: "exact" for the first; "cfi", "frame pointer" or "signal" for what was followed; or
            "guess": a word on the stack that may be a return address.
        symbol: the function, if its file has a name for it.
        module: path of its file in the image, or "".
    """

    address: int
    how: str
    symbol: Symbol | None = None
    module: str = ""

    def __str__(self) -> str:
        """As debuggers write it."""
        name = f" in {self.symbol.name}+{self.symbol.offset:#x}" if self.symbol else ""
        place = f" from {ascii(self.module)[1:-1]}" if self.module else ""
        note = " (a guess)" if self.how == "guess" else ""
        return f"{self.address:#018x}{name}{place}{note}"


def backtrace(vm: Inspected, modules: list[Module], registers: Registers) -> list[Frame]:
    """The calls in progress, the innermost first; at most 64, whatever the stack holds.

    Args:
        vm: the micro-VM, which is not running.
        modules: see `find_modules`.
        registers: where to begin.
    """
    now = {number: getattr(registers, name) for number, name in enumerate(_DWARF)}
    frames, back = [_frame(modules, now[_RIP], "exact", 0)], 0
    while len(frames) < _FRAMES_MAXIMUM:
        caller, how = _caller(vm, modules, now, back)
        if caller is None:
            break
        now, back = caller, int(how != "signal")
        frames.append(_frame(modules, now[_RIP], how, back))
    if len(frames) == 1:
        frames += _guesses(vm, modules, now[_RSP])
    return frames


def _frame(modules: list[Module], address: int, how: str, back: int) -> Frame:
    """`back`: a call may be its function's last instruction, so that it returns to another one."""
    module = find_module(modules, address - back)
    if module is None:
        return Frame(address, how)
    symbol = None
    with suppress(ELFError, ConstructError, ValueError):
        symbol = module.symbol(address - back)
    if symbol is not None:
        symbol = Symbol(symbol.name, symbol.offset + back)
    return Frame(address, how, symbol, module.path)


def _caller(
    vm: Inspected, modules: list[Module], now: dict[int, int], back: int
) -> tuple[dict[int, int] | None, str]:
    """The registers of the caller, whose stack must be higher up, and how they were found."""
    with suppress(ConfigurationError):
        if vm.read(now[_RIP], len(_SIGRETURN)) == _SIGRETURN:
            return _before_signal(vm, now), "signal"
    module = find_module(modules, now[_RIP] - back)
    found, how = None, "cfi"
    with suppress(ConfigurationError, ELFError, DWARFError, ConstructError, KeyError, ValueError):
        rules = _rules(module, now[_RIP] - back) if module else None
        if rules is not None:
            found = _apply(vm, rules, now)
            if found is None:
                return None, how
    if found is None:
        how = "frame pointer"
        with suppress(ConfigurationError):
            found = _by_frame_pointer(vm, modules, now)
    if found is None or found[_RSP] <= now[_RSP] or not found[_RIP]:
        return None, how
    return found, how


def _before_signal(vm: Inspected, now: dict[int, int]) -> dict[int, int]:
    """What a signal handler returns to: `struct ucontext` is on top of the stack then."""
    data = vm.read(now[_RSP] + _CONTEXT_OFFSET, _CONTEXT.size)
    return dict(zip(_CONTEXT_ORDER, _CONTEXT.unpack(data), strict=True))


def _word(vm: Inspected, address: int) -> int:
    return int(_WORD.unpack(vm.read(address & _MASK, _WORD.size))[0])


# ---- call frame information: DWARF 5, 6.4 --------------------------------------------------------


def _rules(module: Module, address: int) -> dict[Any, Any] | None:
    """What holds at an address: the row of its function's table."""
    place = address - module.bias
    entry = _description(module.elf, place)
    if entry is None:
        return None
    start, size = entry["initial_location"], entry["address_range"]
    if not start <= place < start + size:
        return None
    rows = [row for row in entry.get_decoded().table if row["pc"] <= place]
    return rows[-1] if rows else None


def _description(elf: ELFFile, place: int) -> FDE | None:
    header, frames = (elf.get_section_by_name(name) for name in (".eh_frame_hdr", ".eh_frame"))
    if frames is None:
        return None
    if header is None:
        entries = elf.get_dwarf_info().EH_CFI_entries()
        return next(
            (entry for entry in entries if isinstance(entry, FDE) and _covers(entry, place)), None
        )
    at = _search(header.data(), place - header["sh_addr"])
    if at is None:
        return None
    return _parse(frames.data(), frames["sh_addr"], at + header["sh_addr"] - frames["sh_addr"])


def _covers(entry: FDE, place: int) -> bool:
    start = entry["initial_location"]
    return bool(start <= place < start + entry["address_range"])


def _search(table: bytes, place: int) -> int | None:
    """Where the last entry at or before `place` is described; both count from the table."""
    *form, _, count = _TABLE_HEADER.unpack_from(table)
    if tuple(form) != _TABLE_FORM:
        return None
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        start, _ = _TABLE_ENTRY.unpack_from(table, _TABLE_HEADER.size + middle * _TABLE_ENTRY.size)
        low, high = (middle + 1, high) if start <= place else (low, middle)
    if not low:
        return None
    return int(_TABLE_ENTRY.unpack_from(table, _TABLE_HEADER.size + (low - 1) * 8)[1])


def _parse(frames: bytes, base: int, at: int) -> FDE | None:
    """One description with what it has in common with others, instead of all of a library's."""
    length, back = _LENGTH_AND_CIE.unpack_from(frames, at)
    common = at + 4 - back
    (common_length,) = struct.unpack_from("<I", frames, common)
    first = frames[common : common + 4 + common_length]
    own = struct.pack("<2I", length, len(first) + 4) + frames[at + 8 : at + 4 + length]
    blob = first + own + bytes(4)
    structs = DWARFStructs(little_endian=True, dwarf_format=32, address_size=8)
    info = CallFrameInfo(
        io.BytesIO(blob), len(blob), base + at - len(first), structs, for_eh_frame=True
    )
    return next((entry for entry in info.get_entries() if isinstance(entry, FDE)), None)


def _apply(vm: Inspected, rules: dict[Any, Any], now: dict[int, int]) -> dict[int, int] | None:
    """The caller's registers; None if there is no caller. ValueError: a rule this does not know."""
    cfa_rule = rules["cfa"]
    if getattr(cfa_rule, "expr", None) is not None:
        raise ValueError("an expression")
    cfa = (now[cfa_rule.reg] + cfa_rule.offset) & _MASK
    before = {**now, _RSP: cfa}
    for number in range(len(_DWARF)):
        rule = rules.get(number)
        kind = "SAME_VALUE" if rule is None else rule.type
        if rule is not None and kind == "OFFSET":
            before[number] = _word(vm, cfa + rule.arg)
        elif kind == "UNDEFINED" and number == _RIP:
            return None
        elif kind not in ("SAME_VALUE", "UNDEFINED"):
            raise ValueError(kind)
    return before


# ---- without -------------------------------------------------------------------------------------


def _by_frame_pointer(
    vm: Inspected, modules: list[Module], now: dict[int, int]
) -> dict[int, int] | None:
    frame = now[_RBP]
    if frame < now[_RSP] or frame % 8:
        return None
    before, back = _word(vm, frame), _word(vm, frame + 8)
    if find_module(modules, back - 1) is None:
        return None
    return {**now, _RBP: before, _RSP: frame + 16, _RIP: back}


def _guesses(vm: Inspected, modules: list[Module], stack: int) -> Iterator[Frame]:
    """Words on the stack that point behind a call instruction."""
    end = vm.config.memory + 0x200000
    found = 0
    for place in range(stack & ~7, min(end - 7, (stack & ~7) + _SCANNED), 8):
        with suppress(ConfigurationError):
            address = _word(vm, place)
            if find_module(modules, address - 1) and _follows_call(vm, address):
                yield _frame(modules, address, "guess", 1)
                found += 1
        if found == _GUESSES_MAXIMUM:
            return


def _follows_call(vm: Inspected, address: int) -> bool:
    """Intel SDM vol. 2, CALL: E8 with four bytes, or FF with two to seven bytes in all."""
    before = vm.read(address - 7, 7)
    return before[2] == 0xE8 or any(
        before[-size] == 0xFF and before[-size + 1] >> 3 & 7 == 2 for size in (2, 3, 4, 6, 7)
    )
