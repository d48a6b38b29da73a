"""What only the emulated machine runs: the C tests of the helper, unsanitized, and one CPython."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from hyperlight_core import Sandbox

pytestmark = pytest.mark.kvm
TESTS = Path(__file__).parents[2] / "vmm_c" / "tests"
CASES = [
    case
    for file in sorted(TESTS.glob("test_*.c"))
    if file.name != "test_elf.c"  # reading programs is the same on every KVM, and takes long here
    for case in re.findall(r"^TEST\((\w+)\)", file.read_text(encoding="utf-8"), re.MULTILINE)
]


@pytest.mark.parametrize("case", CASES)
def test_c(case: str) -> None:
    program = TESTS / "build" / "plain"
    result = subprocess.run([program, case], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_an_unmodified_python_prints_and_is_reset() -> None:
    with Sandbox(memory="128MiB", cache=False, guest_options={"packages": []}) as sandbox:
        assert sandbox.run("kept = 2**0.5; print(kept)").stdout == "1.4142135623730951\n"
        sandbox.reset()
        assert "NameError" in sandbox.run("print(kept)").stderr
