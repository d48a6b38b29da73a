"""The C tests of the helper under sanitizers, those with threads under TSan too; short fuzzing."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1] / "vmm_c" / "tests"
FUZZ = TESTS.parent / "fuzz"
#: Inputs tried of each fuzzer, always the same ones; `make fuzz` goes on for as long as one likes.
FUZZED = {"elf": 20_000, "snapshot": 3_000, "guest": 3_000}
#: The files each sanitizer's program is made of; vmm_c/tests/Makefile builds them.
PROGRAMS = {"address": sorted(TESTS.glob("test_*.c")), "thread": [TESTS / "test_kill.c"]}
CASES = [
    pytest.param(sanitizer, name, id=f"{sanitizer}-{name}")
    for sanitizer, files in PROGRAMS.items()
    for file in files
    for name in re.findall(r"^TEST\((\w+)\)", file.read_text(encoding="utf-8"), re.MULTILINE)
]


@pytest.fixture(scope="module", autouse=True)
def programs() -> None:
    """Build them, if that has not been done."""
    subprocess.run(["make", "-s", "-j2", "-C", TESTS, "build"], check=True)


@pytest.mark.kvm
@pytest.mark.parametrize(("sanitizer", "name"), CASES)
def test_c(sanitizer: str, name: str) -> None:
    program = TESTS / "build" / sanitizer
    result = subprocess.run([program, name], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("sanitizer", PROGRAMS)
def test_every_case_of_a_program_is_run_here(sanitizer: str) -> None:
    listed = subprocess.run(
        [TESTS / "build" / sanitizer, "--list"], capture_output=True, text=True, check=True
    )
    assert set(listed.stdout.split()) == {
        case.values[1] for case in CASES if case.values[0] == sanitizer
    }


@pytest.fixture(scope="module")
def fuzzers() -> None:
    """Build them, if that has not been done."""
    subprocess.run(["make", "-s", "-j2", "-C", FUZZ, "build"], check=True)


@pytest.mark.kvm
@pytest.mark.usefixtures("fuzzers")
@pytest.mark.parametrize("target", FUZZED)
def test_a_short_run_of_a_fuzzer_finds_nothing(target: str, tmp_path: Path) -> None:
    program, seeds = FUZZ / "build" / target, FUZZ / "corpus" / target
    found = tmp_path / "found"
    found.mkdir()
    options = ["-seed=1", f"-runs={FUZZED[target]}", f"-artifact_prefix={tmp_path}/"]
    result = subprocess.run(
        [program, *options, found, seeds], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert f"Done {FUZZED[target]} runs" in result.stderr


def test_every_fuzzer_has_seeds_and_a_short_run() -> None:
    targets = {path.stem.removeprefix("fuzz_") for path in FUZZ.glob("fuzz_*.c")}
    assert targets == set(FUZZED) == {path.name for path in FUZZ.glob("corpus/*/")}
