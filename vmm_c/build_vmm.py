"""Builds `hyperlight_core._vmm`, the cffi binding (API mode, abi3) of the C helper in this folder.

setup.py uses `ffibuilder`; run as a script, this file builds the extension in place.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).resolve().parent.parent
INCLUDE = ROOT / "vmm_c" / "include"
MODULE = "hyperlight_core._vmm"

# Strict for the helper's own sources; cffi's generated code is exempt from what it does not keep.
COMPILE_ARGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden")
PREAMBLE = """
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#include "hl_abi.h"
#include "hl_vmm.h"
"""


def declarations() -> str:
    """What Python sees: the marked part of hl_vmm.h and the integer constants of hl_abi.h."""
    header = (INCLUDE / "hl_vmm.h").read_text(encoding="utf-8")
    _, begin, rest = header.partition("/* cdef: ")
    body, end, _ = rest.partition("/* cdef end */")
    if not (begin and end):
        raise ValueError("vmm_c/include/hl_vmm.h lacks its `cdef:` or `cdef end` mark")
    abi = (INCLUDE / "hl_abi.h").read_text(encoding="utf-8")
    names = re.findall(r"^#define (HL_\w+) (?:0x[0-9a-f]+|\d+)$", abi, re.MULTILINE)
    return begin + body + "\n".join(f"#define {name} ..." for name in names)


def builder() -> FFI:
    """The configured cffi builder; its paths are relative to the repository."""
    ffi = FFI()
    ffi.cdef(declarations())
    ffi.set_source(
        MODULE,
        PREAMBLE,
        sources=sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("vmm_c/src/*.c")),
        depends=sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("vmm_c/**/*.h")),
        include_dirs=["vmm_c/include", "vmm_c/src"],
        extra_compile_args=list(COMPILE_ARGS),
    )
    return ffi


ffibuilder = builder()

if __name__ == "__main__":
    # In a process of its own: setuptools reads its configuration from the working directory.
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"], cwd=ROOT, check=True
    )
