"""Fixtures for tests of what is built on this library; pytest finds them once it is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest

from hyperlight_core.guests import GuestImage, native_guest
from hyperlight_core.sandbox import Sandbox
from hyperlight_core.testing import FAKE_CONFIG, FakeVm, FunctionGuest, GuestFunction
from hyperlight_core.testing import build_guest as build
from hyperlight_core.vm import VmConfig

__all__ = ["BuildGuest", "MakeFakeVm", "MakeGuest", "MakeSandbox"]


class BuildGuest(Protocol):
    """The fixture `build_guest`."""

    def __call__(self, source: str, *, flags: tuple[str, ...] = ()) -> Path:
        """Compile a native guest, once per session for each source; see `testing.build_guest`."""


class MakeSandbox(Protocol):
    """The fixture `sandbox`."""

    def __call__(self, guest: str | Path | GuestImage, **options: Any) -> Sandbox:
        """Make a Sandbox that is closed after the test."""


class MakeFakeVm(Protocol):
    """The fixture `fake_vm`."""

    def __call__(
        self, functions: Mapping[str, GuestFunction], config: VmConfig = FAKE_CONFIG
    ) -> FakeVm:
        """Make a VM, closed after the test, whose guest answers from these functions."""


#: The fixture `guest`: a native guest from C source.
MakeGuest = Callable[[str], GuestImage]


@pytest.fixture(scope="session")
def build_guest(tmp_path_factory: pytest.TempPathFactory) -> BuildGuest:
    """Compiles native guests from C source."""
    directory = tmp_path_factory.mktemp("guests")

    def make(source: str, *, flags: tuple[str, ...] = ()) -> Path:
        return build(source, directory, flags=flags)

    return make


@pytest.fixture(scope="session")
def guest(build_guest: BuildGuest) -> MakeGuest:
    """Makes guests from C source."""
    return lambda source: native_guest(build_guest(source))


@pytest.fixture
def sandbox() -> Iterator[MakeSandbox]:
    """Makes sandboxes."""
    with ExitStack() as stack:

        def make(guest: str | Path | GuestImage, **options: Any) -> Sandbox:
            return stack.enter_context(Sandbox(guest, **options))

        yield make


@pytest.fixture
def fake_vm() -> Iterator[MakeFakeVm]:
    """Makes VMs that need no KVM."""
    with ExitStack() as stack:

        def make(functions: Mapping[str, GuestFunction], config: VmConfig = FAKE_CONFIG) -> FakeVm:
            return stack.enter_context(FakeVm(FunctionGuest(functions), config))

        yield make
