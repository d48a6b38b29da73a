"""Snapshots: handles and ephemeral files go back with them, files of the host do not."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hl_fs import CapFs, Entry, Limits, Mount, OpenFlag, Usage

from .attacks import Host

READ, WRITE, CREATE = OpenFlag.READ, OpenFlag.WRITE, OpenFlag.CREATE
Errno = Callable[..., str]


@pytest.fixture
def mounts(host: Host, tmp_path: Path) -> list[Mount]:
    """One directory of the host and an ephemeral one, made in a place the test can look into."""
    (tmp_path / "ephemeral").mkdir()
    return [Mount("/data", host.inside, "rw"), Mount("/tmp", tmp_path / "ephemeral", "ephemeral")]


def names(fs: CapFs, path: str) -> list[str]:
    """The names in a directory, sorted."""
    return sorted(entry.name for entry in fs.scandir(path))


def put(fs: CapFs, path: str | bytes, data: bytes) -> None:
    """Write a file."""
    handle = fs.open(path, WRITE | CREATE | OpenFlag.TRUNCATE)
    fs.write(handle, data)
    fs.close_handle(handle)


def get(fs: CapFs, path: str | bytes) -> bytes:
    """Read a file."""
    handle = fs.open(path, READ)
    data = fs.read(handle, 1000)
    fs.close_handle(handle)
    return data


def test_handles_opened_since_are_closed_and_others_are_at_their_offset(
    mounts: list[Mount], errno_of: Errno
) -> None:
    with CapFs(mounts) as fs:
        kept = fs.open("/data/file", READ)
        fs.read(kept, 3)
        snapshot = fs.snapshot()
        newer = fs.open("/data/file", READ)
        fs.read(kept, 4)
        closed = fs.open("/data/file", READ)
        fs.close_handle(closed)
        for _ in range(2):
            fs.restore(snapshot)
            assert errno_of(fs.read, newer, 1) == "EBADF"
            assert fs.read(kept, 100) == b"tent"


def test_a_handle_closed_since_is_open_again(mounts: list[Mount]) -> None:
    with CapFs(mounts) as fs:
        handle = fs.open("/data/file", READ)
        snapshot = fs.snapshot()
        fs.close_handle(handle)
        fs.restore(snapshot)
        assert fs.read(handle, 100) == b"content"


def test_a_handle_whose_file_has_gone_is_stale(
    mounts: list[Mount], host: Host, errno_of: Errno
) -> None:
    with CapFs(mounts) as fs:
        handle = fs.open("/data/file", READ)
        snapshot = fs.snapshot()
        (host.inside / "file").unlink()
        fs.restore(snapshot)
        assert errno_of(fs.read, handle, 1) == "ESTALE"
        assert errno_of(fs.fstat, handle) == "ESTALE"
        fs.close_handle(handle)
        assert errno_of(fs.read, handle, 1) == "EBADF"


def test_a_file_without_a_name_at_the_snapshot_is_there_again(mounts: list[Mount]) -> None:
    with CapFs(mounts) as fs:
        handle = fs.open("/data/file", READ)
        fs.unlink("/data/file")
        snapshot = fs.snapshot()
        fs.restore(snapshot)
        assert fs.read(handle, 100) == b"content"


def test_files_of_the_host_stay_as_they_are(mounts: list[Mount], host: Host) -> None:
    with CapFs(mounts) as fs:
        snapshot = fs.snapshot()
        put(fs, "/data/file", b"changed")
        fs.restore(snapshot)
    assert (host.inside / "file").read_bytes() == b"changed"


def test_ephemeral_files_go_back_with_modes_times_links_and_names(mounts: list[Mount]) -> None:
    with CapFs(mounts) as fs:
        fs.mkdir("/tmp/directory", 0o750)
        put(fs, b"/tmp/directory/caf\xe9", b"before")
        fs.symlink("directory", "/tmp/link")
        fs.link(b"/tmp/directory/caf\xe9", "/tmp/second")
        fs.chmod("/tmp/second", 0o604)
        fs.utimes("/tmp/second", 1, 2)
        fs.utimes("/tmp/directory", 3, 4)
        before = fs.stat("/tmp/second")
        snapshot = fs.snapshot()
        put(fs, "/tmp/second", b"after, and longer")
        fs.unlink("/tmp/link")
        fs.mkdir("/tmp/new")
        fs.restore(snapshot)
        assert names(fs, "/tmp") == ["directory", "link", "second"]
        after = fs.stat("/tmp/second")
        same = ("kind", "mode", "size", "nlink", "mtime_ns")
        assert [getattr(after, x) for x in same] == [getattr(before, x) for x in same]
        assert fs.stat("/tmp/directory").mode == 0o750
        assert fs.stat("/tmp/directory").mtime_ns == 4
        assert fs.readlink("/tmp/link") == b"directory"
        put(fs, "/tmp/second", b"one file")
        assert get(fs, b"/tmp/link/caf\xe9") == b"one file"


def test_an_ephemeral_handle_is_at_its_offset_in_what_was_put_back(
    mounts: list[Mount], errno_of: Errno
) -> None:
    with CapFs(mounts) as fs:
        put(fs, "/tmp/file", b"0123456789")
        handle = fs.open("/tmp/file", READ | WRITE)
        directory = fs.open("/tmp", READ)
        nameless = fs.open("/tmp/nameless", READ | WRITE | CREATE)
        fs.unlink("/tmp/nameless")
        fs.read(handle, 4)
        snapshot = fs.snapshot()
        fs.write(handle, b"abcdef")
        fs.rename("/tmp/file", "/tmp/moved")
        fs.restore(snapshot)
        assert fs.read(handle, 100) == b"456789"
        fs.write(handle, b"x", 0)
        assert get(fs, "/tmp/file") == b"x123456789"
        assert fs.list_into(directory, 0, 10, bytearray(100)).entries == 1
        assert errno_of(fs.read, nameless, 1) == "ESTALE"


def test_restoring_without_a_snapshot_empties_ephemeral_mounts(
    mounts: list[Mount], tmp_path: Path
) -> None:
    with CapFs(mounts) as fs:
        put(fs, "/tmp/file", b"x")
        fs.mkdir("/tmp/directory")
        fs.restore()
        assert names(fs, "/tmp") == []
        assert fs.usage("/tmp") == Usage(0, 0)
        assert len(os.listdir(tmp_path / "ephemeral")) == 1
    assert os.listdir(tmp_path / "ephemeral") == []


def test_a_directory_that_shuts_everybody_out_is_wiped_and_brought_back_all_the_same(
    mounts: list[Mount], tmp_path: Path
) -> None:
    with CapFs(mounts) as fs:
        fs.mkdir("/tmp/shut")
        put(fs, "/tmp/shut/file", b"x")
        fs.chmod("/tmp/shut/file", 0)
        fs.chmod("/tmp/shut", 0)
        fs.chmod("/tmp", 0)
        snapshot = fs.snapshot()
        fs.restore()
        assert names(fs, "/tmp") == []
        fs.restore(snapshot)
        assert fs.stat("/tmp/shut").mode == 0
        fs.chmod("/tmp/shut", 0o700)
        assert fs.stat("/tmp/shut/file").mode == 0
        fs.chmod("/tmp/shut", 0)
        del snapshot
    assert os.listdir(tmp_path / "ephemeral") == []


def test_a_snapshot_goes_into_a_clone_and_outlives_its_file_system(mounts: list[Mount]) -> None:
    with CapFs(mounts) as fs:
        put(fs, "/tmp/file", b"ephemeral")
        handles = [fs.open("/tmp/file", READ), fs.open("/data/file", READ)]
        fs.read(handles[1], 3)
        snapshot = fs.snapshot()
        with CapFs(mounts) as clone:
            clone.open("/data/file", READ)
            clone.restore(snapshot)
            put(clone, "/tmp/file", b"clone")
            assert get(fs, "/tmp/file") == b"ephemeral"
    with CapFs(mounts) as clone:
        clone.restore(snapshot)
        assert [clone.read(handle, 100) for handle in handles] == [b"ephemeral", b"tent"]
        assert clone.open("/data/file", READ) not in handles


def test_the_handle_of_one_clone_does_not_move_that_of_another(mounts: list[Mount]) -> None:
    with CapFs(mounts) as one, CapFs(mounts) as two:
        handle = one.open("/data/file", READ)
        snapshot = one.snapshot()
        two.restore(snapshot)
        assert one.read(handle, 3) == b"con"
        assert two.read(handle, 100) == b"content"


def test_an_unchanged_ephemeral_mount_is_not_copied_again(
    mounts: list[Mount], tmp_path: Path
) -> None:
    with CapFs(mounts) as fs:
        put(fs, "/tmp/file", b"x")
        snapshots = [fs.snapshot() for _ in range(10)]
        assert len(os.listdir(tmp_path / "ephemeral")) == 2
        inode = fs.stat("/tmp/file").inode
        fs.restore(snapshots[3])
        assert fs.stat("/tmp/file").inode == inode


def test_copies_go_with_their_snapshot(mounts: list[Mount], tmp_path: Path) -> None:
    with CapFs(mounts) as fs:
        put(fs, "/tmp/file", b"x")
        snapshot = fs.snapshot()
        fs.restore()
        assert len(os.listdir(tmp_path / "ephemeral")) == 2
        del snapshot
        assert len(os.listdir(tmp_path / "ephemeral")) == 1


def test_the_private_directory_is_private(mounts: list[Mount], tmp_path: Path) -> None:
    with CapFs(mounts):
        (private,) = (tmp_path / "ephemeral").iterdir()
        assert private.stat().st_mode & 0o777 == 0o700


def test_listing_pages_are_stable_while_names_come_and_go(mounts: list[Mount]) -> None:
    with CapFs(mounts, Limits(list_entries=7)) as fs:
        stay = {f"stay{number}" for number in range(100)}
        for name in stay:
            fs.mkdir(f"/tmp/{name}")
        seen: list[Entry] = []
        for turn, entry in enumerate(fs.scandir("/tmp")):
            seen.append(entry)
            if turn % 10 == 0:
                fs.mkdir(f"/tmp/new{turn}")
        listed = [entry.name for entry in seen if entry.name in stay]
        assert sorted(listed) == sorted(stay)


def test_use_after_close_is_ebadf_and_close_may_come_twice(
    mounts: list[Mount], errno_of: Errno
) -> None:
    fs = CapFs(mounts)
    handle = fs.open("/data/file", READ)
    fs.close()
    fs.close()
    assert errno_of(fs.read, handle, 1) == "EBADF"
    assert errno_of(fs.stat, "/data/file") == "EBADF"
    assert errno_of(fs.restore) == "EBADF"


def test_closing_while_others_read_breaks_nothing(mounts: list[Mount], errno_of: Errno) -> None:
    for _ in range(20):
        fs = CapFs(mounts)
        handle, started = fs.open("/data/file", READ), threading.Event()

        def read(fs: CapFs = fs, handle: int = handle, started: threading.Event = started) -> None:
            while errno_of(fs.read, handle, 7, 0) == "":
                started.set()

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        started.wait()
        fs.close()
        for thread in threads:
            thread.join()
        assert errno_of(fs.read, handle, 7, 0) == "EBADF"


def test_handles_of_a_guest_from_elsewhere_are_stale_and_never_another_file(
    mounts: list[Mount], errno_of: Errno
) -> None:
    with CapFs(mounts) as before:
        handles = [before.open("/data/file", READ) for _ in range(3)]
        number = before.snapshot().next_handle
    with CapFs(mounts) as fs:
        fs.restart(number)
        new = [fs.open("/data/file", READ) for _ in range(3)]
        assert min(new) >= number > max(handles)
        for handle in handles:
            assert errno_of(fs.read, handle, 1) == "ESTALE"
            assert errno_of(fs.fstat, handle) == "ESTALE"
            fs.close_handle(handle)
        assert [fs.read(handle, 7) for handle in new] == [b"content"] * 3
        assert errno_of(fs.read, number + 3, 1) == "EBADF"


def test_handles_lost_once_stay_lost_through_later_snapshots(
    mounts: list[Mount], errno_of: Errno
) -> None:
    with CapFs(mounts) as fs, CapFs(mounts) as clone:
        fs.restart(5)
        kept = fs.open("/data/file", READ)
        snapshot = fs.snapshot()
        newer = fs.open("/data/file", READ)
        for restored in (fs, clone):
            restored.restore(snapshot)
            assert errno_of(restored.read, 4, 1) == "ESTALE"
            assert restored.read(kept, 7, 0) == b"content"
            assert errno_of(restored.read, newer, 1) == "EBADF"
        fs.restart(5)
        assert errno_of(fs.read, kept, 1) == "EBADF"
        assert fs.open("/data/file", READ) > newer
        fs.restore()
        assert errno_of(fs.read, 4, 1) == "EBADF"


@pytest.mark.parametrize("number", [2**53 + 1, 2**63 - 1, 2**64 - 1])
def test_a_start_from_which_numbers_would_run_out_is_refused(
    mounts: list[Mount], errno_of: Errno, number: int
) -> None:
    with CapFs(mounts) as fs:
        kept = fs.open("/data/file", READ)
        assert errno_of(fs.restart, number) == "EINVAL"
        assert fs.read(kept, 7) == b"content"
