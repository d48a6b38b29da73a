"""Packs the interpreter, its standard library, the driver and named distributions into an image."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution
from pathlib import Path
from typing import cast

from hl_python.bytecode import bytecode, cache_name
from hl_python.distributions import distribution_files, fingerprint, resolve
from hl_python.interpreter import (
    PROGRAM,
    SITE_PACKAGES,
    Scrubber,
    interpreter,
    standard_library,
    system_files,
)
from hyperlight_core.guests import Progress
from hyperlight_core.image import (
    ImageFile,
    ImageWriter,
    cached_image,
    content_key,
    program_files,
)

__all__ = ["START", "Plan", "pack", "plan"]

#: Raised when the same files would give another image.
_VERSION = "1"
_IN_GUEST = Path(__file__).parent / "in_guest"
#: The program the interpreter runs.
START = "usr/lib/hyperlight/start.py"


@dataclasses.dataclass(frozen=True)
class Plan:
    """What goes into an image, before any of it is read.

    Attributes:
        interpreter: the files that belong to the interpreter, scrubbed of the host's prefix.
        distributions: what goes to site-packages.
        key: names the image.
    """

    interpreter: tuple[ImageFile, ...]
    distributions: tuple[Distribution, ...]
    key: str


def plan(packages: Iterable[str]) -> Plan:
    """Look up what an image with these packages consists of.

    Raises:
        ConfigurationError: a package or one it requires is not installed as asked for.
    """
    program = ImageFile(PROGRAM, interpreter(), 0o755)
    own = (program, *_driver(), *standard_library(), *system_files())
    distributions = tuple(resolve(packages))
    key = content_key(own, _VERSION, sys.version, *map(fingerprint, distributions))
    return Plan(own, distributions, key)


def _driver() -> Iterator[ImageFile]:
    yield ImageFile(START, _IN_GUEST / "start.py")
    for path in sorted((_IN_GUEST / "hyperlight").glob("*.py")):
        yield ImageFile(f"{SITE_PACKAGES}/hyperlight/{path.name}", path)


def _packages(distributions: Iterable[Distribution]) -> dict[str, ImageFile]:
    """The distributions' files by name: several may bring the same one, such as a namespace's."""
    return {
        file.name: file
        for installed in distributions
        for name, path in distribution_files(installed)
        for file in [ImageFile(f"{SITE_PACKAGES}/{name}", path)]
    }


def pack(wanted: Plan, *, directory: Path | None = None, progress: Progress | None = None) -> Path:
    """The image file of a plan, from the cache or packed now.

    Args:
        wanted: from `plan`.
        directory: instead of the user's cache directory.
        progress: told about every file.

    Raises:
        ConfigurationError: a package's files are not known, or a file cannot be packed.
        OSError: a file cannot be read or the cache not be written.
    """

    def write(writer: ImageWriter) -> None:
        packages = _packages(wanted.distributions).values()
        own = [*wanted.interpreter, *_libraries([*wanted.interpreter, *packages])]
        total = len(own) + len(packages)
        for done, (file, content) in enumerate(_contents(own, packages), 1):
            for member in _members(file, content):
                writer.add(member)
            if progress:
                progress("packing Python", done, total)

    return cached_image(wanted.key, write, directory)


def _libraries(files: Iterable[ImageFile]) -> Iterator[ImageFile]:
    """The libraries that `files` need beyond themselves."""
    paths = [cast("Path", file.source) for file in files if _is_library(file.name)]
    present = {path.resolve() for path in paths}
    for file in program_files(interpreter(), paths, roots=[Path("/")]):
        if cast("Path", file.source).resolve() not in present:
            yield file


def _is_library(name: str) -> bool:
    return name.endswith(".so") or ".so." in name


def _contents(
    own: Iterable[ImageFile], packages: Iterable[ImageFile]
) -> Iterator[tuple[ImageFile, bytes | None]]:
    """Every file, with its content where that differs from what is on the host."""
    scrubber = Scrubber()
    for file in own:
        yield file, scrubber.content(cast("Path", file.source))
    for file in packages:
        yield file, None


def _members(file: ImageFile, content: bytes | None) -> Iterator[ImageFile]:
    """The file, and its bytecode if it is a module."""
    path = cast("Path", file.source)
    if file.name.endswith(".py"):
        source = path.read_bytes() if content is None else content
        yield dataclasses.replace(file, source=source)
        compiled = bytecode(file.name, source, path if content is None else None)
        if compiled is not None:
            yield ImageFile(cache_name(file.name), compiled)
    else:
        yield file if content is None else dataclasses.replace(file, source=content)
