"""Attacks that other sandboxed file systems have fallen to."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hl_fs import CapFs, Limits, Mount, OpenFlag, Permission

READ, WRITE, CREATE = OpenFlag.READ, OpenFlag.WRITE, OpenFlag.CREATE
Errno = Callable[..., str]
Host = Any  # the fixture of conftest.py


def grant(host: Host, rights: Permission | None = None, **limits: int | None) -> CapFs:
    """The host's directory at /data, by default with every right."""
    everything = Permission.of("ephemeral") if rights is None else rights
    return CapFs([Mount("/data", host.inside, permissions=everything)], Limits(**limits))


def open_files() -> int:
    """Descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


def test_opening_and_closing_distinct_names_exhausts_nothing(host: Host) -> None:
    for number in range(200):
        (host.inside / str(number)).touch()
    with grant(host, handles=4) as fs:
        before = open_files()
        for turn in range(10):
            for number in range(200):
                fs.close_handle(fs.open(f"/data/{number}", READ))
            assert open_files() == before, turn


def test_restore_closes_every_handle_with_no_writable_mount_at_all(host: Host) -> None:
    with grant(host, Permission.of("ro"), handles=8) as fs:
        before = open_files()
        for _ in range(5):
            for _ in range(8):
                fs.open("/data/file", READ)
            fs.restore()
            assert open_files() == before


def test_listing_streams_cost_no_memory_for_each_name(host: Host) -> None:
    """500 open listings of 10,000 names: what they hold does not grow with the names."""
    many = host.inside / "many"
    many.mkdir()
    for number in range(10_000):
        (many / f"{number:0200}").touch()
    with grant(host) as fs:
        handles = [fs.open("/data/many", READ | OpenFlag.DIRECTORY) for _ in range(500)]
        buffer = bytearray(4096)
        fs.list_into(handles[0], 0, 10, buffer)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for handle in handles:
            fs.list_into(handle, 0, 10, buffer)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 20 << 10  # KiB; 500 lists of names would take 1 GB


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


def test_a_handle_stays_with_its_file_when_the_name_moves(host: Host) -> None:
    with grant(host) as fs:
        handle = fs.open("/data/file", READ | WRITE)
        fs.rename("/data/file", "/data/moved")
        (host.inside / "file").write_text("another")
        assert fs.read(handle, 100) == b"content"
        fs.write(handle, b"CONTENT", 0)
        fs.unlink("/data/moved")
        assert fs.read(handle, 100, 0) == b"CONTENT"
    assert (host.inside / "file").read_text() == "another"


def test_truncating_at_open_needs_the_right_to_write(host: Host, errno_of: Errno) -> None:
    rights = Permission.of("ro") | Permission.CREATE | Permission.REMOVE | Permission.RENAME
    with grant(host, rights) as fs:
        cut = READ | OpenFlag.TRUNCATE
        for flags in (cut, cut | CREATE, cut | WRITE, OpenFlag.APPEND | OpenFlag.TRUNCATE):
            assert errno_of(fs.open, "/data/file", flags) in {"EACCES", "EINVAL"}
    assert (host.inside / "file").read_text() == "content"


def test_a_drop_box_is_no_oracle_of_names_or_sizes(host: Host, errno_of: Errno) -> None:
    with grant(host, Permission.WRITE | Permission.CREATE) as fs:
        for name in ("file", "missing", "directory"):
            assert errno_of(fs.stat, f"/data/{name}") == "EACCES"
            assert errno_of(fs.readlink, f"/data/{name}") == "EACCES"
        handle = fs.open("/data/file", WRITE)
        assert errno_of(fs.fstat, handle) == "EACCES"
        assert errno_of(fs.seek, handle, 0, os.SEEK_END) == "EACCES"
        assert errno_of(fs.read, handle, 1) == "EBADF"
        assert errno_of(fs.open, "/data/file", READ) == "EACCES"
        assert errno_of(fs.open, "/data/new", READ | WRITE | CREATE) == "EACCES"
        assert errno_of(fs.open, "/data/directory", READ) == "EACCES"


def test_opening_a_name_twice_gives_two_handles(host: Host) -> None:
    with grant(host) as fs:
        first, second = fs.open("/data/file", READ), fs.open("/data/file", READ)
        assert fs.read(first, 3) == b"con"
        fs.close_handle(first)
        assert fs.read(second, 3) == b"con"


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


def test_sparse_files_do_not_get_past_the_limits(host: Host, errno_of: Errno) -> None:
    with grant(host, file_bytes=1 << 20, mount_bytes=2 << 20) as fs:
        handle = fs.open("/data/file", READ | WRITE)
        assert errno_of(fs.truncate, handle, (1 << 20) + 1) == "EDQUOT"
        assert errno_of(fs.write, handle, b"x", 1 << 20) == "EDQUOT"
        assert errno_of(fs.write, handle, b"x", 2**63 - 1) == "EFBIG"
        fs.truncate(handle, 1 << 20)
        other = fs.open("/data/other", WRITE | CREATE)
        fs.write(other, b"x", (1 << 20) - 1)
        third = fs.open("/data/third", WRITE | CREATE)
        assert errno_of(fs.write, third, b"x") == "ENOSPC"
    assert (host.inside / "third").stat().st_size == 0


def test_directories_open_list_and_change_like_any_other(host: Host, errno_of: Errno) -> None:
    with grant(host) as fs:
        handle, kind = fs.open_kind("/data/directory", READ)
        assert kind == fs.fstat(handle).kind == "directory"
        assert errno_of(fs.read, handle, 1) == "EISDIR"
        fs.mkdir("/data/directory/below")
        fs.rename("/data/directory/below", "/data/directory/moved")
        assert [entry.name for entry in fs.scandir("/data/directory")] == ["moved"]
        fs.rmdir("/data/directory/moved")
        file = fs.open("/data/file", WRITE)
        fs.truncate(file, 3)
        fs.utimes("/data/file", 1, 2)
        assert fs.stat("/data/file")[2] == 3
        assert fs.stat("/data/file")[-3:-1] == (1, 2)


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


def test_names_that_are_not_utf_8_survive(host: Host) -> None:
    name = b"caf\xe9 \xff\n"
    with grant(host) as fs:
        fs.write(fs.open(b"/data/" + name, WRITE | CREATE), b"x")
        assert os.fsencode(next(e.name for e in fs.scandir("/data") if e.name[0] == "c")) == name
        assert fs.stat(b"/data/" + name).size == 1
    assert name in os.listdir(os.fsencode(host.inside))


def test_an_error_of_a_listing_is_an_error(host: Host, errno_of: Errno) -> None:
    with grant(host) as fs:
        file = fs.open("/data/file", READ)
        assert errno_of(fs.list_into, file, 0, 10, bytearray(100)) == "ENOTDIR"
        directory = fs.open("/data", READ)
        assert errno_of(fs.list_into, directory, 0, 10, bytearray(5)) == "EINVAL"
        assert errno_of(fs.list_into, directory, 2**64 - 1, 10, bytearray(100)) == "EINVAL"


def test_every_kind_is_told_as_it_is(host: Host) -> None:
    os.mkfifo(host.inside / "fifo")
    (host.inside / "link").symlink_to("file")
    expected = {"file": "file", "directory": "directory", "link": "symlink", "fifo": "other"}
    with grant(host) as fs:
        assert {entry.name: entry.kind for entry in fs.scandir("/data")} == expected
        kinds = {name: fs.stat(f"/data/{name}", follow=False).kind for name in expected}
        assert kinds == expected


def test_two_sandboxes_on_one_directory_share_one_budget(host: Host, errno_of: Errno) -> None:
    with grant(host, mount_bytes=100) as one, grant(host, mount_bytes=100) as two:
        one.write(one.open("/data/one", WRITE | CREATE), b"x" * 60)
        handle = two.open("/data/two", WRITE | CREATE)
        assert errno_of(two.write, handle, b"x" * 60) == "ENOSPC"
        assert two.write(handle, b"x" * 30) == 30


def test_what_the_host_writes_counts_once_it_is_counted_anew(host: Host, errno_of: Errno) -> None:
    with grant(host, mount_bytes=1000) as fs:
        handle = fs.open("/data/file", WRITE)
        fs.write(handle, b"x", 7)
        (host.inside / "large").write_bytes(bytes(990))
        assert fs.usage("/data", recount=True) == (998, 3)
        assert errno_of(fs.write, handle, b"xyz", 8) == "ENOSPC"


def test_what_the_host_adds_to_an_open_file_counts_at_once(host: Host, errno_of: Errno) -> None:
    with grant(host, mount_bytes=1000) as fs:
        handle = fs.open("/data/file", OpenFlag.APPEND)
        fs.write(handle, b"x")
        os.truncate(host.inside / "file", 1000)
        assert errno_of(fs.write, handle, b"x") == "ENOSPC"
        os.truncate(host.inside / "file", 10)
        assert fs.write(handle, b"x") == 1


def test_no_write_is_cut_short_and_called_whole(host: Host) -> None:
    with grant(host, call_bytes=10) as fs:
        handle = fs.open("/data/file", READ | WRITE)
        assert fs.write(handle, b"x" * 25) == 10
        assert fs.read(handle, 25, 0) == b"x" * 10
    assert (host.inside / "file").stat().st_size == 10


def test_interleaved_appends_overwrite_nothing(host: Host) -> None:
    with grant(host) as fs:
        first = fs.open("/data/log", OpenFlag.APPEND | CREATE)
        second = fs.open("/data/log", OpenFlag.APPEND)
        for number in range(10):
            fs.write((first, second)[number % 2], b"%d\n" % number)
        assert fs.seek(first, 0, os.SEEK_CUR) == 18
    assert (host.inside / "log").read_bytes() == b"".join(b"%d\n" % n for n in range(10))


def test_the_right_to_rename_is_no_right_to_remove(host: Host, errno_of: Errno) -> None:
    rights = Permission.of("rw") & ~Permission.REMOVE
    (host.inside / "other").touch()
    with grant(host, rights) as fs:
        assert errno_of(fs.rename, "/data/other", "/data/file") == "EACCES"
        assert errno_of(fs.unlink, "/data/file") == "EACCES"
        fs.rename("/data/other", "/data/moved")
    assert (host.inside / "file").read_text() == "content"


@pytest.mark.parametrize("missing", [right for right in Permission if right < Permission.CHMOD])
def test_what_is_not_permitted_is_refused(host: Host, errno_of: Errno, missing: Permission) -> None:
    needs = {
        Permission.READ: lambda fs: fs.open("/data/file", READ),
        Permission.WRITE: lambda fs: fs.open("/data/file", WRITE),
        Permission.LIST: lambda fs: list(fs.scandir("/data")),
        Permission.CREATE: lambda fs: fs.mkdir("/data/new"),
        Permission.REMOVE: lambda fs: fs.unlink("/data/file"),
        Permission.RENAME: lambda fs: fs.rename("/data/file", "/data/moved"),
    }
    with grant(host, Permission.of("rw") & ~missing) as fs:
        refused = {right for right, act in needs.items() if errno_of(act, fs) == "EACCES"}
    assert refused == {missing}


def test_a_read_only_mount_is_erofs_to_every_change(host: Host, errno_of: Errno) -> None:
    before = Path(host.inside / "file").stat()
    with grant(host, Permission.of("ro")) as fs:
        for act in (
            lambda: fs.open("/data/file", WRITE),
            lambda: fs.open("/data/new", WRITE | CREATE),
            lambda: fs.open("/data/new", READ | CREATE),
            lambda: fs.mkdir("/data/new"),
            lambda: fs.rmdir("/data/directory"),
            lambda: fs.unlink("/data/file"),
            lambda: fs.rename("/data/file", "/data/moved"),
            lambda: fs.link("/data/file", "/data/second"),
            lambda: fs.symlink("file", "/data/link"),
            lambda: fs.chmod("/data/file", 0),
            lambda: fs.utimes("/data/file", 0, 0),
        ):
            assert errno_of(act) == "EROFS"
    assert (host.inside / "file").stat() == before
    assert sorted(os.listdir(host.inside)) == ["directory", "file"]
