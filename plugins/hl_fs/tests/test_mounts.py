"""Mounts: where they may be, and which of them a path belongs to."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from hl_fs import CapFs, Mount, OpenFlag

from .attacks import Host

Errno = Callable[..., str]


@pytest.mark.parametrize(
    "guest",
    ["/", "", "data", "/usr", "/usr/local/x", "/proc", "/dev/shm", "/a/../usr", "/a//b", "/a/"],
)
def test_a_mount_shadows_no_system_path_of_the_guest(host: Host, guest: str) -> None:
    with pytest.raises(ValueError, match="guest path"):
        CapFs([Mount(guest, host.inside)])


def test_a_guest_path_is_used_once(host: Host) -> None:
    with pytest.raises(ValueError, match="once"):
        CapFs([Mount("/data", host.inside), Mount("/data", host.outside)])


def test_the_longest_mount_wins(host: Host) -> None:
    mounts = [Mount("/data", host.inside), Mount("/data/directory", host.outside)]
    with CapFs(mounts) as fs:
        assert [entry.name for entry in fs.scandir("/data/directory")] == ["secret"]
        assert fs.stat("/data/directory/secret").size == 6
        assert fs.stat("/data/file").size == 7


def test_rename_and_link_do_not_lead_from_one_mount_to_another(host: Host, errno_of: Errno) -> None:
    mounts = [Mount("/one", host.inside, "rw"), Mount("/two", host.outside, "rw")]
    with CapFs(mounts) as fs:
        assert errno_of(fs.rename, "/one/file", "/two/file") == "EXDEV"
        assert errno_of(fs.link, "/one/file", "/two/file") == "EXDEV"
    assert host.outside_is_untouched()


def test_the_mount_itself_can_neither_go_nor_be_made(host: Host, errno_of: Errno) -> None:
    with CapFs([Mount("/data", host.inside, "rw")]) as fs:
        assert errno_of(fs.rmdir, "/data") == "EBUSY"
        assert errno_of(fs.unlink, "/data") != ""
        assert errno_of(fs.rename, "/data", "/data/x") == "EBUSY"
        assert errno_of(fs.rename, "/data/directory", "/data") == "EBUSY"
        assert errno_of(fs.mkdir, "/data") == "EEXIST"
        assert errno_of(fs.open, "/data", OpenFlag.WRITE | OpenFlag.CREATE) == "EISDIR"
        assert fs.stat("/data/").kind == "directory"


def test_what_is_in_no_mount_does_not_exist(host: Host, errno_of: Errno) -> None:
    with CapFs([Mount("/data", host.inside)]) as fs:
        for path in ("/", "/etc/passwd", "/database", "/data/../etc"):
            assert errno_of(fs.stat, path) == "ENOENT"


def test_a_slash_behind_a_file_is_enotdir(host: Host, errno_of: Errno) -> None:
    with CapFs([Mount("/data", host.inside, "rw")]) as fs:
        for act in (fs.stat, fs.unlink, fs.rmdir, lambda p: fs.open(p, OpenFlag.READ)):
            assert errno_of(act, "/data/file/") == "ENOTDIR"
        assert errno_of(fs.rename, "/data/file/", "/data/x") == "ENOTDIR"
        assert errno_of(fs.open, "/data/x/", OpenFlag.WRITE | OpenFlag.CREATE) == "EISDIR"


def test_a_directory_with_many_names_is_listed_once_each(host: Host) -> None:
    for number in range(5000):
        (host.inside / "directory" / f"{number:0100}").touch()
    with CapFs([Mount("/data", host.inside)]) as fs:
        listed = [entry.name for entry in fs.scandir("/data/directory")]
    assert sorted(listed) == sorted(os.listdir(host.inside / "directory"))
