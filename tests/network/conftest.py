"""Python guests with a network, and the servers of hl_net's own tests for it."""

from __future__ import annotations

import importlib.util
import socket
import sys
import textwrap
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import pytest

from hyperlight_core import Sandbox
from hyperlight_core.pytest_plugin import MakeSandbox

PLUGIN_TESTS = Path(__file__).parents[2] / "plugins/hl_net/tests"


def load(name: str) -> ModuleType:
    """A module of the plugin's tests, which are no package."""
    known = f"hl_net_tests.{name}"
    if known not in sys.modules:
        spec = importlib.util.spec_from_file_location(known, PLUGIN_TESTS / f"{name}.py")
        assert spec
        assert spec.loader
        sys.modules[known] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[known]


_servers, _http = load("conftest"), load("http/conftest")
serve, echo, black_hole, dns_stub = (
    _servers.serve,
    _servers.echo,
    _servers.black_hole,
    _servers.dns_stub,
)
nginx, http_server = _http.nginx, _http.http_server


class Run(Protocol):
    """The fixture `run`."""

    def __call__(
        self, sandbox: Sandbox, code: str, exit_code: int = 0, /, **values: object
    ) -> list[str]:
        """Run code that finds these values as globals; the lines it printed."""


@pytest.fixture
def online(sandbox: MakeSandbox) -> Callable[..., Sandbox]:
    """Makes Python guests with a network of this configuration."""

    def make(
        plugins: dict[str, Any] | None = None, packages: Iterable[str] = (), **network: Any
    ) -> Sandbox:
        everything = {"net": network, **(plugins or {})}
        return sandbox("python", plugins=everything, guest_options={"packages": list(packages)})

    return make


@pytest.fixture
def run() -> Run:
    """Runs code in a sandbox."""

    def run(sandbox: Sandbox, code: str, exit_code: int = 0, /, **values: object) -> list[str]:
        begin = "".join(f"{name} = {value!r}\n" for name, value in values.items())
        result = sandbox.run(begin + textwrap.dedent(code))
        assert (result.exit_code, result.stderr) == (exit_code, "")
        return result.stdout.splitlines()

    return run


@pytest.fixture(scope="session")
def ssrf_spellings() -> list[str]:
    """What the plugin's tests try to reach loopback, private networks and metadata by."""
    found: list[str] = load("http/test_ssrf").SPELLINGS
    return found


@pytest.fixture
def canary() -> Any:
    """Listens on loopback, and notices every connection."""
    made = load("http/test_ssrf").Canary()
    yield made
    for listener in made.listeners:
        listener.close()


@pytest.fixture
def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@pytest.fixture
def udp_echo() -> Iterator[int]:
    """The port of a UDP server that sends back what it gets."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def answer() -> None:
            while (received := server.recvfrom(1 << 16))[0] != b"stop":
                server.sendto(*received)

        thread = threading.Thread(target=answer)
        thread.start()
        yield server.getsockname()[1]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"stop", server.getsockname())
        thread.join()
