"""Weaknesses of others that only the Python API can show; the rest is in attacks/weaknesses.py."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable

from hl_fs import CapFs, Limits, Mount, OpenFlag, Permission, Usage

from .attacks import EVERYTHING, Host

READ, WRITE, CREATE = OpenFlag.READ, OpenFlag.WRITE, OpenFlag.CREATE
Errno = Callable[..., str]


def grant(host: Host, rights: Permission = EVERYTHING, **limits: int | None) -> CapFs:
    """The host's directory at /data, by default with every right."""
    return CapFs([Mount("/data", host.inside, permissions=rights)], Limits(**limits))


def test_one_blocked_operation_does_not_hold_up_the_others(host: Host) -> None:
    """No lock is held around a system call on a file: a reader waits for nobody's sync or FIFO."""
    os.mkfifo(host.inside / "fifo")
    with grant(host) as fs:
        reader = fs.open("/data/file", READ)
        stop, failures = threading.Event(), []

        def knock() -> None:
            while not stop.is_set():
                try:
                    fs.open("/data/fifo", READ)
                except PermissionError:
                    continue
                failures.append("opened")

        threads = [threading.Thread(target=knock) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            contents = {fs.read(reader, 7, 0) for _ in range(2000)}
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert (contents, failures) == ({b"content"}, [])


def test_exclusive_creation_is_exclusive(host: Host, errno_of: Errno) -> None:
    won = []
    with grant(host) as fs:
        flags = WRITE | CREATE | OpenFlag.EXCLUSIVE
        assert errno_of(fs.open, "/data/file", flags) == "EEXIST"
        (host.inside / "dangling").symlink_to("nowhere")
        assert errno_of(fs.open, "/data/dangling", flags) == "EEXIST"

        def create(number: int) -> None:
            if errno_of(fs.open, "/data/new", flags) == "":
                won.append(number)

        threads = [threading.Thread(target=create, args=(n,)) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(won) == 1


def test_a_directory_of_the_caller_is_never_emptied(host: Host) -> None:
    with grant(host) as fs:
        fs.open("/data/new", WRITE | CREATE)
        snapshot = fs.snapshot()
        fs.restore(snapshot)
        fs.restore()
    assert sorted(os.listdir(host.inside)) == ["directory", "file", "new"]


def test_the_parent_of_an_ephemeral_directory_is_never_emptied(host: Host) -> None:
    with CapFs([Mount("/tmp", host.inside, "ephemeral")]) as fs:
        fs.open("/tmp/new", WRITE | CREATE)
        fs.restore()
        assert (host.inside / "file").exists()
    assert sorted(os.listdir(host.inside)) == ["directory", "file"]


def test_a_stale_handle_never_becomes_another_file(host: Host, errno_of: Errno) -> None:
    with grant(host) as fs:
        seen = set()
        for _ in range(3):
            stale = fs.open("/data/file", READ)
            fs.restore()
            assert errno_of(fs.read, stale, 1) == "EBADF"
            assert stale not in seen
            seen.add(stale)
        fs.close_handle(fs.open("/data/file", READ))
        assert fs.open("/data/file", READ) not in seen


def test_an_error_of_a_listing_is_an_error(host: Host, errno_of: Errno) -> None:
    with grant(host) as fs:
        file = fs.open("/data/file", READ)
        assert errno_of(fs.list_into, file, 0, 10, bytearray(100)) == "ENOTDIR"
        directory = fs.open("/data", READ)
        assert errno_of(fs.list_into, directory, 0, 10, bytearray(5)) == "EINVAL"
        assert errno_of(fs.list_into, directory, 2**64 - 1, 10, bytearray(100)) == "EINVAL"


def test_what_the_host_writes_counts_once_it_is_counted_anew(host: Host, errno_of: Errno) -> None:
    with grant(host, mount_bytes=1000) as fs:
        handle = fs.open("/data/file", WRITE)
        fs.write(handle, b"x", 7)
        (host.inside / "large").write_bytes(bytes(990))
        assert fs.usage("/data", recount=True) == (998, 3)
        assert errno_of(fs.write, handle, b"xyz", 8) == "ENOSPC"


def test_two_processes_have_a_budget_each_until_they_count_anew(
    host: Host, errno_of: Errno
) -> None:
    """As SECURITY.md says; what the other has written before counts from the start."""
    program = """
import sys
from hl_fs import CapFs, Limits, Mount, OpenFlag
with CapFs([Mount("/data", sys.argv[1], "rw")], Limits(mount_bytes=1000)) as fs:
    size = fs.write(fs.open("/data/other", OpenFlag.WRITE | OpenFlag.CREATE), bytes(900))
    print(size, fs.usage("/data").bytes)
"""
    with grant(host, mount_bytes=1000) as fs:
        handle = fs.open("/data/file", WRITE)
        assert fs.write(handle, bytes(50)) == 50
        command = [sys.executable, "-c", program, str(host.inside)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        assert done.stdout == "900 950\n"
        assert fs.usage("/data") == Usage(50, 2)
        assert fs.usage("/data", recount=True) == Usage(950, 3)
        assert errno_of(fs.write, handle, bytes(51), 50) == "ENOSPC"


def test_the_umask_of_the_host_holds_for_what_a_guest_makes(host: Host) -> None:
    with grant(host) as fs:
        before = os.umask(0o027)
        try:
            fs.close_handle(fs.open("/data/new", WRITE | CREATE, 0o666))
            fs.mkdir("/data/made", 0o777)
        finally:
            os.umask(before)
        assert (fs.stat("/data/new").mode, fs.stat("/data/made").mode) == (0o640, 0o750)
        fs.chmod("/data/new", 0o666)  # as on Linux, no umask here: that takes the right
        assert fs.stat("/data/new").mode == 0o666
