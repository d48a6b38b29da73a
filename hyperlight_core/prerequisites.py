"""What this machine must have: checks that need nothing but Python's standard library.

The Makefile runs this file before anything is installed, with whatever Python there is;
`hyperlight doctor` adds the checks that need the package.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Check", "build_checks", "run_checks"]

KVM_DEVICE = "/dev/kvm"
OLDEST_PYTHON = (3, 10)


@dataclass(frozen=True)
class Check:
    """The outcome of one check.

    Attributes:
        name: what was looked at.
        ok: whether it is as it must be.
        detail: what was found.
        remedy: the command or the step that mends it; "" if there is nothing to mend.
        required: whether sandboxes need it; otherwise only building from source does.
    """

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    required: bool = True

    def __str__(self) -> str:
        """One line for people."""
        remedy = f"; to mend it: {self.remedy}" if self.remedy else ""
        return f"{self.name}: {self.detail}{remedy}"


def run_checks() -> list[Check]:
    """What running a sandbox needs."""
    return [check_machine(), check_python(), check_kvm()]


def build_checks() -> list[Check]:
    """What building the packages from source needs besides."""
    return [
        check_venv(),
        check_program("gcc", "sudo apt-get install gcc libc6-dev"),
        check_program("make", "sudo apt-get install make"),
        check_python_headers(),
        check_program("cargo", "sudo apt-get install cargo"),
    ]


def check_machine() -> Check:
    """Linux on x86-64, the one platform there is."""
    found = f"{platform.system()} on {platform.machine()}"
    if (platform.system(), platform.machine()) == ("Linux", "x86_64"):
        return Check("machine", True, found)
    return Check("machine", False, found, "use a machine with Linux on x86-64")


def check_python() -> Check:
    """A Python that the packages support."""
    found = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info >= OLDEST_PYTHON:
        return Check("python", True, found)
    oldest = ".".join(map(str, OLDEST_PYTHON))
    return Check("python", False, found, f"make PYTHON=python{oldest}, or any later one")


def check_kvm(device: str = KVM_DEVICE) -> Check:
    """The KVM device, there and open to this user."""
    if not Path(device).exists():
        return Check("kvm", False, f"there is no {device}", _kvm_remedy(Path("/proc/cpuinfo")))
    if not os.access(device, os.R_OK | os.W_OK):
        remedy = 'sudo usermod -aG kvm "$USER", then log in again'
        return Check("kvm", False, f"no permission to open {device}", remedy)
    return Check("kvm", True, device)


def _kvm_remedy(cpuinfo: Path) -> str:
    flags = cpuinfo.read_text(encoding="utf-8").split()
    for flag, module in (("vmx", "kvm_intel"), ("svm", "kvm_amd")):
        if flag in flags:
            return f"sudo modprobe {module}"
    return "turn on virtualisation in the firmware, or nested virtualisation for this machine"


def check_venv() -> Check:
    """The venv module with pip, which Debian packages apart."""
    if importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip"):
        return Check("venv", True, "python3 -m venv", required=False)
    remedy = "sudo apt-get install python3-venv"
    return Check("venv", False, "this Python has no venv module", remedy, required=False)


def check_python_headers() -> Check:
    """Python.h, to compile the extensions."""
    header = Path(sysconfig.get_paths()["include"], "Python.h")
    if header.exists():
        return Check("python headers", True, str(header), required=False)
    remedy = "sudo apt-get install python3-dev"
    return Check("python headers", False, f"there is no {header}", remedy, required=False)


def check_program(name: str, remedy: str) -> Check:
    """A program in PATH, or where rustup puts it."""
    cargo = Path("~/.cargo/bin").expanduser()
    path = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{cargo}")
    if path:
        return Check(name, True, path, required=False)
    return Check(name, False, f"{name} is not installed", remedy, required=False)


def main() -> int:
    """Name each failing check in one line; 1 if there is one."""
    parser = argparse.ArgumentParser(description="Check what this machine must have.")
    parser.add_argument("--build-only", action="store_true", help="leave out what running needs")
    failed = [
        check
        for check in build_checks() + ([] if parser.parse_args().build_only else run_checks())
        if not check.ok
    ]
    for check in failed:
        print(check, file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
