"""What is missing on a machine is named with the command that mends it."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from hyperlight_core import prerequisites

ROOT = Path(__file__).parents[2]
SCRIPT = Path(prerequisites.__file__)


def run_script(*arguments: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """The file as the Makefile runs it: alone, before anything is installed."""
    return subprocess.run(
        [sys.executable, "-I", str(SCRIPT), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_machine_without_build_tools_is_told_what_to_install(tmp_path: Path) -> None:
    """Every missing tool has a line of its own with a command."""
    result = run_script(environment={"PATH": str(tmp_path), "HOME": str(tmp_path)})
    assert result.returncode == 1
    mended = dict(line.split("; to mend it: ") for line in result.stderr.splitlines())
    assert mended["gcc: not installed"] == "sudo apt-get install gcc libc6-dev"
    assert mended["make: not installed"] == "sudo apt-get install make"
    assert re.fullmatch(r"sudo apt-get install cargo(-web)?", mended["rustc: not installed"])


def test_missing_packages_are_listed_for_apt(tmp_path: Path) -> None:
    """.ci/run installs what --packages prints, and that includes the linters' needs."""
    result = run_script(
        "--lint", "--test", "--packages", environment={"PATH": str(tmp_path), "HOME": str(tmp_path)}
    )
    assert result.returncode == 0
    assert {"gcc", "make", "unzip"} < set(result.stdout.split())
    assert any("clippy" in package for package in result.stdout.split())


def test_cargo_is_found_where_rustup_puts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """~/.cargo/bin counts although it is not in PATH."""
    folder = tmp_path / ".cargo" / "bin"
    folder.mkdir(parents=True)
    for name in ("cargo", "rustc"):
        (folder / name).write_text("#!/bin/sh\necho 'rustc 1.99.0'\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/no/such/folder")
    assert prerequisites.check_program("cargo", "cargo").detail == str(folder / "cargo")


def test_an_old_rust_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian 12's own cargo cannot build the crates, and the check says so."""
    for name in ("cargo", "rustc"):
        (tmp_path / name).write_text("#!/bin/sh\necho 'rustc 1.63.0'\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    check = prerequisites.check_rust()
    assert not check.ok
    assert "older than 1.81: rustc 1.63.0" in check.detail


def test_a_clang_without_its_fuzzer_is_told_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian packages the library of each version on its own."""
    (tmp_path / "clang").write_text("#!/bin/sh\necho 19.1.0\n")
    (tmp_path / "clang").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    check = prerequisites.check_fuzzer()
    assert (check.ok, check.packages) == (False, ("libclang-rt-19-dev",))


def test_the_oldest_rust_is_the_one_the_crates_name() -> None:
    """The check and the crates' rust-version agree."""
    manifests = [path.read_text() for path in ROOT.glob("plugins/*/rust/Cargo.toml")]
    versions = re.findall(r'^rust-version = "(\d+)\.(\d+)"$', "\n".join(manifests), re.MULTILINE)
    assert max((int(major), int(minor)) for major, minor in versions) == prerequisites.OLDEST_RUST


def test_no_kvm_device(tmp_path: Path) -> None:
    check = prerequisites.check_kvm(str(tmp_path / "kvm"))
    assert (check.ok, check.required) == (False, True)
    assert check.detail == f"there is no {tmp_path / 'kvm'}"
    assert check.remedy


@pytest.mark.parametrize(
    ("flags", "remedy"),
    [
        ("fpu vmx sse", "sudo modprobe kvm_intel"),
        ("fpu svm sse", "sudo modprobe kvm_amd"),
        ("fpu sse", "turn on virtualisation in the firmware"),
    ],
)
def test_the_kvm_remedy_fits_the_processor(flags: str, remedy: str) -> None:
    assert prerequisites._kvm_remedy(f"flags : {flags}\n").startswith(remedy)


def test_no_permission_on_the_kvm_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may open anything, so the answer of access(2) is the one another user gets."""
    device = tmp_path / "kvm"
    device.touch(mode=0)

    def access(path: str, mode: int) -> bool:
        needed = stat.S_IROTH * bool(mode & os.R_OK) | stat.S_IWOTH * bool(mode & os.W_OK)
        return Path(path).stat().st_mode & needed == needed

    monkeypatch.setattr(os, "access", access)
    check = prerequisites.check_kvm(str(device))
    assert check.detail == f"no permission to open {device}"
    assert "usermod -aG kvm" in check.remedy


def test_everything_is_there_where_the_tests_run() -> None:
    """The tests build guests and start them, so nothing may be missing here."""
    missing = [
        check for check in prerequisites.run_checks() + prerequisites.build_checks() if not check.ok
    ]
    assert missing == []
