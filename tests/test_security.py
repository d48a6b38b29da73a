"""The security page names tests that exist, lists that are the code's, and counts that hold."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from hyperlight_core import errors
from hyperlight_core._vmm import lib

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
PROMISES = (ROOT / "SECURITY.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]


def names_in(path: Path) -> set[str]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".c":
        return set(re.findall(r"^TEST\((\w+)\)", text, re.MULTILINE))
    functions = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef))
    return {node.name for node in functions if node.name.startswith("test_")}


NAMED = sorted(set(re.findall(r"`([\w./]+)::(\w+)`", PAGE)))


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_test_that_shows_a_promise_exists(file: str, name: str) -> None:
    assert name in names_in(ROOT / file)


def test_every_promise_is_shown() -> None:
    promised = re.findall(r"^(\d)\. ", PROMISES, re.MULTILINE)
    rows = re.findall(r"^\| ([\d, ]+) .*::", section("What shows it"), re.MULTILINE)
    assert set(promised) == set(re.findall(r"\d", " ".join(rows)))


def test_every_row_of_the_table_names_a_test() -> None:
    rows = section("What shows it").splitlines()[2:]
    assert [row for row in rows if row.startswith("|") and "::" not in row] == []


def test_the_ports_are_those_of_the_abi() -> None:
    first, last = re.findall(r"\*\*Ports\*\*: (0x\w+) to (0x\w+),", PAGE)[0]
    ports = {getattr(lib, name) for name in dir(lib) if name.startswith("HL_PORT_")}
    assert ports == set(range(int(first, 16), int(last, 16) + 1))


def test_the_leaves_of_cpuid_are_those_of_the_code() -> None:
    rules = (ROOT / "vmm_c/src/cpu.c").read_text().partition("cpuid_rules[] = {")[2]
    code = re.findall(r"^    \{(0x\w+), ", rules.partition("\n};")[0], re.MULTILINE)
    page = section("Refused unless named here").partition("**CPUID**: leaves")[2]
    assert code == re.findall(r"0x[0-9a-f]+", page.partition("of each")[0])


def test_every_limit_has_its_own_error() -> None:
    named = re.findall(r"^\| `\w+` \| .* \| `(\w+)` \|", section("Limits"), re.MULTILINE)
    limits = {error.__name__ for error in errors.LimitExceededError.__subclasses__()}
    assert len(named) == len(set(named))
    assert set(named) == limits


def lines_of(path: Path) -> int:
    files = sorted(path.glob("*.[ch]")) if path.is_dir() else [path]
    return sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)


COUNTED = re.findall(r"^\| `([\w./]+)` \| (\d+) \|", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("part", "most"), COUNTED)
def test_what_must_be_believed_is_no_larger_than_it_says(part: str, most: str) -> None:
    """And not so much smaller that the figure says nothing."""
    assert 0.8 * int(most) <= lines_of(ROOT / part) <= int(most)
