"""What the tests share: a host directory with a secret beside it, and two ways to reach hl_fs."""

from __future__ import annotations

import errno
import importlib.util
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hl_fs import CapFs, Mount, Permission

FOLDER = Path(__file__).parents[1]
RIGHTS = {"ro": Permission.of("ro"), "rw": Permission.of("rw") | Permission.CHMOD}

# The plugin is for the core: without it there is no such thing to test.
collect_ignore = [] if importlib.util.find_spec("hyperlight_core") else ["plugin"]


@pytest.hookimpl(optionalhook=True)
def pytest_hyperlight_configuration(plugin: str, tmp_path: Path) -> dict[str, Any] | None:
    """What the conformance tests of the core reach: every function, over an empty directory."""
    mount = {"host": str(tmp_path), "guest": "/data", "mode": "rw"}
    return {"mounts": [mount], "dialect": True} if plugin == "fs" else None


class Host:
    """A directory to grant, and one beside it that nobody may reach."""

    def __init__(self, root: Path) -> None:
        self.inside, self.outside = root / "inside", root / "outside"
        self.inside.mkdir()
        self.outside.mkdir()
        (self.outside / "secret").write_text("secret")
        (self.inside / "file").write_text("content")
        (self.inside / "directory").mkdir()

    def outside_is_untouched(self) -> bool:
        """Whether the other directory is as it was made."""
        names = [path.name for path in self.outside.iterdir()]
        secret = self.outside / "secret"
        mode = secret.stat().st_mode & 0o777
        return names == ["secret"] and secret.read_text() == "secret" and not mode & 0o111


class CInterface:
    """The C interface, in a program of its own, with the methods of CapFs that the attacks use."""

    def __init__(self, driver: Path, mounts: list[tuple[str, Path, Permission]]) -> None:
        arguments = [str(int(x)) if isinstance(x, int) else str(x) for m in mounts for x in m]
        self._process = subprocess.Popen(
            [driver, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def close(self) -> int:
        """End the program and return its exit status."""
        self._process.communicate()
        return self._process.returncode

    def _run(self, *words: object) -> tuple[int, bytes]:
        texts = [f"x{word.hex()}" if isinstance(word, bytes) else str(word) for word in words]
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the driver has no pipes")
        self._process.stdin.write(" ".join(texts) + "\n")
        self._process.stdin.flush()
        code, _, output = self._process.stdout.readline().strip("\n").partition(" ")
        if int(code) < 0:
            kind, number = -int(code) >> 16, -int(code) & 0xFFFF
            # The escape has no errno: that is what the tests look for.
            raise OSError(number, f"kind {kind}") if number else PermissionError(0, f"kind {kind}")
        return int(code), bytes.fromhex(output)

    def open(self, path: str, flags: int, mode: int = 0o666) -> int:
        return self._run("open", path.encode(), int(flags), mode)[0]

    def close_handle(self, handle: int) -> None:
        self._run("close", handle)

    def read(self, handle: int, size: int, offset: int | None = None) -> bytes:
        return self._run("read", handle, size, -1 if offset is None else offset)[1]

    def write(self, handle: int, data: bytes, offset: int | None = None) -> int:
        return self._run("write", handle, data, -1 if offset is None else offset)[0]

    def stat(self, path: str, *, follow: bool = True) -> bytes:
        return self._run("stat", path.encode(), int(follow))[1]

    def scandir(self, path: str) -> list[bytes]:
        handle = self.open(path, 1 | 64)
        try:
            return [self._run("list", handle, 0)[1]]
        finally:
            self.close_handle(handle)

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        self._run("mkdir", path.encode(), mode)

    def rmdir(self, path: str) -> None:
        self._run("rmdir", path.encode())

    def unlink(self, path: str) -> None:
        self._run("unlink", path.encode())

    def rename(self, source: str, target: str) -> None:
        self._run("rename", source.encode(), target.encode())

    def link(self, source: str, target: str) -> None:
        self._run("link", source.encode(), target.encode())

    def symlink(self, target: str, path: str) -> None:
        self._run("symlink", target.encode(), path.encode())

    def readlink(self, path: str) -> bytes:
        return self._run("readlink", path.encode())[1]

    def chmod(self, path: str, mode: int) -> None:
        self._run("chmod", path.encode(), mode)

    def utimes(self, path: str, access_ns: int, change_ns: int) -> None:
        self._run("utimes", path.encode(), access_ns, change_ns)


@pytest.fixture
def errno_of() -> Callable[..., str]:
    """Calls a function and tells the name of the errno it raises, or "" if it raises none."""

    def call(function: Callable[..., object], *arguments: object, **keywords: object) -> str:
        try:
            function(*arguments, **keywords)
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, "none")
        return ""

    return call


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A fresh pair of directories."""
    return Host(tmp_path)


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C program over the static library, built as the README says."""
    program = tmp_path_factory.mktemp("driver") / "driver"
    library = FOLDER / "build" / "rust" / "release" / "libhl_fs.a"
    source, include = FOLDER / "tests" / "c" / "driver.c", FOLDER / "rust" / "include"
    flags = f"-std=gnu11 -Wall -Wextra -Werror -I{include}".split()
    libraries = [str(library), "-lm", "-ldl", "-lpthread"]
    command = ["gcc", *flags, "-o", str(program), str(source), *libraries]
    subprocess.run(command, check=True)
    return program


@pytest.fixture(params=["python", "c"])
def fs(request: pytest.FixtureRequest, host: Host, driver: Path) -> Iterator[CapFs | CInterface]:
    """The host's directory at /data, writable, by either interface."""
    if request.param == "python":
        with CapFs([Mount("/data", host.inside, permissions=RIGHTS["rw"])]) as python:
            yield python
    else:
        c = CInterface(driver, [("/data", host.inside, RIGHTS["rw"])])
        yield c
        assert c.close() == 0
