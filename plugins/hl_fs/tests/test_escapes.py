"""What only one way in can show of the confinement; the rest is in attacks/escapes.py."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from hl_fs import CapFs, EscapeError, Mount, OpenFlag, Permission

from .attacks import EVERYTHING, Host
from .ways_in import ByC


def test_an_escape_has_a_class_and_eacces_in_python(host: Host) -> None:
    path = host.link("link", "../outside/secret")
    with CapFs([Mount("/data", host.inside)]) as fs, pytest.raises(EscapeError) as caught:
        fs.open(path, OpenFlag.READ)
    assert caught.value.errno == errno.EACCES


def test_an_escape_has_a_kind_and_no_errno_in_c(host: Host, driver: Path) -> None:
    path = host.link("link", "../outside/secret")
    c = ByC(driver, [Mount("/data", host.inside, permissions=EVERYTHING)])
    with pytest.raises(OSError, match="kind 2") as caught:
        c.open(path, OpenFlag.READ)
    assert caught.value.errno == 0
    c.close()


def test_procfs_cannot_be_granted() -> None:
    """Its files are no files: /proc/self/mem is the host's memory."""
    for path in ("/proc", "/proc/self"):
        with pytest.raises(ValueError, match="procfs"):
            CapFs([Mount("/data", path)])


def test_another_file_system_has_its_own_device_number() -> None:
    rights = Permission.of("ro") | Permission.CROSS
    with CapFs([Mount("/devices", "/dev", permissions=rights)]) as fs:
        assert fs.stat("/devices/shm").device != fs.stat("/devices").device


def test_the_error_of_a_missing_host_directory_names_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        CapFs([Mount("/data", tmp_path / "missing")])
