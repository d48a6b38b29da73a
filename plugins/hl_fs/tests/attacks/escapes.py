"""Attacks on the confinement: each is refused, and nothing outside is touched."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from hl_fs import Mount, Permission

from .world import (
    APPEND,
    CREATE,
    EVERYTHING,
    EXCLUSIVE,
    READ,
    TRUNCATE,
    WRITE,
    Files,
    Grant,
    Host,
    attack,
    errno_of,
    is_refused,
)

#: What to do with a path to the directory outside.
ACTS: dict[str, Callable[[Files, str], object]] = {
    "list": lambda fs, out: fs.names(out),
    "stat": lambda fs, out: fs.stat(out),
    "stat_of_a_file": lambda fs, out: fs.stat(f"{out}/secret"),
    "read": lambda fs, out: fs.open(f"{out}/secret", READ),
    "write": lambda fs, out: fs.open(f"{out}/secret", WRITE),
    "truncate": lambda fs, out: fs.open(f"{out}/secret", WRITE | TRUNCATE),
    "append": lambda fs, out: fs.open(f"{out}/secret", APPEND),
    "create": lambda fs, out: fs.open(f"{out}/new", WRITE | CREATE),
    "create_exclusively": lambda fs, out: fs.open(f"{out}/new", WRITE | CREATE | EXCLUSIVE),
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


def is_escape(fs: Files, act: Callable[[], object]) -> bool:
    """Whether an operation is refused because its path leads out."""
    try:
        act()
    except OSError as error:
        return fs.is_escape(error)
    return False


def _try_every_act(grant: Grant, host: Host, path: str) -> None:
    fs, before = grant(), host.names()
    for name, act in ACTS.items():
        assert is_escape(fs, lambda act=act: act(fs, path)), name  # type: ignore[misc]
    assert host.outside_is_untouched()
    assert host.names() == before


@attack
def out_by_dotdot(grant: Grant, host: Host) -> None:
    _try_every_act(grant, host, "/data/directory/../../outside")


@attack
def out_by_many_dotdots(grant: Grant, host: Host) -> None:
    _try_every_act(grant, host, "/data/directory" + "/.." * 40 + str(host.outside))


@attack
def out_by_an_absolute_symlink(grant: Grant, host: Host) -> None:
    _try_every_act(grant, host, host.link("link", host.outside))


@attack
def out_by_a_relative_symlink(grant: Grant, host: Host) -> None:
    _try_every_act(grant, host, host.link("link", "../outside"))


@attack
def out_by_a_symlink_in_a_directory(grant: Grant, host: Host) -> None:
    _try_every_act(grant, host, host.link("directory/link", "../../outside"))


@attack
def out_by_dotdot_behind_a_symlink(grant: Grant, host: Host) -> None:
    _try_every_act(grant, host, host.link("link", "directory") + "/../../outside")


@attack
def out_by_a_symlink_to_a_symlink(grant: Grant, host: Host) -> None:
    host.link("first", "../outside")
    _try_every_act(grant, host, host.link("second", "first"))


@attack
def out_by_proc_root(grant: Grant, host: Host) -> None:
    _try_every_act(grant, host, host.link("link", f"/proc/self/root{host.outside}"))


@attack
def out_by_proc_cwd(grant: Grant, host: Host) -> None:
    _try_every_act(grant, host, host.link("link", "/proc/self/cwd"))


@attack
def out_by_a_directory_that_moves_up(grant: Grant, host: Host) -> None:
    """A `..` is resolved while the directory it starts from is moved by the host."""
    (host.inside / "a/b").mkdir(parents=True)
    fs, stop = grant(), threading.Event()

    def move() -> None:
        while not stop.is_set():
            os.rename(host.inside / "a/b", host.inside / "b")
            os.rename(host.inside / "b", host.inside / "a/b")

    mover = threading.Thread(target=move)
    mover.start()
    try:
        for _ in range(200):
            assert is_refused(fs.open, "/data/a/b/../../../outside/secret", READ)
    finally:
        stop.set()
        mover.join()


@attack
def out_by_a_symlink_swapped_in_during_the_call(grant: Grant, host: Host) -> None:
    """The name is a directory, a link inside and a link outside in turns."""
    fs, stop = grant(), threading.Event()
    swap, other = host.inside / "swap", host.inside / "other"

    def turn() -> None:
        while not stop.is_set():
            for target in ("directory", "../outside"):
                other.symlink_to(target)
                other.replace(swap)
            swap.unlink()
            swap.mkdir()
            while swap.exists():  # the attack may be writing into it
                shutil.rmtree(swap, ignore_errors=True)

    (host.inside / "directory/secret").write_text("inside")
    turner = threading.Thread(target=turn)
    turner.start()
    try:
        for _ in range(200):
            _race(fs)
    finally:
        stop.set()
        turner.join()
    assert host.outside_is_untouched()


def _race(fs: Files) -> None:
    try:
        handle = fs.open("/data/swap/secret", READ)
    except OSError:
        pass
    else:
        assert fs.read(handle, 10) == b"inside"
        fs.close_handle(handle)
    for act in (
        lambda: fs.chmod("/data/swap/secret", 0o644),
        lambda: fs.close_handle(fs.open("/data/swap/planted", WRITE | CREATE)),
        lambda: fs.rename("/data/swap/planted", "/data/directory/planted"),
    ):
        errno_of(act)


@attack
def a_dangling_symlink_that_points_out_creates_nothing(grant: Grant, host: Host) -> None:
    fs = grant()
    for name, target in {"near": "../outside/new", "far": str(host.outside / "new")}.items():
        path = host.link(name, target)
        for flags in (WRITE | CREATE, WRITE | CREATE | TRUNCATE, APPEND | CREATE):
            assert is_escape(fs, lambda path=path, flags=flags: fs.open(path, flags))  # type: ignore[misc]
    assert host.outside_is_untouched()


@attack
def an_absolute_symlink_is_refused_even_to_inside(grant: Grant, host: Host) -> None:
    assert is_refused(grant().open, host.link("link", host.inside / "file"), READ)


@attack
def an_absolute_symlink_cannot_be_made(grant: Grant, host: Host) -> None:
    """A host program that follows it would open another file than the guest sees."""
    assert is_refused(grant().symlink, "/etc/passwd", "/data/link")
    assert not (host.inside / "link").is_symlink()


@attack
def readlink_tells_no_host_path(grant: Grant, host: Host) -> None:
    assert is_refused(grant().readlink, host.link("link", host.outside))


@attack
def unlink_removes_the_link_and_not_its_target(grant: Grant, host: Host) -> None:
    grant().unlink(host.link("link", "../outside/secret"))
    assert not (host.inside / "link").is_symlink()
    assert host.outside_is_untouched()


@attack
def symlinks_and_dotdots_that_stay_inside_work(grant: Grant, host: Host) -> None:
    fs = grant()
    host.link("directory/up", "../file")
    host.link("there", "directory")
    assert fs.read(fs.open("/data/there/../directory/./up", READ), 100) == b"content"


@attack
def a_dangling_symlink_that_stays_inside_creates_its_target(grant: Grant, host: Host) -> None:
    fs, path = grant(), host.link("directory/link", "../new")
    fs.write(fs.open(path, WRITE | CREATE), b"made")
    assert (host.inside / "new").read_bytes() == b"made"


@attack
def a_loop_of_symlinks_is_eloop(grant: Grant, host: Host) -> None:
    fs = grant()
    host.link("a", "b")
    path = host.link("b", "a")
    for flags in (READ, WRITE | CREATE):
        assert errno_of(fs.open, path, flags) == "ELOOP"


@attack
def a_fifo_does_not_open_and_does_not_block(grant: Grant, host: Host) -> None:
    fs = grant()
    os.mkfifo(host.inside / "fifo")
    host.link("link", "fifo")
    for flags in (READ, WRITE, READ | WRITE, APPEND, WRITE | CREATE):
        for name in ("fifo", "link"):
            assert is_refused(fs.open, f"/data/{name}", flags)


@attack
def a_writer_that_waits_at_a_fifo_goes_on_waiting(grant: Grant, host: Host) -> None:
    """Opening for reading, even for a moment, would let the writer of the host through."""
    os.mkfifo(host.inside / "fifo")
    assert is_refused(grant().open, "/data/fifo", READ)
    assert errno_of(os.open, host.inside / "fifo", os.O_WRONLY | os.O_NONBLOCK) == "ENXIO"


@attack
def a_socket_does_not_open(grant: Grant, host: Host) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        directory = os.open(host.inside, os.O_RDONLY)
        server.bind(f"/proc/self/fd/{directory}/socket")
        os.close(directory)
        assert is_refused(grant().open, "/data/socket", READ)


@attack
def a_device_does_not_open(grant: Grant, host: Host) -> None:
    fs = grant(EVERYTHING, Mount("/devices", "/dev", permissions=EVERYTHING))
    for name in ("null", "zero", "full"):
        assert is_refused(fs.open, f"/devices/{name}", READ)
        assert is_refused(fs.open, f"/devices/{name}", WRITE)


@attack
def another_file_system_beneath_a_mount_is_not_entered(grant: Grant, host: Host) -> None:
    fs = grant(EVERYTHING, Mount("/devices", "/dev", permissions=EVERYTHING))
    for act in (
        lambda: fs.names("/devices/shm"),
        lambda: fs.stat("/devices/shm"),
        lambda: fs.stat("/devices/shm/."),
        lambda: fs.open("/devices/shm/hl_fs_test", WRITE | CREATE),
        lambda: fs.mkdir("/devices/shm/hl_fs_test"),
        lambda: fs.chmod("/devices/shm", 0o777),
        lambda: fs.utimes("/devices/shm", 0, 0),
    ):
        assert errno_of(act) == "EXDEV"
    assert not Path("/dev/shm/hl_fs_test").exists()


@attack
def another_file_system_is_entered_where_that_is_granted(grant: Grant, host: Host) -> None:
    rights = Permission.of("ro") | Permission.CROSS
    fs = grant(EVERYTHING, Mount("/devices", "/dev", permissions=rights))
    assert fs.stat("/devices/shm").kind == "directory"


@attack
def set_id_bits_cannot_be_set(grant: Grant, host: Host) -> None:
    """A host that runs as root would hand out its identity."""
    fs = grant()
    fs.open("/data/new", WRITE | CREATE, 0o7777)
    fs.mkdir("/data/made", 0o7777)
    fs.chmod("/data/file", 0o7777)
    for name in ("new", "made", "file"):
        assert not (host.inside / name).stat().st_mode & 0o7000
    assert (host.inside / "file").stat().st_mode & 0o777 == 0o777


@attack
def no_hard_link_to_a_file_outside_can_be_made(grant: Grant, host: Host) -> None:
    fs = grant()
    for source in (
        "/data/../outside/secret",
        str(host.outside / "secret"),
        host.link("link", "../outside/secret"),
        host.link("far", host.outside / "secret"),
    ):
        errno_of(fs.link, source, "/data/stolen")  # of a link itself one may be made
    assert (host.outside / "secret").stat().st_nlink == 1
    assert is_refused(fs.open, "/data/stolen", READ)


@attack
def nuls_and_paths_that_are_not_absolute_are_refused(grant: Grant, host: Host) -> None:
    fs = grant()
    assert is_refused(fs.stat, "")
    if not fs.is_posix:  # a program has a working directory, and no system call can say a NUL
        for path in ("data/file", "/data/file\0/../../x"):
            assert errno_of(fs.stat, path) == "EINVAL"
