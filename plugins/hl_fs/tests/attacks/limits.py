"""Ways around the limits that others left open."""

from __future__ import annotations

import os

from .world import (
    APPEND,
    CREATE,
    EVERYTHING,
    READ,
    WRITE,
    Grant,
    Host,
    attack,
    errno_of,
    is_refused,
)


@attack
def sparse_files_do_not_get_past_the_limits(grant: Grant, host: Host) -> None:
    fs = grant(EVERYTHING, file_bytes=1 << 20, mount_bytes=2 << 20)
    handle = fs.open("/data/file", READ | WRITE)
    assert errno_of(fs.truncate, handle, (1 << 20) + 1) == "EDQUOT"
    assert errno_of(fs.write, handle, b"x", 1 << 20) == "EDQUOT"
    assert is_refused(fs.write, handle, b"x", 2**63 - 1)
    fs.truncate(handle, 1 << 20)
    fs.write(fs.open("/data/other", WRITE | CREATE), b"x", (1 << 20) - 1)
    assert errno_of(fs.write, fs.open("/data/third", WRITE | CREATE), b"x") == "ENOSPC"
    assert (host.inside / "third").stat().st_size == 0


@attack
def many_small_files_do_not_get_past_the_limits(grant: Grant, host: Host) -> None:
    fs = grant(EVERYTHING, mount_files=10)
    for number in range(8):
        fs.close_handle(fs.open(f"/data/{number}", WRITE | CREATE))
    for act in (
        lambda: fs.open("/data/more", WRITE | CREATE),
        lambda: fs.mkdir("/data/more"),
        lambda: fs.symlink("file", "/data/more"),
        lambda: fs.link("/data/file", "/data/more"),
    ):
        assert errno_of(act) == "ENOSPC"
    assert len(host.names()) == 10


@attack
def a_removed_file_counts_while_it_is_open(grant: Grant, host: Host) -> None:
    fs = grant(EVERYTHING, mount_bytes=1000)
    for name in ("one", "two"):
        handle = fs.open(f"/data/{name}", WRITE | CREATE)
        assert errno_of(fs.write, handle, bytes(900)) == ("" if name == "one" else "ENOSPC")
        fs.unlink(f"/data/{name}")


@attack
def paths_are_limited(grant: Grant, host: Host) -> None:
    fs = grant(EVERYTHING, path_bytes=100, depth=5)
    assert errno_of(fs.stat, "/data/" + "x" * 95) == "ENAMETOOLONG"
    assert errno_of(fs.mkdir, "/data" + "/x" * 5) == "ENAMETOOLONG"
    assert errno_of(fs.stat, "/data/" + "x" * 94) == "ENOENT"


@attack
def two_sandboxes_on_one_directory_share_one_budget(grant: Grant, host: Host) -> None:
    one = grant(EVERYTHING, mount_bytes=100)
    two = grant(EVERYTHING, mount_bytes=100)
    one.write(one.open("/data/one", WRITE | CREATE), b"x" * 60)
    handle = two.open("/data/two", WRITE | CREATE)
    if one.pid() == two.pid():  # of two processes each has its own
        assert errno_of(two.write, handle, b"x" * 60) == "ENOSPC"
    assert two.write(handle, b"x" * 30) == 30


@attack
def what_the_host_adds_to_an_open_file_counts_at_once(grant: Grant, host: Host) -> None:
    fs = grant(EVERYTHING, mount_bytes=1000)
    handle = fs.open("/data/file", APPEND)
    fs.write(handle, b"x")
    os.truncate(host.inside / "file", 1000)
    assert errno_of(fs.write, handle, b"x") == "ENOSPC"
    os.truncate(host.inside / "file", 10)
    assert fs.write(handle, b"x") == 1
