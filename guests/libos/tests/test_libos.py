"""Runs this folder's test programs in the library OS, and on the host's Linux for comparison."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from hyperlight_core.calls import Limits
from hyperlight_core.errors import GuestExitedError, SandboxTimeoutError
from hyperlight_core.guests import BootRequest, GuestImage
from hyperlight_core.image import ImageFile, ImageWriter, pack_program
from hyperlight_core.machine import Machine, MachineSpec
from hyperlight_core.vm import VmConfig

pytestmark = pytest.mark.kvm
HERE = Path(__file__).parent
LIBRARY_OS = HERE.parent / "build/libos.elf"
MIB = 2**20

#: Programs that are told what to do; all others check what Linux does and end with "done".
DRIVEN = {"ends", "json_probe", "process"}
PROGRAMS = sorted({program.stem for program in HERE.glob("*.c")} - DRIVEN)


class Result(NamedTuple):
    """How a program ended."""

    status: int
    stdout: str
    stderr: str


Build = Callable[..., Path]


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Compiles a program of this folder, once for each set of options."""
    folder = tmp_path_factory.mktemp("programs")

    def build(name: str, *options: str) -> Path:
        program = folder.joinpath("-".join([name, *options]), name)
        if not program.exists():
            program.parent.mkdir(exist_ok=True)
            source = str(HERE / f"{name}.c")
            warnings = ["-Wall", "-Wextra", "-Werror"]
            subprocess.run(
                ["gcc", "-O1", "-pthread", *warnings, *options, "-o", str(program), source],
                check=True,
            )
        return program

    return build


def boot(
    image: Path, argv: list[str], env: tuple[str, ...], *, memory: int, timeout: float
) -> Result:
    """Run a program of the image to its end."""
    output: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
    request = BootRequest(tuple(argv), env)
    guest = GuestImage("test", "test", LIBRARY_OS.read_bytes(), image, request)
    spec = MachineSpec(
        guest,
        VmConfig(memory * MIB),
        boot_limits=Limits(timeout=timeout),
        stream=lambda stream, text: output[stream].append(text),
    )
    with (
        Machine(spec) as machine,
        machine.using() as calls,
        pytest.raises(GuestExitedError) as end,
    ):
        calls.boot(request)
    stdout, stderr = (b"".join(output[stream]).decode() for stream in ("stdout", "stderr"))
    return Result(end.value.status, stdout, stderr)


def run_guest(
    program: Path,
    *arguments: str,
    env: tuple[str, ...] = (),
    memory: int = 512,
    timeout: float = 60,
) -> Result:
    """Run a program in the library OS."""
    packed = pack_program(program, directory=program.parent)
    argv = [packed.path, *arguments]
    return boot(packed.image, argv, env, memory=memory, timeout=timeout)


def run_host(program: Path, *arguments: str, env: tuple[str, ...] = ()) -> Result:
    """Run the same program on the host."""
    ended = subprocess.run(
        [str(program), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=dict(setting.split("=", 1) for setting in env),
    )
    return Result(ended.returncode, ended.stdout, ended.stderr)


@pytest.mark.parametrize("run", [run_guest, run_host])
@pytest.mark.parametrize("name", PROGRAMS)
def test_linux_and_the_library_os_pass_the_same_checks(
    build: Build, name: str, run: Callable[..., Result]
) -> None:
    assert run(build(name)) == Result(0, "done\n", "")


@pytest.mark.parametrize("option", ["-static", "-no-pie", "-pie"])
def test_every_kind_of_program_is_loaded(build: Build, option: str) -> None:
    program = build("process", option)
    expected = Result(7, "goodbye\n", "")
    for run in (run_guest, run_host):
        assert run(program, "one", "", env=("NAME=a value",)) == expected


def test_the_system_calls_of_loaded_code_jump_instead_of_trapping(build: Build) -> None:
    program = build("sites")
    jump, number_to_eax = "e9\n", "b8\n"
    assert run_guest(program, "show") == Result(0, jump, "")
    assert run_host(program, "show") == Result(0, number_to_eax, "")


def test_threads_fit_into_little_memory(build: Build) -> None:
    """Stacks are taken from real memory, so their default size follows the guest's."""
    assert run_guest(build("threads"), memory=96) == Result(0, "done\n", "")


@pytest.mark.parametrize(
    ("how", "status", "message"),
    [
        ("segfault", 139, "Segmentation fault at 0x"),
        ("division", 136, "Floating point exception at 0x"),
        ("abort", 134, "Aborted\n"),
        ("terminate", 143, ""),
        ("kill", 137, ""),
        ("handler without stack", 139, "Segmentation fault at 0x"),
        ("thread", 9, ""),
    ],
)
def test_a_program_ends_as_a_shell_would_see_it(
    build: Build, how: str, status: int, message: str
) -> None:
    result = run_guest(build("ends"), how)
    assert (result.status, result.stdout) == (status, how + "\n")
    assert result.stderr.startswith(message)
    assert bool(result.stderr) == bool(message)


def test_a_program_that_fails_for_want_of_memory_is_said_to(build: Build) -> None:
    """Only one that fails: many ask for much, and go on without."""
    result = run_guest(build("ends"), "greed")
    assert result.status == 3
    assert result.stderr == "library OS: the program asked for more memory than there is\n"
    assert run_guest(build("ends"), "greed that is stilled").stderr == ""


def test_too_little_memory_for_any_program_is_named(build: Build) -> None:
    result = run_guest(build("ends"), memory=4)
    assert (result.status, result.stderr) == (127, "library OS: too little memory\n")


def test_unsupported_system_calls_are_listed_on_request(build: Build) -> None:
    program = build("ends")
    explained = run_guest(program, "unsupported", env=("HYPERLIGHT_EXPLAIN=1",))
    assert explained.status == 0
    lines = explained.stderr.splitlines()
    assert lines[0] == "system calls that are not there, and how often they were asked for:"
    assert {"add_key 2", "clone 1", "499 1"} <= set(lines[1:])
    assert run_guest(program, "unsupported").stderr == ""


def test_a_guest_whose_tasks_all_wait_uses_no_processor_time(build: Build) -> None:
    program = build("ends")
    began = time.thread_time()
    with pytest.raises(SandboxTimeoutError):
        run_guest(program, "wait", timeout=2)
    assert time.thread_time() - began < 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "not in the image"),
        (b"", "not a program"),
        (b"text\n", "not a program"),
        (b"#!/nowhere\n", "not in the image"),
        (b"#!/usr/bin/itself\n", "in a circle"),
        (b"\x7fELF" + bytes(60), "not a program"),
        (b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\x3e\x00" + b"\xff" * 44, "not a program"),
    ],
)
def test_what_is_no_program_is_named_and_ends_with_127(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    image = tmp_path / "image.zip"
    writer = ImageWriter(image)
    writer.add(ImageFile("usr/bin/other", b"x", 0o755))
    if content is not None:
        writer.add(ImageFile("usr/bin/itself", content, 0o755))
    writer.close()
    result = boot(image, ["/usr/bin/itself"], (), memory=64, timeout=20)
    assert (result.status, result.stdout) == (127, "")
    assert result.stderr.startswith("cannot start /")
    assert reason in result.stderr


def test_a_program_that_does_not_fit_is_named(build: Build) -> None:
    result = run_guest(build("process", "-static", "-DBALLAST=0x10000000"), memory=64)
    assert result.status == 127
    assert "does not fit into memory" in result.stderr
