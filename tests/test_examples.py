"""The examples print what they promise."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
STATES = ROOT / "examples" / "states"
FRONT_CLASS_LINES = 60

pytestmark = pytest.mark.kvm


def printed(script: Path) -> list[str]:
    command = [sys.executable, str(script)]
    found = subprocess.run(command, check=False, capture_output=True, text=True, cwd=script.parent)
    assert found.returncode == 0, found.stderr
    return found.stdout.splitlines()


def test_code_is_swapped_on_one_runtime() -> None:
    assert printed(STATES / "runtime_first.py") == [
        "first user: hello world",
        "second user: 1 1 - reset after every call",
        "third user: SyntaxError: expected ':'",
        "the runtime is ready",
    ]


def test_each_of_five_states_reaches_its_own_functions() -> None:
    assert printed(STATES / "five_states.py") == [
        "Uninitialised: nothing runs yet",
        "Booted: tools.clock",
        "Warm: tools.library",
        "Library: tools.settings",
        "Tenant: tools.lookup",
        "total(20) = 41",
        "Library: tools.settings",
        "Warm: tools.library",
    ]


def test_a_front_class_over_the_states() -> None:
    script = STATES / "front_class.py"
    assert printed(script) == ["42", "-41"]
    assert len(script.read_text(encoding="utf-8").splitlines()) < FRONT_CLASS_LINES


def test_the_page_for_library_authors_runs_from_top_to_bottom() -> None:
    page = (ROOT / "docs" / "states.md").read_text(encoding="utf-8")
    code = "".join(re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    code = code.replace("code.handle(41) ", "assert code.handle(41) == 42")
    command = [sys.executable, "-c", code + "\nprint(runtime.status)\nruntime.close()"]
    found = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (found.stdout, found.stderr) == ("ready\n", "")


def test_the_page_on_pools_prints_what_its_comments_say() -> None:
    page = (ROOT / "docs" / "pool.md").read_text(encoding="utf-8")
    code = "".join(re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    found = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True
    )
    assert found.stderr == ""
    printed = [line for line in found.stdout.splitlines() if line]
    assert printed == re.findall(r"^ *print.*  # (.*)$", code, re.MULTILINE)


def test_the_page_about_snapshots_runs_from_top_to_bottom(tmp_path: Path) -> None:
    """What its comments say is what it prints."""
    page = (ROOT / "docs" / "snapshots.md").read_text(encoding="utf-8")
    code = "".join(re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path)
    expected = re.findall(r"stdout\)  # (.*)", code)
    assert len(expected) > 1
    assert (found.stdout.split(), found.stderr) == (expected, "")
