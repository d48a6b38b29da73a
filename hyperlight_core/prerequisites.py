"""What this machine must have: checks that need nothing but Python's standard library.

The Makefile runs this file before anything is installed, with whatever Python there is;
`hyperlight doctor` adds the checks that need the package.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Check", "build_checks", "run_checks"]

KVM_DEVICE = "/dev/kvm"
OLDEST_PYTHON = (3, 10)
#: `rust-version` of the crates here.
OLDEST_RUST = (1, 81)
_LIBFUZZER = "libclang_rt.fuzzer-x86_64.a"


@dataclass(frozen=True)
class Check:
    """The outcome of one check.

    Attributes:
        name: what was looked at.
        ok: whether it is as it must be.
        detail: what was found.
        remedy: the command or the step that mends it; "" if there is nothing to mend.
        required: whether sandboxes need it; otherwise only work on the source does.
        packages: the Debian packages that bring it.
    """

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    required: bool = False
    packages: tuple[str, ...] = ()

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
        check_compiler(),
        check_program("make", "make"),
        check_python_headers(),
        check_rust(),
    ]


def test_checks() -> list[Check]:
    """What `make test` needs besides: other programs to compare with and to talk to."""
    return [
        check_program("curl", "curl"),
        check_program("gdb", "gdb"),
        check_program("nginx", "nginx-light"),
        check_program("unzip", "unzip"),
        check_fuzzer(),
    ]


def amdv_checks() -> list[Check]:
    """What `make test-amdv` needs besides: an emulator and a first program for its machine."""
    return [
        check_program("qemu-system-x86_64", "qemu-system-x86"),
        check_program("busybox", "busybox-static"),
    ]


def lint_checks() -> list[Check]:
    """What `make lint` needs besides."""
    web = _is_bookworm()
    return [
        check_program("cargo-fmt", "rustfmt-web" if web else "rustfmt"),
        check_program("cargo-clippy", "rust-web-clippy" if web else "rust-clippy"),
    ]


def check_machine() -> Check:
    """Linux on x86-64, the one platform there is."""
    found = f"{platform.system()} on {platform.machine()}"
    if (platform.system(), platform.machine()) == ("Linux", "x86_64"):
        return Check("machine", True, found, required=True)
    return Check("machine", False, found, "use a machine with Linux on x86-64", required=True)


def check_python() -> Check:
    """A Python that the packages support."""
    found = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info >= OLDEST_PYTHON:
        return Check("python", True, found, required=True)
    oldest = ".".join(map(str, OLDEST_PYTHON))
    return Check("python", False, found, f"use Python {oldest} or later", required=True)


def check_kvm(device: str = KVM_DEVICE) -> Check:
    """The KVM device, there and open to this user."""
    if not os.path.exists(device):
        remedy = _kvm_remedy(Path("/proc/cpuinfo").read_text())
        return Check("kvm", False, f"there is no {device}", remedy, required=True)
    if not os.access(device, os.R_OK | os.W_OK):
        remedy = 'sudo usermod -aG kvm "$USER", then log in again'
        return Check("kvm", False, f"no permission to open {device}", remedy, required=True)
    return Check("kvm", True, device, required=True)


def _kvm_remedy(cpuinfo: str) -> str:
    flags = cpuinfo.split()
    for flag, module in (("vmx", "kvm_intel"), ("svm", "kvm_amd")):
        if flag in flags:
            return f"sudo modprobe {module}"
    return "turn on virtualisation in the firmware, or nested virtualisation for this machine"


def check_venv() -> Check:
    """The venv module with pip, which Debian packages apart."""
    if importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip"):
        return Check("venv", True, f"{sys.executable} -m venv")
    return _missing("venv", "this Python cannot make virtual environments", "python3-venv")


def check_compiler() -> Check:
    """A C compiler with the C library's headers."""
    found = check_program("gcc", "gcc", "libc6-dev")
    if found.ok:
        command = [found.detail, "-fsyntax-only", "-include", "stdio.h", "-xc", os.devnull]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return _missing("gcc", f"{found.detail} has no C library headers", "libc6-dev")
    return found


def check_fuzzer() -> Check:
    """Clang with libFuzzer, whose Debian package has clang's version in its name."""
    found = check_program("clang", "clang")
    if found.ok and not os.path.isabs(_output(found.detail, f"-print-file-name={_LIBFUZZER}")):
        version = _output(found.detail, "-dumpversion").split(".")[0]
        return _missing("clang", "there is no libFuzzer", f"libclang-rt-{version}-dev")
    return found


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def check_python_headers() -> Check:
    """Python.h, to compile the extensions."""
    header = os.path.join(sysconfig.get_paths()["include"], "Python.h")
    if os.path.exists(header):
        return Check("python headers", True, header)
    return _missing("python headers", f"there is no {header}", "python3-dev")


def check_rust() -> Check:
    """Cargo with a compiler new enough for the crates."""
    package = "cargo-web" if _is_bookworm() else "cargo"
    cargo, rustc = check_program("cargo", package), check_program("rustc", package)
    if not (cargo.ok and rustc.ok):
        return cargo if rustc.ok else rustc
    run = subprocess.run([rustc.detail, "--version"], capture_output=True, text=True, check=False)
    version = re.search(r"rustc (\d+)\.(\d+)", run.stdout)
    if version and (int(version[1]), int(version[2])) >= OLDEST_RUST:
        return Check("cargo", True, f"{cargo.detail}, {run.stdout.strip()}")
    oldest = ".".join(map(str, OLDEST_RUST))
    return _missing("cargo", f"Rust is older than {oldest}: {run.stdout.strip()}", package)


def check_program(name: str, *packages: str) -> Check:
    """A program in PATH, or where Debian puts servers and rustup what it installs."""
    elsewhere = "/usr/sbin:" + os.path.expanduser("~/.cargo/bin")
    path = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{elsewhere}")
    return Check(name, True, path) if path else _missing(name, "not installed", *packages)


def _missing(name: str, detail: str, *packages: str) -> Check:
    remedy = "sudo apt-get install " + " ".join(packages)
    return Check(name, False, detail, remedy, packages=packages)


def _is_bookworm() -> bool:
    """Whether this is Debian 12, whose recent Rust is in packages of other names."""
    try:
        return "VERSION_CODENAME=bookworm" in Path("/etc/os-release").read_text().split()
    except OSError:
        return False


def main() -> int:
    """Name each failing check in one line, or print the packages that mend them; 1 if one fails."""
    parser = argparse.ArgumentParser(description="Check what this machine must have.")
    parser.add_argument("--test", action="store_true", help="also what `make test` needs")
    parser.add_argument("--amdv", action="store_true", help="also what `make test-amdv` needs")
    parser.add_argument("--lint", action="store_true", help="also what `make lint` needs")
    parser.add_argument("--packages", action="store_true", help="print missing Debian packages")
    options = parser.parse_args()
    checks = run_checks() + build_checks()
    checks += test_checks() if options.test else []
    checks += amdv_checks() if options.amdv else []
    checks += lint_checks() if options.lint else []
    failed = [check for check in checks if not check.ok]
    if options.packages:
        print(*sorted({package for check in failed for package in check.packages}))
        return 0
    for check in failed:
        print(check, file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
