"""Builds the module `hl_fs._ffi`: the declarations of the C header over the Rust library."""

from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).parents[2]
HEADER = ROOT / "rust" / "include" / "hl_fs.h"

_, _, text = HEADER.read_text(encoding="utf-8").partition("- declarations -")
declarations, _, _ = text.partition("/* ---- end of the declarations")
declarations = declarations.partition("*/")[2]

ffi = FFI()
ffi.cdef(declarations)
ffi.set_source(
    "hl_fs._ffi",
    '#include "hl_fs.h"',
    include_dirs=["rust/include"],
    extra_objects=["build/rust/release/libhl_fs.a"],
    # The Rust standard library stays inside: another such library in the process has its own.
    extra_link_args=["-Wl,--exclude-libs,ALL", "-Wl,--gc-sections", "-Wl,--strip-all"],
    libraries=["gcc_s", "pthread", "dl", "m"],
    py_limited_api=True,
)
