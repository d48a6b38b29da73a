"""Sockets in the library OS pass the same checks as those of the host's Linux."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from hyperlight_core.calls import Limits
from hyperlight_core.errors import GuestExitedError
from hyperlight_core.guests import BootRequest, GuestImage, library_os
from hyperlight_core.image import pack_program
from hyperlight_core.machine import Machine, MachineSpec

HERE = Path(__file__).parent
CHECKS = HERE.parents[1] / "guests/libos/tests"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("program") / "sockets"
    options = ["-O1", "-Wall", "-Wextra", "-Werror", f"-I{CHECKS}"]
    subprocess.run(["gcc", *options, "-o", str(built), str(HERE / "sockets.c")], check=True)
    return built


@pytest.fixture
def ports(echo: Any, udp_echo: int, free_port: int) -> list[int]:
    return [echo.port, udp_echo, free_port]


def test_linux(program: Path, ports: list[int]) -> None:
    command = [str(program), *map(str, ports)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.stdout == "done\n"
    assert ended.returncode == 0


@pytest.mark.kvm
def test_the_library_os(program: Path, ports: list[int]) -> None:
    tcp, udp, own = ports
    allow = [f"tcp://127.0.0.1:{tcp}", f"udp://127.0.0.1:{udp}", f"tcp://127.0.0.1:{own}"]
    packed = pack_program(program, directory=program.parent)
    request = BootRequest((packed.path, *map(str, ports)), ())
    output: list[bytes] = []
    spec = MachineSpec(
        GuestImage("test", "test", library_os(), packed.image, request),
        plugins={"net": {"allow": allow, "listen": [own]}},
        boot_limits=Limits(timeout=60),
        stream=lambda _, text: output.append(text),
    )
    with Machine(spec) as machine, machine.using() as calls:
        machine.grant(machine.plugins.table)
        with pytest.raises(GuestExitedError) as end:
            calls.boot(request)
    assert b"".join(output).decode() == "done\n"
    assert end.value.status == 0
