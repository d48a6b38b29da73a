"""SECURITY.md counts the lines it asks auditors to read, and names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).parents[1]
TEXT = (FOLDER / "SECURITY.md").read_text()


def lines_of_code(path: Path) -> int:
    """Lines without comments, blank lines and tests."""
    source = path.read_text().partition("#[cfg(test)]")[0]
    return sum(bool(re.match(r"\s*[^\s/]|\s*/[^/]", line)) for line in source.splitlines())


def test_the_lines_to_read_are_counted_and_few() -> None:
    said = 0
    for names, count in re.findall(r"^\| `rust/src/(.*?) \|.*\| (\d+) \|$", TEXT, re.MULTILINE):
        files = re.findall(r"\w+\.rs", names)
        assert sum(lines_of_code(FOLDER / "rust/src" / name) for name in files) == int(count), names
        said += int(count)
    assert said == sum(lines_of_code(path) for path in (FOLDER / "rust/src").glob("*.rs"))
    (confinement,) = re.findall(r"\*\*(\d+)\*\* \|$", TEXT, re.MULTILINE)
    assert int(confinement) < 1500
    assert f"makes it {said}." in TEXT


def test_every_test_it_names_exists() -> None:
    named = set(re.findall(r"`((?:plugin/)?test_\w+\.py)`", TEXT))
    assert len(named) >= 6
    assert all((FOLDER / "tests" / name).exists() for name in named)
    assert (FOLDER / "rust/tests/race.rs").exists()
