"""What the tests share: a driver that runs as a native process, and images of real interpreters."""

import json
import os
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from struct import Struct
from typing import Any

import hl_python
import pytest

from hyperlight_core import wire

HEADER = Struct("<4I")
IN_GUEST = Path(hl_python.__file__).parent / "in_guest"
START = (
    "import sys; sys.path.append(sys.argv.pop(1))\n"
    "from hyperlight._driver import main; main(sys.argv[1:])"
)


class Peer:
    """The host's end of one of the guest's devices: a socket that keeps frames apart."""

    def __init__(self, kind: socket.SocketKind = socket.SOCK_SEQPACKET) -> None:
        self.own, self.guests = socket.socketpair(socket.AF_UNIX, kind)

    def send(self, message: Any, attachment: bytes = b"") -> None:
        text = json.dumps(message).encode()
        offset = HEADER.size + len(text) if attachment else 0
        header = HEADER.pack(wire.ABI_VERSION, len(text), offset, len(attachment))
        self.own.sendall(header + text + attachment)

    def receive(self) -> tuple[Any, bytes]:
        frame = self.own.recv(1 << 20)
        version, size, offset, attachment_size = HEADER.unpack_from(frame)
        assert version == wire.ABI_VERSION
        assert len(frame) == max(HEADER.size + size, offset + attachment_size)
        return json.loads(frame[HEADER.size :][:size]), frame[offset:][:attachment_size]


class NativeDriver:
    """The driver as a process of the host, with sockets for the guest's devices."""

    def __init__(self, *modules: str, kind: socket.SocketKind = socket.SOCK_SEQPACKET) -> None:
        self.serve, self.calls = Peer(kind), Peer()
        descriptors = [self.serve.guests.fileno(), self.calls.guests.fileno()]
        command = [sys.executable, "-I", "-B", "-X", "utf8", "-c", START, str(IN_GUEST)]
        command += ["--descriptors", *map(str, descriptors), *modules]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=descriptors
        )
        self.serve.guests.close()
        self.calls.guests.close()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)

    def request(self, method: str, **params: Any) -> Any:
        self.serve.send({"jsonrpc": "2.0", "id": 7, "method": method, "params": params})
        response, _ = self.serve.receive()
        assert (response.pop("jsonrpc"), response.pop("id")) == ("2.0", 7)
        return response

    def run(self, code: str, **params: Any) -> tuple[int, str, str]:
        """Exit code, stdout and stderr, all of it there when the reply is."""
        response = self.request("run", code=code, **{"reseed": False, **params})
        return response["result"]["exit_code"], self._printed("stdout"), self._printed("stderr")

    def call(self, function: str, *args: Any, **kwargs: Any) -> Any:
        return self.request("call", function=function, args=args, kwargs=kwargs, reseed=False)

    def _printed(self, name: str) -> str:
        return (getattr(self.process, name).read() or b"").decode()

    def close(self) -> None:
        self.serve.own.close()
        self.calls.own.close()
        self.process.communicate(timeout=60)


@pytest.fixture
def start_driver() -> Iterator[Callable[..., NativeDriver]]:
    drivers = []

    def start(*modules: str, **options: Any) -> NativeDriver:
        drivers.append(NativeDriver(*modules, **options))
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.close()


@pytest.fixture
def driver(start_driver: Callable[..., NativeDriver]) -> NativeDriver:
    return start_driver()


def interpreters() -> list[str]:
    """The running interpreter's program, and the system's if the same packages suit it."""
    own = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    system = os.path.realpath(f"/usr/bin/python{sysconfig.get_python_version()}")
    return list(dict.fromkeys(path for path in (own, system) if Path(path).exists()))


@pytest.fixture(scope="session", params=interpreters())
def packed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image packed by each interpreter of this version on the machine."""
    directory = tmp_path_factory.mktemp("images")
    code = (
        "import sys, pathlib; sys.path[:] = sys.path[:4] + sys.argv[2:]\n"
        "from hl_python.packer import pack, plan\n"
        "print(pack(plan([]), directory=pathlib.Path(sys.argv[1])))"
    )
    paths = [path for path in sys.path if path]
    command = [request.param, "-I", "-c", code, str(directory), *paths]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Path(done.stdout.strip())
