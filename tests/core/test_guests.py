"""Guests: found by name through entry points, or by path."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import importlib_metadata
import pytest
from pydantic import BaseModel

from hyperlight_core.errors import (
    ConfigurationError,
    GuestImageError,
    PluginError,
    PluginNotInstalledError,
)
from hyperlight_core.functions import Model
from hyperlight_core.guests import BootRequest, GuestImage, Progress, find_guest, native_guest


class Options(Model):
    """Configuration of the guest below."""

    size: int = 1


class Provider:
    """A guest provider."""

    configuration: ClassVar[type[BaseModel]] = Options

    def __init__(self, configuration: Options) -> None:
        self.size = configuration.size

    def prepare(self, progress: Progress | None = None) -> GuestImage:
        """Report progress once."""
        if progress is not None:
            progress("packing", 1, self.size)
        return GuestImage("small", f"key-{self.size}", b"")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Which entry points are there; a test fills it in."""
    points: dict[str, str] = {}

    def entry_points(*, group: str, name: str) -> list[importlib_metadata.EntryPoint]:
        assert group == "hyperlight.guests"
        if name not in points:
            return []
        return [importlib_metadata.EntryPoint(name, points[name], group)]

    monkeypatch.setattr(importlib_metadata, "entry_points", entry_points)
    return points


def test_an_installed_guest_is_prepared(installed: dict[str, str]) -> None:
    installed["small"] = f"{__name__}:Provider"
    told: list[tuple[str, int, int]] = []
    image = find_guest("small", {"size": 3}, lambda *step: told.append(step))
    assert image.key == "key-3"
    assert told == [("packing", 1, 3)]


def test_an_installed_guest_has_defaults(installed: dict[str, str]) -> None:
    installed["small"] = f"{__name__}:Provider"
    assert find_guest("small").key == "key-1"


@pytest.mark.parametrize("options", [{"size": "large"}, {"size": "3"}, {"colour": "blue"}])
def test_options_that_do_not_suit_it(installed: dict[str, str], options: dict[str, Any]) -> None:
    installed["small"] = f"{__name__}:Provider"
    with pytest.raises(ConfigurationError, match=r"guest 'small': (size|colour)"):
        find_guest("small", options)


def test_a_guest_that_is_not_installed(installed: dict[str, str]) -> None:
    assert not installed
    with pytest.raises(PluginNotInstalledError, match="pip install hl-small"):
        find_guest("small")


@pytest.mark.parametrize("value", ["no_such_module:Provider", f"{__name__}:Nobody"])
def test_a_provider_that_does_not_load(installed: dict[str, str], value: str) -> None:
    installed["small"] = value
    with pytest.raises(PluginError, match=r"plugin 'small'.*import failed"):
        find_guest("small")


def test_a_path_is_a_native_guest(tmp_path: Path) -> None:
    """Any Path, and text with a slash; the content makes the key."""
    path = tmp_path / "guest.elf"
    path.write_bytes(b"one")
    first = find_guest(path)
    assert (first.name, first.elf()) == ("guest.elf", b"one")
    assert find_guest(str(path)) == first
    path.write_bytes(b"two")
    assert find_guest(path).key != first.key


def test_a_path_takes_no_options(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no options"):
        find_guest(tmp_path / "guest.elf", {"size": 1})


def test_a_path_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(GuestImageError, match=r"guest .*: (No such|Is a)"):
            native_guest(path)


def test_a_guest_made_ready_before_is_taken_as_it_is() -> None:
    image = GuestImage("a", "key", b"")
    assert find_guest(image) is image


def test_the_kind_covers_the_program_and_the_content() -> None:
    """A snapshot depends on both."""
    kinds = {GuestImage("", key, elf).kind for key in ("a", "b") for elf in (b"1", b"2")}
    assert len(kinds) == 4
    assert GuestImage("x", "a", b"1").kind == GuestImage("y", "a", b"1").kind


def test_a_request_to_boot_in_the_words_of_the_library_os() -> None:
    request = BootRequest(("/bin/a", "b"), ("X=1",), "/tmp")
    assert request.params() == {"argv": ["/bin/a", "b"], "env": ["X=1"], "cwd": "/tmp"}
