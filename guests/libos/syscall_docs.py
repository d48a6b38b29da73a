"""Writes docs/syscalls.md from syscalls.def; with --check only tells whether it is up to date."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
TABLE = HERE / "syscalls.def"
DOCUMENT = HERE.parent.parent / "docs" / "syscalls.md"

INTRODUCTION = """\
# System calls

What the library OS (`guests/libos/`) answers. This page is generated from
`guests/libos/syscalls.def` by `guests/libos/syscall_docs.py`.

- **full**: as Linux does it, as far as a program in the guest can tell.
- **partial**: with the exceptions in the note.
- **nothing**: accepted without effect.

Every other system call gives ENOSYS and is counted; `hyperlight run --explain` and
`hyperlight exec --explain` list what a program asked for in vain.
"""
_ENTRY = re.compile(r'SYSCALL\(\s*(\d+),\s*(\w+),\s*(FULL|PARTIAL|NOTHING),\s*"([^"]*)"\)')


class Entry(NamedTuple):
    """One system call of the table."""

    number: int
    name: str
    support: str
    note: str


def entries(text: str) -> list[Entry]:
    """The table's entries.

    Raises:
        ValueError: a line is not an entry, or they are not ordered by number.
    """
    table = text.partition("*/")[2]
    found = [Entry(int(entry[1]), *entry.group(2, 3, 4)) for entry in _ENTRY.finditer(table)]
    rest = _ENTRY.sub("", table).strip()
    if rest:
        raise ValueError(f"{TABLE.name}: not an entry: {rest.splitlines()[0]}")
    numbers = [entry.number for entry in found]
    if numbers != sorted(set(numbers)):
        raise ValueError(f"{TABLE.name}: entries must be ordered by number, each once")
    return found


def document(found: list[Entry]) -> str:
    """The page."""
    counts = {
        level: sum(entry.support == level for entry in found)
        for level in ("FULL", "PARTIAL", "NOTHING")
    }
    summary = ", ".join(f"{count} {level.lower()}" for level, count in counts.items())
    rows = [f"| {e.number} | {e.name} | {e.support.lower()} | {e.note} |" for e in found]
    head = ["| number | name | support | note |", "|---|---|---|---|"]
    return "\n".join([INTRODUCTION, f"{len(found)} system calls: {summary}.", "", *head, *rows, ""])


def main() -> int:
    """Write or check the page; the exit status."""
    text = document(entries(TABLE.read_text()))
    if sys.argv[1:] != ["--check"]:
        DOCUMENT.write_text(text)
        return 0
    if DOCUMENT.exists() and DOCUMENT.read_text() == text:
        return 0
    print(f"{DOCUMENT.name} is out of date: run guests/libos/syscall_docs.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
