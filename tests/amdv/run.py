"""Runs the guest tests on a second KVM: AMD-V, as QEMU emulates it, on any machine.

The emulated machine has Debian's kernel, which is not installed, and the files of this one, which
it can read and not change. It needs no KVM itself; about everything in it is slow.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tests.amdv.kernel import fetch_kernel, initramfs, modules

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TIMEOUT = 1800.0


def main() -> int:
    """Run them; 0 if all passed."""
    kernel = fetch_kernel(ROOT / "build" / "amdv")
    with tempfile.NamedTemporaryFile() as archive:
        archive.write(_start_files(kernel))
        archive.flush()
        command = _machine(next(kernel.glob("boot/vmlinuz-*")), Path(archive.name))
        machine = subprocess.Popen(
            ["timeout", "-k", "5", str(TIMEOUT), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        assert machine.stdout
        return report(machine.stdout)


def _start_files(kernel: Path) -> bytes:
    """The initramfs: busybox, the modules in their order, and what to do."""
    files = {f"modules/{number:02}": module for number, module in enumerate(modules(kernel))}
    files["bin/busybox"] = Path("/bin/busybox").read_bytes()
    files["init"] = (HERE / "init").read_bytes()
    files["command"] = f"cd {shlex.quote(str(ROOT))} && sh tests/amdv/inside.sh\n".encode()
    return initramfs(files)


def _machine(kernel: Path, archive: Path) -> list[str]:
    # -la57: KVM there is not to use five levels of page tables, which QEMU's AMD-V lacks.
    share = "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"
    return [
        *("qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max,+svm,-la57"),
        *("-m", "3G", "-nographic", "-no-reboot", "-nic", "none", "-virtfs", share),
        *("-kernel", str(kernel), "-initrd", str(archive)),
        *("-append", "console=ttyS0 quiet panic=1 mitigations=off"),
    ]


def report(output: Iterable[str]) -> int:
    """Show what the machine prints; sum it up in the last line. 0 if all tests ran and passed."""
    counts = {"passed": 0, "failed": 0, "error": 0}
    ended = False
    for line in output:
        show(line)
        if re.search(r"\d (passed|failed|errors?)\b.* in [\d.]+s", line):
            found = re.findall(r"(\d+) (passed|failed|error)", line)
            counts.update({kind: int(number) for number, kind in found})
        ended = ended or line.strip() == "amdv: ended with 0"
    failed = counts["failed"] + counts["error"]
    show(f"{counts['passed']} passed, {failed} failed{'' if ended else ', not to the end'}\n")
    return int(failed > 0 or not ended or not counts["passed"])


def show(text: str) -> None:
    """Print it at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
