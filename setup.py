"""What pyproject.toml cannot say: how the C helper and the library OS get into the package."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import ClassVar

from setuptools import Command, setup
from setuptools.command.build import build

LIBOS = Path("guests/libos")
PACKAGE_DATA = Path("hyperlight_core/guests")


class BuildGuests(Command):
    """Builds the library OS and puts it, and the headers for native guests, into the package."""

    description = "build the library OS"
    user_options: ClassVar = [("build-lib=", "b", "folder to build into")]
    #: Set by setuptools: the package is used where it lies, so it gets links instead of copies.
    editable_mode = False

    def initialize_options(self) -> None:
        """Declare the option for setuptools."""
        self.build_lib = ""

    def finalize_options(self) -> None:
        """Build into the folder that the modules are built into."""
        self.build_lib = self.get_finalized_command("build_py").build_lib

    def files(self) -> dict[Path, Path]:
        """The source of each file, by its path in the distribution."""
        sdk = [path for path in Path("guests/sdk").iterdir() if path.is_file()]
        headers = {PACKAGE_DATA / "include" / path.name: path for path in sdk}
        return headers | {
            PACKAGE_DATA / "include" / "hl_abi.h": Path("vmm_c/include/hl_abi.h"),
            PACKAGE_DATA / "libos.elf": LIBOS / "build" / "libos.elf",
        }

    def run(self) -> None:
        """Build, then link or copy."""
        subprocess.run(["make", "-C", str(LIBOS)], check=True)
        for name, source in self.files().items():
            target = name if self.editable_mode else Path(self.build_lib, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            if self.editable_mode:
                target.symlink_to(source.resolve())
            else:
                shutil.copyfile(source, target)

    def get_outputs(self) -> list[str]:
        """The files in the distribution."""
        return [str(Path(self.build_lib, name)) for name in self.files()]

    def get_output_mapping(self) -> dict[str, str]:
        """The same with their sources, for editable installations."""
        return {str(Path(self.build_lib, name)): str(path) for name, path in self.files().items()}

    def get_source_files(self) -> list[str]:
        """Nothing beyond MANIFEST.in, which puts the sources into the source distribution."""
        return []


build.sub_commands = [*build.sub_commands, ("build_guests", None)]

setup(
    cffi_modules=["vmm_c/build_vmm.py:ffibuilder"],
    cmdclass={"build_guests": BuildGuests},
    # The extension uses the stable ABI of the oldest supported Python.
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
