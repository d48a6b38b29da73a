"""Builds the Rust library with cargo before the extension that links it."""

import os
import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext


class BuildRustFirst(build_ext):
    """`cargo build` into build/rust, then the extension module."""

    def run(self) -> None:
        """Build both."""
        command = ["cargo", "build", "--release", "--locked", "--manifest-path", "rust/Cargo.toml"]
        target = str(Path("build/rust").resolve())
        subprocess.run(command, check=True, env={**os.environ, "CARGO_TARGET_DIR": target})
        super().run()


setup(
    cffi_modules=["src/hl_fs/_build.py:ffi"],
    cmdclass={"build_ext": BuildRustFirst},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
