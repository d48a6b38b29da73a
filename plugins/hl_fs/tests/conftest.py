"""What the tests share: a host directory with a secret beside it, and ways to reach hl_fs."""

from __future__ import annotations

import importlib.util
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from hl_fs import Limits, Mount, Permission

from . import attacks
from .attacks import EVERYTHING, Grant, Host
from .ways_in import ByC, ByPython

FOLDER = Path(__file__).parents[1]

# The plugin is for the core: without it there is no such thing to test.
collect_ignore = [] if importlib.util.find_spec("hyperlight_core") else ["plugin"]


@pytest.hookimpl(optionalhook=True)
def pytest_hyperlight_configuration(plugin: str, tmp_path: Path) -> dict[str, Any] | None:
    """What the conformance tests of the core reach: every function, over an empty directory."""
    mount = {"host": str(tmp_path), "guest": "/data", "mode": "rw"}
    return {"mounts": [mount], "dialect": True} if plugin == "fs" else None


@pytest.fixture
def errno_of() -> Callable[..., str]:
    """Calls a function and tells the name of the errno it raises, or "" if it raises none."""
    return attacks.errno_of


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
def grant(request: pytest.FixtureRequest, host: Host, driver: Path) -> Iterator[Grant]:
    """Grants the host's directory at /data, by either interface."""
    with ExitStack() as opened:

        def make(
            rights: Permission = EVERYTHING, *mounts: Mount, **limits: int | None
        ) -> ByPython | ByC:
            table = [Mount("/data", host.inside, permissions=rights), *mounts]
            if request.param == "python":
                files: ByPython | ByC = ByPython(table, Limits(**limits))
            else:
                files = ByC(driver, table, Limits(**limits))
            opened.callback(files.close)
            return files

        yield make
