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


class ConformanceHooks:
    """What the `conftest.py` of a plugin's tests may implement."""

    @pytest.hookspec(firstresult=True)
    def pytest_hyperlight_configuration(self, plugin: str, tmp_path: Path) -> dict[str, Any] | None:
        """The configuration a plugin is tested with, by its name; None for that of another one."""


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Let test suites configure their plugins."""
    pluginmanager.add_hookspecs(ConformanceHooks)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--hyperlight-conformance`."""
    parser.addoption(
        "--hyperlight-conformance",
        action="store_true",
        help="also test what every hyperlight plugin must do, on those installed",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Run the conformance tests beside the others, if they are asked for."""
    if config.getoption("--hyperlight-conformance"):
        config.args.append(str(Path(__file__).with_name("conformance.py")))


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
