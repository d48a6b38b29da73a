"""The examples print what they promise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

STATES = Path(__file__).resolve().parent.parent / "examples" / "states"
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
