"""Limits: charged before the change, and passed by no detour."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from hl_fs import CapFs, Limits, Mount, OpenFlag, Permission, Usage

from .attacks import Host

READ, WRITE, CREATE = OpenFlag.READ, OpenFlag.WRITE, OpenFlag.CREATE
Errno = Callable[..., str]


def grant(host: Host, **limits: int | None) -> CapFs:
    """The host's directory at /data, with every right, and limits."""
    rights = Permission.of("ephemeral")
    return CapFs([Mount("/data", host.inside, permissions=rights)], Limits(**limits))


def put(fs: CapFs, name: str, size: int) -> int:
    """Write a file of that size and leave it open."""
    handle = fs.open(f"/data/{name}", READ | WRITE | CREATE)
    fs.write(handle, bytes(size))
    return handle


def test_handles_of_files_and_directories_are_limited_together(host: Host, errno_of: Errno) -> None:
    with grant(host, handles=2) as fs:
        file = fs.open("/data/file", READ)
        fs.open("/data", READ)
        assert errno_of(fs.open, "/data/file", READ) == "EMFILE"
        assert errno_of(fs.open, "/data/new", WRITE | CREATE) == "EMFILE"
        fs.close_handle(file)
        fs.open("/data/file", READ)
    assert not (host.inside / "new").exists()


def test_long_and_deep_paths_are_enametoolong(host: Host, errno_of: Errno) -> None:
    with grant(host, path_bytes=100, depth=5) as fs:
        assert errno_of(fs.stat, "/data/" + "x" * 95) == "ENAMETOOLONG"
        assert errno_of(fs.stat, "/data" + "/x" * 5) == "ENAMETOOLONG"
        assert errno_of(fs.stat, "/data/" + "x" * 94) == "ENOENT"
        assert errno_of(fs.stat, "/data" + "/x" * 4) == "ENOENT"


def test_a_directory_cannot_be_moved_deeper_than_the_limit(host: Host, errno_of: Errno) -> None:
    (host.inside / "a/b/c").mkdir(parents=True)
    (host.inside / "x/y").mkdir(parents=True)
    with grant(host, depth=4) as fs:
        assert errno_of(fs.rename, "/data/a", "/data/x/y/a") == "ENAMETOOLONG"
        fs.rename("/data/a/b", "/data/x/y/b")
        assert errno_of(fs.mkdir, "/data/x/y/b/c/d") == "ENAMETOOLONG"


def test_a_symlink_is_no_short_cut_to_depth(host: Host, errno_of: Errno) -> None:
    """Each link shortens the path by which the next level is made."""
    with grant(host, depth=8) as fs:
        place = "/data"
        for turn in range(2):
            for name in "abc":
                fs.mkdir(f"{place}/{name}")
                place += f"/{name}"
            target = os.path.relpath(os.path.realpath(str(host.inside) + place[5:]), host.inside)
            fs.symlink(target, f"/data/link{turn}")
            place = f"/data/link{turn}"
        fs.mkdir(f"{place}/a")
        fs.mkdir(f"{place}/a/b")
        assert errno_of(fs.mkdir, f"{place}/a/b/c") == "ENAMETOOLONG"


def test_a_page_of_a_listing_is_limited(host: Host) -> None:
    for number in range(100):
        (host.inside / str(number)).touch()
    with grant(host, list_entries=10) as fs:
        handle = fs.open("/data", READ)
        assert fs.list_into(handle, 0, 10**6, bytearray(10**5)).entries == 10
        assert len(list(fs.scandir("/data"))) == 102


def test_names_are_limited_and_given_back(host: Host, errno_of: Errno) -> None:
    with grant(host, mount_files=4) as fs:
        fs.mkdir("/data/three")
        fs.symlink("file", "/data/four")
        for act in (
            lambda: fs.open("/data/five", WRITE | CREATE),
            lambda: fs.mkdir("/data/five"),
            lambda: fs.symlink("file", "/data/five"),
            lambda: fs.link("/data/file", "/data/five"),
        ):
            assert errno_of(act) == "ENOSPC"
        assert errno_of(fs.mkdir, "/data/four") == "ENOSPC"
        fs.rename("/data/four", "/data/file")
        assert fs.usage("/data").files == 3
        fs.rmdir("/data/three")
        fs.unlink("/data/file")
        assert fs.usage("/data") == fs.usage("/data", recount=True) == Usage(0, 1)


def test_a_change_that_fails_costs_nothing(host: Host, errno_of: Errno) -> None:
    with grant(host) as fs:
        before = fs.usage("/data")
        assert errno_of(fs.mkdir, "/data/directory") == "EEXIST"
        assert errno_of(fs.unlink, "/data/directory") == "EISDIR"
        assert errno_of(fs.rename, "/data/file", "/data/directory") == "EISDIR"
        handle = fs.open("/data/file", WRITE)
        assert errno_of(fs.truncate, handle, 2**63 - 1) == "EDQUOT"
        assert fs.usage("/data") == before


def test_removed_files_count_until_the_last_handle_closes(host: Host, errno_of: Errno) -> None:
    with grant(host, mount_bytes=1000) as fs:
        handles = [put(fs, "removed", 900), fs.open("/data/removed", READ)]
        fs.unlink("/data/removed")
        fs.close_handle(handles[0])
        assert fs.usage("/data", recount=True).bytes == 907
        handle = put(fs, "next", 0)
        assert errno_of(fs.write, handle, bytes(200)) == "ENOSPC"
        fs.close_handle(handles[1])
        assert fs.write(handle, bytes(200)) == 200
        assert fs.usage("/data") == fs.usage("/data", recount=True) == Usage(207, 3)


def test_a_second_mount_hides_no_open_file(host: Host, errno_of: Errno) -> None:
    """A file held open through a read-only mount of the same place still takes its room."""
    mounts = [
        Mount("/data", host.inside, permissions=Permission.of("rw")),
        Mount("/read", host.inside.parent),
    ]
    with CapFs(mounts, Limits(mount_bytes=1000)) as fs:
        fs.close_handle(put(fs, "held", 900))
        held = fs.open("/read/inside/held", READ)
        fs.unlink("/data/held")
        handle = put(fs, "next", 0)
        assert errno_of(fs.write, handle, bytes(900)) == "ENOSPC"
        fs.close_handle(held)
        assert fs.write(handle, bytes(900)) == 900


def test_a_file_replaced_by_a_rename_gives_its_bytes_back(host: Host) -> None:
    with grant(host, mount_bytes=1000) as fs:
        for turn in range(20):
            fs.close_handle(put(fs, "new", 400))
            fs.rename("/data/new", "/data/old")
            assert fs.usage("/data") == Usage(407, 3), turn


def test_a_hard_link_counts_its_bytes_once(host: Host) -> None:
    with grant(host) as fs:
        fs.link("/data/file", "/data/second")
        assert fs.usage("/data") == fs.usage("/data", recount=True) == Usage(7, 3)
        fs.unlink("/data/file")
        assert fs.usage("/data") == Usage(7, 2)
        fs.rename("/data/second", "/data/second")
        fs.unlink("/data/second")
        assert fs.usage("/data") == Usage(0, 1)


def test_a_rename_onto_another_name_of_the_same_file_removes_nothing(host: Host) -> None:
    with grant(host) as fs:
        fs.link("/data/file", "/data/second")
        fs.rename("/data/file", "/data/second")
        assert fs.usage("/data") == fs.usage("/data", recount=True) == Usage(7, 3)


def test_truncating_gives_bytes_back(host: Host) -> None:
    with grant(host, mount_bytes=1000) as fs:
        handle = put(fs, "new", 900)
        fs.truncate(handle, 100)
        fs.write(handle, bytes(800), 100)
        fs.close_handle(fs.open("/data/new", WRITE | OpenFlag.TRUNCATE))
        assert fs.usage("/data") == fs.usage("/data", recount=True) == Usage(7, 3)


def test_the_account_survives_a_reset_and_a_new_sandbox(host: Host, errno_of: Errno) -> None:
    with grant(host, mount_bytes=1000) as fs:
        put(fs, "new", 900)
        fs.restore()
        assert errno_of(put, fs, "more", 100) == "ENOSPC"
        with grant(host, mount_bytes=1000) as beside:
            assert errno_of(put, beside, "more", 100) == "ENOSPC"
    with grant(host, mount_bytes=1000) as after:
        assert errno_of(put, after, "more", 100) == "ENOSPC"


def test_the_account_survives_a_killed_process(host: Host, errno_of: Errno) -> None:
    program = """
import os, signal, sys
from hl_fs import CapFs, Limits, Mount, OpenFlag
fs = CapFs([Mount("/data", sys.argv[1], "rw")], Limits(mount_bytes=1000))
fs.write(fs.open("/data/new", OpenFlag.WRITE | OpenFlag.CREATE), bytes(900))
os.kill(os.getpid(), signal.SIGKILL)
"""
    process = subprocess.run([sys.executable, "-c", program, host.inside], check=False)
    assert process.returncode == -signal.SIGKILL
    with grant(host, mount_bytes=1000) as fs:
        handle = fs.open("/data/new", OpenFlag.APPEND)
        assert errno_of(fs.write, handle, bytes(100)) == "ENOSPC"
        assert fs.write(handle, bytes(90)) == 90


def test_statfs_shows_the_limits(host: Host) -> None:
    with grant(host, mount_bytes=40960, mount_files=10) as fs:
        space = fs.statfs("/data")
        assert (space.block_size, space.blocks, space.blocks_free) == (4096, 10, 9)
        assert (space.files, space.files_free, space.name_max) == (10, 8, 255)
        fs.write(fs.open("/data/file", WRITE), bytes(8192))
        assert fs.statfs("/data").blocks_free == 8


def test_no_limit_is_none(host: Host) -> None:
    names = ("handles", "path_bytes", "depth", "call_bytes", "file_bytes", "mount_bytes")
    with grant(host, **dict.fromkeys(names), list_entries=None, mount_files=None) as fs:
        handle = fs.open("/data/sparse", WRITE | CREATE)
        fs.truncate(handle, 1 << 40)
        assert fs.usage("/data").bytes == (1 << 40) + 7
        deep = "/data" + "/x" * 100
        for end in range(len("/data/x"), len(deep) + 1, 2):
            fs.mkdir(deep[:end])


@pytest.mark.parametrize("size", [0, 1, 100])
def test_a_write_that_would_cross_a_limit_writes_nothing(
    host: Host, errno_of: Errno, size: int
) -> None:
    with grant(host, mount_bytes=107, file_bytes=1000) as fs:
        handle = put(fs, "new", size)
        assert errno_of(fs.write, handle, bytes(101)) == "ENOSPC"
        assert fs.fstat(handle).size == size
        assert fs.write(handle, bytes(100 - size)) == 100 - size
