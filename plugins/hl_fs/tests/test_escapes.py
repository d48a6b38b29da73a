"""Attacks on the confinement: each is refused, and nothing outside is touched."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hl_fs import CapFs, EscapeError, Mount, OpenFlag, Permission

READ, WRITE, CREATE = OpenFlag.READ, OpenFlag.WRITE, OpenFlag.CREATE
Files = Any  # CapFs, or the C interface with its methods
Errno = Callable[..., str]
Host = Any  # the fixture of conftest.py

#: Paths beneath the mount that lead to the directory outside, and how the host made them so.
WAYS_OUT: dict[str, Callable[[Host], str]] = {
    "dotdot": lambda host: "/data/directory/../../outside",
    "many_dotdots": lambda host: "/data/directory" + "/.." * 40 + str(host.outside),
    "absolute_symlink": lambda host: _link(host, "link", str(host.outside)),
    "relative_symlink": lambda host: _link(host, "link", "../outside"),
    "symlink_in_a_directory": lambda host: _link(host, "directory/link", "../../outside"),
    "dotdot_behind_a_symlink": lambda host: _link(host, "link", "directory") + "/../../outside",
    "symlink_to_a_symlink": lambda host: (
        _link(host, "first", "../outside") and _link(host, "second", "first")
    ),
    "proc_root": lambda host: _link(host, "link", f"/proc/self/root{host.outside}"),
    "proc_cwd": lambda host: _link(host, "link", "/proc/self/cwd"),
}

#: What to do with a path to the directory outside.
ACTS: dict[str, Callable[[Files, str], object]] = {
    "list": lambda fs, out: list(fs.scandir(out)),
    "stat": lambda fs, out: fs.stat(out),
    "stat_of_a_file": lambda fs, out: fs.stat(f"{out}/secret"),
    "read": lambda fs, out: fs.open(f"{out}/secret", READ),
    "write": lambda fs, out: fs.open(f"{out}/secret", WRITE),
    "truncate": lambda fs, out: fs.open(f"{out}/secret", WRITE | OpenFlag.TRUNCATE),
    "append": lambda fs, out: fs.open(f"{out}/secret", OpenFlag.APPEND),
    "create": lambda fs, out: fs.open(f"{out}/new", WRITE | CREATE),
    "create_exclusively": lambda fs, out: fs.open(
        f"{out}/new", WRITE | CREATE | OpenFlag.EXCLUSIVE
    ),
    "mkdir": lambda fs, out: fs.mkdir(f"{out}/new"),
    "rmdir": lambda fs, out: fs.rmdir(f"{out}/secret"),
    "unlink": lambda fs, out: fs.unlink(f"{out}/secret"),
    "rename_in": lambda fs, out: fs.rename(f"{out}/secret", "/data/stolen"),
    "rename_out": lambda fs, out: fs.rename("/data/file", f"{out}/planted"),
    "link_in": lambda fs, out: fs.link(f"{out}/secret", "/data/stolen"),
    "link_out": lambda fs, out: fs.link("/data/file", f"{out}/planted"),
    "symlink": lambda fs, out: fs.symlink("file", f"{out}/planted"),
    "readlink": lambda fs, out: fs.readlink(f"{out}/secret"),
    "chmod": lambda fs, out: fs.chmod(f"{out}/secret", 0o777),
    "utimes": lambda fs, out: fs.utimes(f"{out}/secret", 0, 0),
}


def _link(host: Host, name: str, target: str) -> str:
    (host.inside / name).symlink_to(target)
    return f"/data/{name}"


def is_escape(act: Callable[[], object]) -> bool:
    """Whether an operation is refused as an escape: Python has a class for it, C a kind."""
    try:
        act()
    except EscapeError:
        return True
    except OSError as error:
        return error.strerror == "kind 2"
    return False


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
@pytest.mark.parametrize("way", WAYS_OUT.values(), ids=WAYS_OUT)
def test_every_way_out_is_closed_to_every_operation(
    fs: Files, host: Host, way: Callable[[Host], str], act: Callable[[Files, str], object]
) -> None:
    os.chmod(host.outside / "secret", 0o600)
    path = way(host)
    assert is_escape(lambda: act(fs, path))
    assert host.outside_is_untouched()
    assert sorted(os.listdir(host.inside))[:2] == ["directory", "file"]
    assert "stolen" not in os.listdir(host.inside)


def test_a_dangling_symlink_that_points_out_creates_nothing(fs: Files, host: Host) -> None:
    for name, target in {"near": "../outside/new", "far": str(host.outside / "new")}.items():
        _link(host, name, target)
    assert is_escape(lambda: fs.open("/data/near", WRITE | CREATE))
    assert is_escape(lambda: fs.open("/data/far", WRITE | CREATE))
    assert host.outside_is_untouched()


def test_an_escape_has_a_kind_and_no_errno_in_c_and_eacces_in_python(fs: Files, host: Host) -> None:
    path = _link(host, "link", "../outside/secret")
    with pytest.raises(PermissionError) as caught:
        fs.open(path, READ)
    assert caught.value.errno == (13 if isinstance(fs, CapFs) else 0)


def test_an_absolute_symlink_is_refused_even_to_inside(fs: Files, host: Host) -> None:
    path = _link(host, "link", str(host.inside / "file"))
    with pytest.raises(PermissionError):
        fs.open(path, READ)


def test_an_absolute_symlink_cannot_be_made(fs: Files, host: Host) -> None:
    """A host program that follows it would open another file than the guest sees."""
    with pytest.raises(PermissionError):
        fs.symlink("/etc/passwd", "/data/link")
    assert not (host.inside / "link").is_symlink()


def test_readlink_tells_no_host_path(fs: Files, host: Host) -> None:
    path = _link(host, "link", str(host.outside))
    with pytest.raises(PermissionError):
        fs.readlink(path)


def test_unlink_removes_the_link_and_not_its_target(fs: Files, host: Host) -> None:
    fs.unlink(_link(host, "link", "../outside/secret"))
    assert not (host.inside / "link").is_symlink()
    assert host.outside_is_untouched()


def test_symlinks_and_dotdots_that_stay_inside_work(fs: Files, host: Host) -> None:
    _link(host, "directory/up", "../file")
    _link(host, "there", "directory")
    handle = fs.open("/data/there/../directory/./up", READ)
    assert fs.read(handle, 100) == b"content"


def test_a_dangling_symlink_that_stays_inside_creates_its_target(fs: Files, host: Host) -> None:
    path = _link(host, "directory/link", "../new")
    fs.write(fs.open(path, WRITE | CREATE), b"made")
    assert (host.inside / "new").read_bytes() == b"made"


def test_a_loop_of_symlinks_is_eloop(fs: Files, host: Host, errno_of: Errno) -> None:
    _link(host, "a", "b")
    path = _link(host, "b", "a")
    for flags in (READ, WRITE | CREATE):
        assert errno_of(fs.open, path, flags) == "ELOOP"


@pytest.mark.parametrize("flags", [READ, WRITE, READ | WRITE, OpenFlag.APPEND, WRITE | CREATE])
def test_a_fifo_does_not_open_and_does_not_block(fs: Files, host: Host, flags: OpenFlag) -> None:
    os.mkfifo(host.inside / "fifo")
    _link(host, "link", "fifo")
    for name in ("fifo", "link"):
        with pytest.raises(PermissionError):
            fs.open(f"/data/{name}", flags)


def test_a_writer_that_waits_at_a_fifo_goes_on_waiting(fs: Files, host: Host) -> None:
    """Opening for reading, even for a moment, would let the writer of the host through."""
    os.mkfifo(host.inside / "fifo")
    with pytest.raises(PermissionError):
        fs.open("/data/fifo", READ)
    with pytest.raises(OSError, match="No such device or address"):
        os.open(host.inside / "fifo", os.O_WRONLY | os.O_NONBLOCK)


def test_a_socket_does_not_open(fs: Files, host: Host) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        directory = os.open(host.inside, os.O_RDONLY)
        server.bind(f"/proc/self/fd/{directory}/socket")
        os.close(directory)
        with pytest.raises(PermissionError):
            fs.open("/data/socket", READ)


def test_a_device_does_not_open() -> None:
    with (
        CapFs([Mount("/devices", "/dev", permissions=Permission(127))]) as fs,
        pytest.raises(PermissionError),
    ):
        fs.open("/devices/null", READ)


def test_procfs_cannot_be_granted() -> None:
    """Its files are no files: /proc/self/mem is the host's memory."""
    for path in ("/proc", "/proc/self"):
        with pytest.raises(ValueError, match="procfs"):
            CapFs([Mount("/data", path)])


def test_another_file_system_beneath_a_mount_is_not_entered() -> None:
    with CapFs([Mount("/devices", "/dev", permissions=Permission(127))]) as fs:
        for act in (
            lambda: list(fs.scandir("/devices/shm")),
            lambda: fs.stat("/devices/shm"),
            lambda: fs.stat("/devices/shm/."),
            lambda: fs.open("/devices/shm/hl_fs_test", WRITE | CREATE),
            lambda: fs.mkdir("/devices/shm/hl_fs_test"),
            lambda: fs.chmod("/devices/shm", 0o777),
            lambda: fs.utimes("/devices/shm", 0, 0),
        ):
            with pytest.raises(OSError, match="cross-device"):
                act()
    assert not Path("/dev/shm/hl_fs_test").exists()


def test_another_file_system_is_entered_where_that_is_granted() -> None:
    rights = Permission.of("ro") | Permission.CROSS
    with CapFs([Mount("/devices", "/dev", permissions=rights)]) as fs:
        assert fs.stat("/devices/shm").kind == "directory"
        assert fs.stat("/devices/shm").device != fs.stat("/devices").device


def test_set_id_bits_cannot_be_set(fs: Files, host: Host) -> None:
    """A host that runs as root would hand out its identity."""
    fs.open("/data/new", WRITE | CREATE, 0o7777)
    fs.mkdir("/data/made", 0o7777)
    fs.chmod("/data/file", 0o7777)
    for name in ("new", "made", "file"):
        assert not (host.inside / name).stat().st_mode & 0o7000
    assert (host.inside / "file").stat().st_mode & 0o777 == 0o777


def test_nul_and_relative_paths_are_einval(fs: Files, errno_of: Errno) -> None:
    for path in ("/data/file\0/../../x", "data/file", ""):
        assert errno_of(fs.stat, path) == "EINVAL"


def test_the_error_of_a_missing_host_directory_names_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        CapFs([Mount("/data", tmp_path / "missing")])
