"""What the tests of core share."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from hyperlight_core.guests import GuestImage
from hyperlight_core.machine import MachineSpec
from hyperlight_core.pytest_plugin import MakeGuest
from hyperlight_core.sandbox import Sandbox
from hyperlight_core.testing import fake_spec
from tests.core.chain import GUEST, Booted, Handles

GUESTS = Path(__file__).parent / "guests"


@pytest.fixture(scope="session")
def hostile(guest: MakeGuest) -> GuestImage:
    """A native guest that does what the test says: count, write, crash, lie."""
    return guest((GUESTS / "hostile.c").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def with_image(hostile: GuestImage, tmp_path_factory: pytest.TempPathFactory) -> GuestImage:
    """The hostile guest, with an image of 5000 bytes, which end within a page."""
    image = tmp_path_factory.mktemp("image") / "image"
    image.write_bytes(b"x" * 5000)
    return dataclasses.replace(hostile, image=image)


@pytest.fixture(scope="module")
def shared(with_image: GuestImage) -> Iterator[Sandbox]:
    """A sandbox of 8 MiB that is attacked again and again."""
    with Sandbox(with_image, memory="8MiB", timeout=10.0) as sandbox:
        yield sandbox


@pytest.fixture
def target(shared: Sandbox) -> Iterator[Sandbox]:
    """The shared sandbox, which must work after the attack, as must the next one."""
    yield shared
    shared.reset()
    with shared.clone() as other:
        assert other.call("count") == 1
    assert shared.call("count") == 1
    shared.reset()


@pytest.fixture
def handles() -> Handles:
    return Handles()


@pytest.fixture
def spec(handles: Handles) -> MachineSpec:
    return fake_spec(GUEST, plugins={"handles": handles})


@pytest.fixture
def booted(spec: MachineSpec) -> Iterator[Booted]:
    with Booted.start(spec) as state:
        yield state
