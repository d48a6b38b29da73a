"""Weaknesses that other sandboxed file systems have, tried on this one."""

from __future__ import annotations

import os
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
    descriptors,
    errno_of,
    is_refused,
)

#: More than the 16 MiB at which others cut a write and call it whole.
LARGE = (16 << 20) + 12_345


def _write_all(fs: Files, handle: int, data: bytes) -> None:
    done = 0
    while done < len(data):
        done += fs.write(handle, data[done:])


# ---- handles -------------------------------------------------------------------------------------
@attack
def closing_leaks_no_handle(grant: Grant, host: Host) -> None:
    """More distinct names than there are handles, one after the other."""
    for number in range(100):
        (host.inside / str(number)).touch()
    fs = grant(EVERYTHING, handles=4)
    before = descriptors(fs)
    for _ in range(3):
        for number in range(100):
            fs.close_handle(fs.open(f"/data/{number}", READ))
            fs.names("/data/directory")
        assert descriptors(fs) == before


@attack
def a_reset_closes_every_handle_with_no_writable_mount_at_all(grant: Grant, host: Host) -> None:
    fs = grant(Permission.of("ro"), handles=8)
    before = descriptors(fs)
    for _ in range(3):
        for _ in range(4):
            fs.open("/data/file", READ)
            fs.open("/data/directory", READ)
        assert is_refused(fs.open, "/data/file", READ)
        assert descriptors(fs) == before + 8
        fs.restore()
        assert descriptors(fs) == before


@attack
def handles_are_limited_whatever_they_are_for(grant: Grant, host: Host) -> None:
    fs = grant(EVERYTHING, handles=2)
    fs.open("/data/file", READ)
    fs.open("/data", READ)
    for act in (
        lambda: fs.open("/data/file", READ),
        lambda: fs.open("/data/directory", READ),
        lambda: fs.open("/data/new", WRITE | CREATE),
    ):
        assert errno_of(act) == "EMFILE"
    assert not (host.inside / "new").exists()


@attack
def open_listings_hold_no_names_in_memory(grant: Grant, host: Host) -> None:
    many = host.inside / "many"
    many.mkdir()
    for number in range(10_000):
        (many / f"{number:0200}").touch()
    fs = grant()
    if fs.is_posix:  # there the guest keeps a page of names in its own memory
        return
    handles = [fs.open("/data/many", READ) for _ in range(100)]
    fs.list_page(handles[0])
    before = _resident(fs)
    for handle in handles:
        fs.list_page(handle)
    assert _resident(fs) - before < 20 << 20  # a hundred lists of names would take 200 MB


def _resident(fs: Files) -> int:
    pages = int(Path(f"/proc/{fs.pid()}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@attack
def a_handle_stays_with_its_file_when_the_name_moves(grant: Grant, host: Host) -> None:
    fs = grant()
    handle = fs.open("/data/file", READ | WRITE)
    fs.rename("/data/file", "/data/moved")
    (host.inside / "file").write_text("another")
    assert fs.read(handle, 100) == b"content"
    fs.write(handle, b"CONTENT", 0)
    fs.unlink("/data/moved")
    assert fs.read(handle, 100, 0) == b"CONTENT"
    assert (host.inside / "file").read_text() == "another"


@attack
def a_handle_does_not_follow_a_symlink_put_in_its_place(grant: Grant, host: Host) -> None:
    fs = grant()
    handle = fs.open("/data/file", READ | WRITE)
    (host.inside / "file").unlink()
    host.link("file", "../outside/secret")
    assert fs.read(handle, 100) == b"content"
    fs.write(handle, b"mine")
    assert host.outside_is_untouched()


@attack
def opening_a_name_twice_gives_two_handles(grant: Grant, host: Host) -> None:
    fs = grant()
    first, second = fs.open("/data/file", READ), fs.open("/data/file", READ)
    assert first != second
    assert fs.read(first, 3) == b"con"
    fs.close_handle(first)
    assert fs.read(second, 3) == b"con"


@attack
def a_stale_handle_never_becomes_another_file(grant: Grant, host: Host) -> None:
    fs, seen = grant(), set()
    for _ in range(3):
        stale = fs.open("/data/file", READ)
        fs.restore()
        assert errno_of(fs.read, stale, 1) == "EBADF"
        seen.add(stale)
        if not fs.is_posix:  # a program's descriptors are its own, the lowest free number each
            other = fs.open("/data/directory", READ)
            assert other not in seen
            seen.add(other)
    assert fs.is_posix or len(seen) == 6


# ---- rights --------------------------------------------------------------------------------------
@attack
def truncating_at_open_needs_the_right_to_write(grant: Grant, host: Host) -> None:
    fs = grant(EVERYTHING & ~Permission.WRITE)
    cut = READ | TRUNCATE
    for flags in (cut, cut | CREATE, cut | WRITE, APPEND | TRUNCATE):
        errno_of(fs.open, "/data/file", flags)
    assert (host.inside / "file").read_text() == "content"


@attack
def a_drop_box_is_no_oracle_of_names_or_sizes(grant: Grant, host: Host) -> None:
    fs = grant(Permission.WRITE | Permission.CREATE)
    for name in ("file", "missing", "directory"):
        assert errno_of(fs.stat, f"/data/{name}") == "EACCES"
        assert errno_of(fs.readlink, f"/data/{name}") == "EACCES"
    handle = fs.open("/data/file", WRITE)
    assert errno_of(fs.fstat, handle) == "EACCES"
    assert errno_of(fs.seek, handle, 0, os.SEEK_END) == "EACCES"
    assert errno_of(fs.read, handle, 1) == "EBADF"
    for path, flags in {
        "/data/file": READ,
        "/data/new": READ | WRITE | CREATE,
        "/data/directory": READ,
    }.items():
        assert errno_of(fs.open, path, flags) == "EACCES"


@attack
def exclusive_creation_is_exclusive(grant: Grant, host: Host) -> None:
    fs, flags = grant(), WRITE | CREATE | EXCLUSIVE
    host.link("dangling", "nowhere")
    fs.open("/data/new", flags)
    for name in ("new", "file", "dangling", "directory"):
        assert errno_of(fs.open, f"/data/{name}", flags) == "EEXIST"
    assert not (host.inside / "nowhere").exists()


@attack
def the_right_to_rename_is_no_right_to_remove(grant: Grant, host: Host) -> None:
    (host.inside / "other").touch()
    fs = grant(EVERYTHING & ~Permission.REMOVE)
    assert errno_of(fs.rename, "/data/other", "/data/file") == "EACCES"
    assert errno_of(fs.unlink, "/data/file") == "EACCES"
    fs.rename("/data/other", "/data/moved")
    assert (host.inside / "file").read_text() == "content"


@attack
def each_right_is_needed_for_what_it_permits(grant: Grant, host: Host) -> None:
    needs = {
        Permission.READ: lambda fs: fs.open("/data/file", READ),
        Permission.WRITE: lambda fs: fs.open("/data/file", WRITE),
        Permission.LIST: lambda fs: fs.names("/data"),
        Permission.CREATE: lambda fs: fs.mkdir("/data/new"),
        Permission.REMOVE: lambda fs: fs.unlink("/data/remove"),
        Permission.RENAME: lambda fs: fs.rename("/data/rename", "/data/moved"),
        Permission.CHMOD: lambda fs: fs.chmod("/data/file", 0o600),
    }
    (host.inside / "file").chmod(0o640)
    for missing in needs:
        (host.inside / "remove").touch()
        (host.inside / "rename").touch()
        fs = grant(EVERYTHING & ~missing)
        refused = {right for right, act in needs.items() if errno_of(act, fs) == "EACCES"}
        assert refused == {missing}
        for name in ("new", "moved"):
            path = host.inside / name
            if path.exists():
                (path.rmdir if path.is_dir() else path.unlink)()
        (host.inside / "file").chmod(0o640)


@attack
def a_read_only_mount_is_erofs_to_every_change(grant: Grant, host: Host) -> None:
    before = (host.inside / "file").stat()
    fs = grant(Permission.of("ro"))
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
    after = (host.inside / "file").stat()
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    assert host.names() == ["directory", "file"]


# ---- bytes and names -----------------------------------------------------------------------------
@attack
def a_size_that_is_asked_for_is_not_allocated(grant: Grant, host: Host) -> None:
    fs = grant()
    handle = fs.open("/data/file", READ)
    if not fs.is_posix:  # there the program brings the memory
        assert fs.read(handle, 2**40) == b"content"
        assert fs.read(handle, 2**62, 3) == b"tent"
    assert fs.read(handle, 100, 2**62) == b""


@attack
def no_write_is_cut_short_and_called_whole(grant: Grant, host: Host) -> None:
    """A count is true at every size: what it says has been written is in the file."""
    fs = grant()
    data = b"0123456789abcdef" * (LARGE // 16 + 1)
    for size in (LARGE, 1 << 20, (1 << 20) + 1, 65_537):
        handle = fs.open("/data/new", WRITE | CREATE | TRUNCATE)
        count = fs.write(handle, data[:size])
        assert 0 < count <= size
        assert (host.inside / "new").read_bytes() == data[:count]
        _write_all(fs, handle, data[count:size])
        assert (host.inside / "new").read_bytes() == data[:size]
        fs.close_handle(handle)


@attack
def a_write_over_a_limit_says_so(grant: Grant, host: Host) -> None:
    fs = grant(EVERYTHING, file_bytes=100_000)
    handle = fs.open("/data/new", WRITE | CREATE)
    _write_all(fs, handle, bytes(100_000))
    assert errno_of(fs.write, handle, b"x") == "EDQUOT"
    assert (host.inside / "new").stat().st_size == 100_000


@attack
def reading_at_the_end_is_no_error(grant: Grant, host: Host) -> None:
    fs = grant()
    handle = fs.open("/data/file", READ)
    assert [fs.read(handle, 5) for _ in range(4)] == [b"conte", b"nt", b"", b""]


@attack
def interleaved_appends_overwrite_nothing(grant: Grant, host: Host) -> None:
    fs = grant()
    first, second = fs.open("/data/log", APPEND | CREATE), fs.open("/data/log", APPEND)
    for number in range(10):
        fs.write((first, second)[number % 2], b"%d\n" % number)
    assert fs.seek(first, 0, os.SEEK_CUR) == 18
    assert (host.inside / "log").read_bytes() == b"".join(b"%d\n" % n for n in range(10))


@attack
def names_that_are_not_utf_8_survive(grant: Grant, host: Host) -> None:
    name, fs = b"caf\xe9 \xff\n", grant()
    fs.write(fs.open(b"/data/" + name, WRITE | CREATE), b"x")
    assert fs.names("/data").keys() == {name, b"file", b"directory"}
    assert fs.stat(b"/data/" + name).size == 1
    assert name in os.listdir(os.fsencode(host.inside))


@attack
def every_kind_is_told_as_it_is(grant: Grant, host: Host) -> None:
    os.mkfifo(host.inside / "fifo")
    host.link("link", "file")
    fs = grant()
    expected = {"file": "file", "directory": "directory", "link": "symlink", "fifo": "other"}
    assert fs.names("/data") == {os.fsencode(name): kind for name, kind in expected.items()}
    kinds = {name: fs.stat(f"/data/{name}", follow=False).kind for name in expected}
    assert kinds == expected


@attack
def an_error_of_a_listing_is_an_error(grant: Grant, host: Host) -> None:
    fs = grant(EVERYTHING & ~Permission.LIST)
    assert errno_of(fs.names, "/data") == "EACCES"
    assert errno_of(fs.names, "/data/missing") in {"ENOENT", "EACCES"}
    fs = grant()
    assert errno_of(fs.list_page, fs.open("/data/file", READ)) == "ENOTDIR"


@attack
def directories_open_list_and_change_like_any_other(grant: Grant, host: Host) -> None:
    fs = grant()
    handle = fs.open("/data/directory", READ)
    assert fs.fstat(handle).kind == "directory"
    assert errno_of(fs.read, handle, 1) == "EISDIR"
    fs.mkdir("/data/directory/below")
    fs.rename("/data/directory/below", "/data/directory/moved")
    assert fs.names("/data/directory") == {b"moved": "directory"}
    fs.rmdir("/data/directory/moved")
    fs.truncate(fs.open("/data/file", WRITE), 3)
    fs.utimes("/data/file", 1, 2)
    assert fs.stat("/data/file")[2:] == (3, 2)


# ---- what is the caller's ------------------------------------------------------------------------
@attack
def a_directory_of_the_caller_is_never_emptied(grant: Grant, host: Host) -> None:
    fs = grant()
    fs.open("/data/new", WRITE | CREATE)
    fs.restore()
    assert host.names() == ["directory", "file", "new"]


@attack
def the_parent_of_an_ephemeral_directory_is_never_emptied(grant: Grant, host: Host) -> None:
    fs = grant(EVERYTHING, Mount("/private", host.inside, "ephemeral"))
    fs.open("/private/new", WRITE | CREATE)
    assert len(host.names()) == 3
    fs.restore()
    assert is_refused(fs.stat, "/private/new")
    assert (host.inside / "file").read_text() == "content"
