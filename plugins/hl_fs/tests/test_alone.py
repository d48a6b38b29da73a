"""This folder is enough: a copy of it builds, tests and lints with nothing else of a repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1]
LEFT_OUT = shutil.ignore_patterns("build", "*.so", "*.egg-info", "__pycache__", ".*", "target")


@pytest.mark.timeout(1800)
def test_a_copy_of_this_folder_builds_tests_and_lints(tmp_path: Path) -> None:
    copy = tmp_path / "hl_fs"
    shutil.copytree(FOLDER, copy, ignore=LEFT_OUT)
    environment = {**os.environ, "PYTHONPATH": str(copy / "src"), "HL_FS_RACE_SECONDS": "1"}

    def run(*command: str) -> str:
        process = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True, check=False
        )
        assert process.returncode == 0, process.stdout + process.stderr
        return process.stdout

    run(sys.executable, "setup.py", "build_ext", "--inplace")
    where = run(sys.executable, "-c", "import hl_fs; print(hl_fs.__file__)")
    assert where.startswith(str(copy))
    run(
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--ignore",
        "tests/test_alone.py",
    )
    run(sys.executable, "-m", "ruff", "check", ".")
    run(sys.executable, "-m", "ruff", "format", "--check", ".")
    run(sys.executable, "-m", "mypy", "src")
    cargo = ["--locked", "--release", "--manifest-path", "rust/Cargo.toml"]
    environment["CARGO_TARGET_DIR"] = str(copy / "build" / "rust")
    run("cargo", "test", *cargo)
    run("cargo", "clippy", "--all-targets", *cargo, "--", "-D", "warnings")
    run("cargo", "fmt", "--check", "--manifest-path", "rust/Cargo.toml")
