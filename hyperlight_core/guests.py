"""Guests: what can be run, and how `Sandbox("python")` or `Sandbox("some/guest.elf")` finds it."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeAlias

import importlib_metadata
from pydantic import BaseModel, ValidationError

from hyperlight_core.errors import (
    ConfigurationError,
    GuestImageError,
    PluginError,
    PluginNotInstalledError,
)
from hyperlight_core.wire import describe

__all__ = [
    "GUESTS_GROUP",
    "BootRequest",
    "GuestImage",
    "GuestProvider",
    "Progress",
    "find_guest",
    "library_os",
    "native_guest",
]

#: The entry-point group of guest providers.
GUESTS_GROUP = "hyperlight.guests"

#: Called with what is being done, how much is done and how much there is.
Progress: TypeAlias = Callable[[str, int, int], None]


@dataclass(frozen=True)
class BootRequest:
    """What the library OS starts; `argv[0]` is a path in the image."""

    argv: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"

    def params(self) -> dict[str, Any]:
        """As the params of the `exec` request."""
        return {"argv": list(self.argv), "env": list(self.env), "cwd": self.cwd}


@dataclass(frozen=True)
class GuestImage:
    """Everything needed to start a guest.

    Attributes:
        name: for messages.
        key: a hash that names the image's content.
        program: the static ELF file, or None for the library OS.
        image: the file the guest sees read-only, or None.
        boot: what the library OS starts, or None for a native guest.
        requests: methods it answers itself, such as "run" and "call"; empty if not known.
    """

    name: str
    key: str
    program: bytes | None = None
    image: Path | None = None
    boot: BootRequest | None = None
    requests: frozenset[str] = frozenset()

    @property
    def kind(self) -> str:
        """A hash of all that a snapshot depends on: the content and the ELF file that serves it."""
        return _kind(self.key, self.elf())

    def elf(self) -> bytes:
        """The static ELF file to load."""
        return library_os() if self.program is None else self.program


class GuestProvider(Protocol):
    """The class that an entry point of the group `hyperlight.guests` names."""

    configuration: ClassVar[type[BaseModel]]

    def __init__(self, configuration: Any) -> None: ...

    def prepare(self, progress: Progress | None = None) -> GuestImage:
        """Build or find the image; may take long the first time."""


@functools.lru_cache(maxsize=64)
def _kind(key: str, elf: bytes) -> str:
    return hashlib.sha256(key.encode() + hashlib.sha256(elf).digest()).hexdigest()


@functools.lru_cache(maxsize=1)
def library_os() -> bytes:
    """The library OS, as the ELF file that this distribution brings.

    Raises:
        GuestImageError: the distribution was built without it.
    """
    try:
        return resources.files("hyperlight_core").joinpath("guests/libos.elf").read_bytes()
    except FileNotFoundError as error:
        raise GuestImageError("the library OS is missing from this installation") from error


def native_guest(path: Path) -> GuestImage:
    """A guest that needs no library OS: one static ELF file.

    Raises:
        GuestImageError: the file cannot be read. Whether it is a guest shows when it is loaded.
    """
    try:
        program = path.read_bytes()
    except OSError as error:
        raise GuestImageError(f"the guest {path}: {error.strerror}") from error
    return GuestImage(path.name, hashlib.sha256(program).hexdigest(), program)


def find_guest(
    name: str | Path | GuestImage,
    options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> GuestImage:
    """The guest of that name, or of that path if it is a Path or has a slash in it.

    Args:
        name: of an installed guest, or the path of a native one, or a guest made ready before. An
            installed guest is looked at once in a process for the same options.
        options: the configuration of an installed guest.
        progress: told how far its preparation is.

    Raises:
        PluginNotInstalledError: no such guest is installed.
        PluginError: its provider fails to load.
        ConfigurationError: `options` do not suit it.
    """
    if isinstance(name, GuestImage):
        return name
    if isinstance(name, Path) or "/" in name:
        if options:
            raise ConfigurationError("a native guest takes no options")
        return native_guest(Path(name))
    key = (name, repr(sorted((options or {}).items())))
    known = _prepared.get(key)
    if known is None or not (known.image and known.image.exists()):
        known = _prepared[key] = _provider(name, options or {}).prepare(progress)
    return known


#: What was prepared in this process: looking through an installation takes tens of milliseconds.
_prepared: dict[tuple[str, str], GuestImage] = {}


def _provider(name: str, options: Mapping[str, Any]) -> GuestProvider:
    points = importlib_metadata.entry_points(group=GUESTS_GROUP, name=name)
    if not points:
        raise PluginNotInstalledError(
            f"guest {name!r} is not installed: pip install hl-{name}, or give the path of an ELF"
        )
    return _configured(next(iter(points)), options)


def _configured(point: importlib_metadata.EntryPoint, options: Mapping[str, Any]) -> GuestProvider:
    try:
        provider: type[GuestProvider] = point.load()
    except Exception as error:
        raise PluginError(f"import failed: {error}", plugin=point.name) from error
    try:
        configuration = provider.configuration.model_validate(dict(options))
    except ValidationError as error:
        raise ConfigurationError(f"guest {point.name!r}: {describe(error)}") from error
    return provider(configuration)
