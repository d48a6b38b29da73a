"""This folder is enough: a copy of it builds, tests and lints by the commands of its README."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1]
LEFT_OUT = shutil.ignore_patterns("build", "*.so", "*.egg-info", "__pycache__", ".*", "target")


def commands(title: str) -> list[str]:
    """The commands of the first block beneath a heading of the README."""
    text = (FOLDER / "README.md").read_text().partition(f"\n## {title}")[2]
    block = re.search(r"```console\n(.*?)```", text, re.DOTALL)
    assert block
    return block[1].splitlines()


def environment(copy: Path, venv: Path) -> dict[str, str]:
    """A fresh virtual environment that borrows what is installed here, and so downloads nothing."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (packages,) = venv.glob("lib/python*/site-packages")
    here = sysconfig.get_path("purelib")
    (packages / "borrowed.pth").write_text(f"import site; site.addsitedir({here!r})")
    return {
        **os.environ,
        "PATH": f"{venv}/bin:{os.environ['PATH']}",
        "PYTHONPATH": str(copy / "src"),  # before what is installed here in place
        "PYTHONWARNINGS": "",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip reads this as `--no-build-isolation`
        "PIP_NO_DEPS": "1",
        "PIP_QUIET": "1",
        "HL_FS_RACE_SECONDS": "1",
        "CARGO_TARGET_DIR": str(copy / "rust" / "target"),
    }


def copy_out(copy: Path) -> None:
    """Copy this folder, and what cargo has built of others' crates: its own depends on the place.

    The build for Python and the others share what they build.
    """
    shutil.copytree(FOLDER, copy, ignore=LEFT_OUT)
    if (FOLDER / "build/rust").exists():
        shutil.copytree(FOLDER / "build/rust", copy / "build/rust")
    (copy / "build/rust").mkdir(parents=True, exist_ok=True)
    (copy / "rust/target").symlink_to("../build/rust")


@pytest.mark.timeout(600)
def test_a_copy_of_this_folder_builds_tests_and_lints(tmp_path: Path) -> None:
    copy = tmp_path / "hl_fs"
    copy_out(copy)
    variables = environment(copy, tmp_path / "venv")

    def run(command: str) -> str:
        process = subprocess.run(
            ["bash", "-c", command],
            cwd=copy,
            env=variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert process.returncode == 0, command + "\n" + process.stdout + process.stderr
        return process.stdout

    for command in commands("Lift it into another project"):
        run(command)
    where = run("python -c 'import hl_fs; print(hl_fs.__file__, hl_fs.capfs.lib)'")
    assert where.startswith(str(copy))
    run("cargo clippy --release --locked --manifest-path rust/Cargo.toml -- -D warnings")
    run("cargo fmt --check --manifest-path rust/Cargo.toml")
    shutil.copy(copy / "tests/c/driver.c", copy / "program.c")
    for command in commands("Use: C"):
        run(command)
    run("./program " + "-1 " * 8 + "</dev/null")
