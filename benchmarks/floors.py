"""Builds and runs the floors: the C programs in floor/, and the interpreter outside a guest."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FLOOR = ROOT / "benchmarks" / "floor"
SDK = ROOT / "guests" / "sdk"
ABI = ROOT / "vmm_c" / "include"


@functools.lru_cache
def _workplace() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="hyperlight-bench-")


def build_guest(source: Path) -> Path:
    """The native guest of one C file."""
    target = Path(_workplace().name) / f"{source.stem}.elf"
    options = (
        "-O2 -static -nostdlib -ffreestanding -fno-stack-protector -fno-pie -no-pie"
        " -Wl,-Ttext-segment=0x210000 -Wl,--build-id=none"
    )
    files = [str(source), str(SDK / "start.c")]
    command = ["gcc", *options.split(), f"-I{SDK}", f"-I{ABI}", "-o", str(target), *files]
    subprocess.run(command, check=True)
    return target


@functools.lru_cache
def idle_guest() -> Path:
    """A guest that answers and does nothing else."""
    return build_guest(FLOOR / "park.c")


@functools.lru_cache
def floors() -> dict[str, Any]:
    """What floor.c measures, in ns."""
    program = Path(_workplace().name) / "floor"
    helper = ROOT / "vmm_c"
    sources = [FLOOR / "floor.c", *sorted((helper / "src").glob("*.c"))]
    command = ["gcc", "-std=gnu11", "-O2", f"-I{ABI}", f"-I{helper / 'src'}", "-o", str(program)]
    subprocess.run([*command, *map(str, sources), "-lpthread"], check=True)
    found = subprocess.run(
        [str(program), str(idle_guest())], check=True, capture_output=True, text=True
    )
    measured: dict[str, Any] = json.loads(found.stdout)
    return measured


def native_python(code: str) -> str:
    """What this interpreter prints when it runs `code` outside a guest."""
    command = [sys.executable, "-I", "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
