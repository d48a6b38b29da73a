"""mypy and pyright accept the legal moves of a chain of states and refuse each illegal one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CASES = sorted((ROOT / "tests" / "typing").glob("*.py"))
ILLEGAL = (ROOT / "tests" / "typing" / "illegal.py").read_text(encoding="utf-8")
#: The comments that say of a line that it is refused, one for each checker.
IGNORES = {"mypy": r"# type: ignore\[[\w-]+\]", "pyright": r"# pyright: ignore\[\w+\]"}


def errors_of_mypy(folder: Path) -> list[str]:
    """The complaints about the files, each with its line."""
    options = ["--strict", "--no-error-summary", "--no-pretty", "--python-executable"]
    files = [folder / file.name for file in CASES]
    result = subprocess.run(
        [sys.executable, "-m", "mypy", *options, sys.executable, *files],
        cwd=folder,
        env={"MYPYPATH": str(ROOT), "PATH": "", "MYPY_CACHE_DIR": str(folder / ".mypy_cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not result.stderr
    return [line for line in result.stdout.splitlines() if ": error:" in line]


def errors_of_pyright(folder: Path) -> list[str]:
    """The same."""
    config = {
        "include": [str(folder)],
        "extraPaths": [str(ROOT)],
        "typeCheckingMode": "standard",
        "enableTypeIgnoreComments": False,
        "reportUnnecessaryTypeIgnoreComment": "error",
    }
    (folder / "pyrightconfig.json").write_text(json.dumps(config), encoding="utf-8")
    result = subprocess.run(
        [
            *(sys.executable, "-m", "basedpyright", "--outputjson"),
            *("-p", str(folder), "--pythonpath", sys.executable),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    return [
        f"{Path(fault['file']).name}:{fault['range']['start']['line'] + 1}: {fault['message']}"
        for fault in json.loads(result.stdout)["generalDiagnostics"]
    ]


CHECKERS = {"mypy": errors_of_mypy, "pyright": errors_of_pyright}


def copy_to(folder: Path, without: str = "") -> None:
    """Copy the files, without the comments that `without` matches."""
    for file in CASES:
        text = file.read_text(encoding="utf-8")
        (folder / file.name).write_text(re.sub(without, "", text) if without else text)


@pytest.mark.parametrize("checker", CHECKERS)
def test_legal_moves_pass_and_every_error_that_is_expected_is_there(
    checker: str, tmp_path: Path
) -> None:
    """A comment that ignores an error is an error itself where there is none."""
    copy_to(tmp_path)
    assert CHECKERS[checker](tmp_path) == []


@pytest.mark.parametrize("checker", CHECKERS)
def test_each_illegal_line_is_refused(checker: str, tmp_path: Path) -> None:
    """Without the comments, the errors are in just those lines."""
    copy_to(tmp_path, IGNORES[checker])
    found = {int(error.split(":")[1]) for error in CHECKERS[checker](tmp_path)}
    lines = enumerate(ILLEGAL.splitlines(), 1)
    assert found == {number for number, line in lines if re.search(IGNORES[checker], line)}
    assert len(found) > 15
