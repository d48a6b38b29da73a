"""The plugin: host functions as the contract has them, over real buffers."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hyperlight_core.errors import CallLimitError, HostFunctionError, InvalidParamsError
from hyperlight_core.functions import HostFunction
from hyperlight_core.hookspecs import SnapshotToken
from pydantic import ValidationError

from hl_fs.models import FsConfiguration
from hl_fs.plugin import FsPlugin

HANDLE_FUNCTIONS = {"open", "close", "read", "write", "seek", "truncate", "sync", "fstat", "list"}
NAME_FUNCTIONS = {"stat", "mkdir", "rmdir", "unlink", "rename", "link", "symlink", "readlink"}
CONTRACT = HANDLE_FUNCTIONS | NAME_FUNCTIONS | {"mounts", "chmod", "utimes", "statfs"}


class Call:
    """One call with buffers of its own, as the core makes it over guest memory."""

    deadline, cancelled, wake_fd = None, False, -1

    def __init__(self, attachment: bytes, reply_limit: int) -> None:
        self.attachment = memoryview(attachment)
        self.reply_limit = reply_limit
        self._buffer, self._size = bytearray(reply_limit), 0

    def reply_buffer(self, size: int) -> memoryview:
        if size > self.reply_limit:
            raise CallLimitError("too large")
        self._size = size
        return memoryview(self._buffer)[:size]

    def reply_size(self, size: int) -> None:
        self._size = size

    @property
    def reply(self) -> bytes:
        """The attachment of the response."""
        return bytes(self._buffer[: self._size])


class Guest:
    """Calls the host functions of a plugin as a guest does, by JSON."""

    def __init__(self, configuration: dict[str, Any]) -> None:
        self.plugin = FsPlugin(FsConfiguration.model_validate(configuration))
        self.functions: dict[str, HostFunction] = {
            function.name: function for function in self.plugin.host_functions()
        }

    def call(
        self, name: str, attachment: bytes = b"", reply_limit: int = 1 << 20, /, **params: object
    ) -> tuple[dict[str, Any], bytes]:
        function = self.functions[f"fs.{name}"]
        request = function.request.model_validate_json(json.dumps(params))
        call = Call(attachment, reply_limit)
        response = function.handler(*((request, call) if function.wants_call else (request,)))
        return json.loads(response.model_dump_json()), call.reply

    def ask(self, name: str, attachment: bytes = b"", /, **params: object) -> dict[str, Any]:
        """The result alone."""
        return self.call(name, attachment, **params)[0]

    def errno(self, name: str, /, **params: object) -> str:
        """The errno of a call that fails."""
        try:
            self.call(name, **params)
        except HostFunctionError as error:
            return str(error.errno_name)
        return "none"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The directory of the host."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("content")
    return tmp_path / "data"


@pytest.fixture
def guest(folder: Path) -> Iterator[Guest]:
    """One writable and one ephemeral mount."""
    mounts = [
        {"host": str(folder), "guest": "/data", "mode": "rw"},
        {"guest": "/tmp", "mode": "ephemeral"},
    ]
    guest = Guest({"mounts": mounts})
    yield guest
    guest.plugin.closed()


def test_the_functions_are_those_of_the_contract(guest: Guest, folder: Path) -> None:
    assert guest.functions.keys() == {f"fs.{name}" for name in CONTRACT}
    mounts = [{"host": str(folder), "guest": "/data"}]
    with_dialect = Guest({"mounts": mounts, "dialect": True})
    assert with_dialect.functions.keys() - guest.functions.keys() == {"fs.dispatch"}
    assert with_dialect.ask("dispatch", name="fs_read", args={"path": "file"}) == {
        "result": {"text": "content"},
        "error": None,
    }
    assert all(function.doc for function in guest.functions.values())


def test_the_entry_point_names_the_plugin() -> None:
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert '[project.entry-points.hyperlight]\nfs = "hl_fs.plugin:FsPlugin"\n' in project


def test_mounts_tell_guest_paths_and_modes_and_no_host_path(folder: Path) -> None:
    mounts = [
        {"host": str(folder), "guest": "/a"},
        {"host": str(folder), "guest": "/b", "mode": "rw"},
        {"guest": "/c", "mode": "ephemeral"},
        {"host": str(folder), "guest": "/d", "permissions": ["read", "cross"]},
        {"host": str(folder), "guest": "/e", "permissions": ["write", "create"]},
    ]
    found = Guest({"mounts": mounts}).ask("mounts")["mounts"]
    modes = {mount["guest"]: mount["mode"] for mount in found}
    assert modes == {"/a": "ro", "/b": "rw", "/c": "ephemeral", "/d": "ro", "/e": "rw"}
    assert str(folder) not in json.dumps(found)


def test_reading_and_writing_go_through_the_attachment(guest: Guest, folder: Path) -> None:
    flags = ["read", "write", "create"]
    opened = guest.ask("open", path="/data/new", flags=flags, mode=0o640)
    handle = opened["handle"]
    assert opened["kind"] == "file"
    assert guest.ask("write", b"0123456789", handle=handle, offset=None) == {"size": 10}
    assert guest.ask("seek", handle=handle, offset=-4, whence="end") == {"offset": 6}
    assert guest.call("read", handle=handle, size=100, offset=None) == ({"size": 4}, b"6789")
    assert guest.call("read", b"", 3, handle=handle, size=100, offset=2) == ({"size": 3}, b"234")
    assert guest.call("read", handle=handle, size=2**62, offset=100) == ({"size": 0}, b"")
    guest.ask("truncate", handle=handle, size=3)
    guest.ask("sync", handle=handle, data_only=True)
    assert guest.ask("fstat", handle=handle)["size"] == 3
    guest.ask("close", handle=handle)
    assert guest.errno("read", handle=handle, size=1, offset=None) == "EBADF"
    assert (folder / "new").stat().st_mode & 0o777 == 0o640


def test_stat_is_that_of_the_host(guest: Guest, folder: Path) -> None:
    status, host = guest.ask("stat", path="/data/file", follow=True), (folder / "file").stat()
    assert status == {
        "kind": "file",
        "mode": host.st_mode & 0o7777,
        "size": 7,
        "nlink": 1,
        "inode": host.st_ino,
        "device": host.st_dev,
        "blocks": host.st_blocks,
        "atime_ns": host.st_atime_ns,
        "mtime_ns": host.st_mtime_ns,
        "ctime_ns": host.st_ctime_ns,
    }


def test_names_are_changed(guest: Guest, folder: Path) -> None:
    guest.ask("mkdir", path="/data/made", mode=0o750)
    guest.ask("rename", source="/data/file", target="/data/made/file")
    guest.ask("link", source="/data/made/file", target="/data/second")
    guest.ask("symlink", target="made/file", path="/data/link")
    assert guest.ask("readlink", path="/data/link") == {"target": "made/file"}
    guest.ask("utimes", path="/data/link", atime_ns=5, mtime_ns=None, follow=True)
    assert (folder / "second").stat().st_atime_ns == 5
    guest.ask("unlink", path="/data/made/file")
    guest.ask("rmdir", path="/data/made")
    assert sorted(os.listdir(folder)) == ["link", "second"]
    assert guest.ask("statfs", path="/data")["name_max"] == 255
    guest.ask("mkdir", path="/tmp/made", mode=0o777)
    guest.ask("chmod", path="/tmp/made", mode=0o4711)
    assert guest.ask("stat", path="/tmp/made", follow=False)["mode"] == 0o711


def entries(data: bytes) -> list[tuple[int, int, bytes]]:
    """Inode, kind and name, as the contract lays them out."""
    found, place = [], 0
    while place < len(data):
        inode, kind, length = struct.unpack_from("<QBH", data, place)
        found.append((inode, kind, data[place + 11 : place + 11 + length]))
        place += 11 + length
    return found


def test_listings_come_in_pages_in_the_attachment(guest: Guest, folder: Path) -> None:
    for number in range(50):
        (folder / f"{number}").touch()
    (folder / "link").symlink_to("file")
    handle = guest.ask("open", path="/data", flags=["read", "directory"], mode=0)["handle"]
    found: list[tuple[int, int, bytes]] = []
    cursor: int | None = 0
    while cursor is not None:
        result, data = guest.call("list", b"", 100, handle=handle, cursor=cursor, limit=5)
        assert result["count"] == len(entries(data)) <= 5
        found += entries(data)
        cursor = result["cursor"]
    kinds = {name.decode(): kind for _, kind, name in found}
    assert len(found) == len(kinds) == 52
    assert (kinds["link"], kinds["file"]) == (3, 1)
    assert {inode for inode, _, name in found if name == b"file"} == {
        (folder / "file").stat().st_ino
    }


def test_names_that_are_not_utf_8_travel_escaped(guest: Guest, folder: Path) -> None:
    name = b"caf\xe9"
    guest.ask("mkdir", path="/data/caf\0e9", mode=0o777)
    assert name in os.listdir(os.fsencode(folder))
    guest.ask("symlink", target="caf\0e9", path="/data/link")
    assert guest.ask("readlink", path="/data/link") == {"target": "caf\0e9"}
    assert guest.ask("stat", path="/data/link", follow=True)["kind"] == "directory"


@pytest.mark.parametrize(
    ("name", "params", "errno"),
    [
        ("open", {"path": "/data/nope", "flags": ["read"], "mode": 0}, "ENOENT"),
        ("open", {"path": "/data/../etc/passwd", "flags": ["read"], "mode": 0}, "ENOENT"),
        ("open", {"path": "/data/file", "flags": [], "mode": 0}, "EINVAL"),
        ("stat", {"path": "/data/out/secret"}, "EACCES"),
        ("mkdir", {"path": "/data/file", "mode": 0o777}, "EEXIST"),
        ("chmod", {"path": "/data/file", "mode": 0o777}, "EACCES"),
        ("stat", {"path": "/data/a\0b"}, "EINVAL"),
        ("stat", {"path": "relative"}, "EINVAL"),
        ("close", {"handle": 99}, "EBADF"),
    ],
)
def test_errors_carry_an_errno_and_no_host_path(
    guest: Guest, folder: Path, name: str, params: dict[str, Any], errno: str
) -> None:
    (folder / "out").symlink_to(folder.parent)
    with pytest.raises(HostFunctionError) as caught:
        guest.call(name, **params)
    assert caught.value.errno_name == errno
    assert str(folder.parent) not in f"{caught.value}{caught.value.data}"


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("read", {"handle": 1, "size": -1, "offset": None}),
        ("read", {"handle": 1, "size": 2**63, "offset": None}),
        ("read", {"handle": 1, "size": 1, "offset": -1}),
        ("read", {"handle": 0, "size": 1, "offset": 0}),
        ("read", {"handle": 1.0, "size": 1, "offset": 0}),
        ("open", {"path": "/data/file", "flags": ["read", "path"], "mode": 0}),
        ("open", {"path": "/data/file", "flags": ["read"], "mode": 0o10000}),
        ("stat", {"path": "/data/file", "follow": 1}),
        ("stat", {"path": "/data/file", "extra": 1}),
        ("seek", {"handle": 1, "offset": 0, "whence": "hole"}),
        ("utimes", {"path": "/data/file", "atime_ns": -(2**63), "mtime_ns": None}),
    ],
)
def test_params_out_of_range_do_not_validate(
    guest: Guest, name: str, params: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError):
        guest.call(name, **params)


def test_a_lone_surrogate_is_invalid(guest: Guest) -> None:
    function = guest.functions["fs.stat"]
    request = function.request.model_construct(path="/data/\ud800", follow=True)
    with pytest.raises(InvalidParamsError):
        function.handler(request)


def test_handles_and_ephemeral_files_follow_the_snapshots(guest: Guest) -> None:
    guest.ask("mkdir", path="/tmp/before", mode=0o777)
    kept = guest.ask("open", path="/data/file", flags=["read"], mode=0)["handle"]
    snapshot = SnapshotToken()
    guest.plugin.snapshot_taken(snapshot)
    guest.ask("mkdir", path="/tmp/after", mode=0o777)
    newer = guest.ask("open", path="/data/file", flags=["read"], mode=0)["handle"]
    guest.call("read", handle=kept, size=3, offset=None)
    guest.plugin.snapshot_restored(snapshot)
    assert guest.call("read", handle=kept, size=3, offset=None)[1] == b"con"
    assert guest.errno("fstat", handle=newer) == "EBADF"
    assert guest.errno("stat", path="/tmp/after") == "ENOENT"
    assert guest.ask("stat", path="/tmp/before")["kind"] == "directory"
    guest.plugin.snapshot_restored(SnapshotToken())
    assert guest.errno("stat", path="/tmp/before") == "ENOENT"
    assert guest.errno("fstat", handle=kept) == "EBADF"


def saved(guest: Guest) -> SnapshotToken:
    """What a snapshot on disk brings to another process."""
    taken = SnapshotToken()
    guest.plugin.snapshot_taken(taken)
    return SnapshotToken(on_disk=json.loads(json.dumps(taken.on_disk)))


def test_handles_of_a_snapshot_on_disk_are_stale_and_never_another_file(folder: Path) -> None:
    (folder / "other").write_text("other")
    mounts = [{"host": str(folder), "guest": "/data", "mode": "rw"}]
    origin, loaded = Guest({"mounts": mounts}), Guest({"mounts": mounts})
    opened = {"path": "/data/file", "flags": ["read", "write"], "mode": 0}
    old = origin.ask("open", **opened)["handle"]
    loaded.plugin.snapshot_restored(saved(origin))
    new = loaded.ask("open", **{**opened, "path": "/data/other"})["handle"]
    assert new > old
    assert loaded.errno("read", handle=old, size=1, offset=0) == "ESTALE"
    assert loaded.errno("write", handle=old, offset=0) == "ESTALE"
    assert loaded.errno("truncate", handle=old, size=0) == "ESTALE"
    loaded.ask("close", handle=old)
    assert loaded.call("read", handle=new, size=9, offset=None)[1] == b"other"
    again = Guest({"mounts": mounts})
    again.plugin.snapshot_restored(saved(loaded))
    assert again.errno("fstat", handle=old) == again.errno("fstat", handle=new) == "ESTALE"
    for guest in (origin, loaded, again):
        guest.plugin.closed()


@pytest.mark.parametrize(
    "number", [0, -1, 2**53 + 1, 2**64, 1.5, True, "7", None, [7], {"next": 7}]
)
def test_an_altered_snapshot_on_disk_is_refused(guest: Guest, number: object) -> None:
    with pytest.raises(ValueError, match="no number of a handle"):
        guest.plugin.snapshot_restored(SnapshotToken(on_disk={"fs": number}))


def test_nothing_works_once_closed(folder: Path) -> None:
    guest = Guest({"mounts": [{"host": str(folder), "guest": "/data"}]})
    guest.plugin.closed()
    guest.plugin.closed()
    assert guest.errno("stat", path="/data/file") == "EBADF"


def test_permissions_and_limits_come_from_the_configuration(folder: Path) -> None:
    mounts = [{"host": folder, "guest": "/data", "permissions": ["read", "write"]}]
    guest = Guest({"mounts": mounts, "limits": {"file_bytes": 10, "mount_bytes": None}})
    handle = guest.ask("open", path="/data/file", flags=["write"], mode=0)["handle"]
    with pytest.raises(HostFunctionError) as caught:
        guest.ask("write", b"x" * 11, handle=handle, offset=0)
    assert caught.value.errno_name == "EDQUOT"
    assert guest.errno("mkdir", path="/data/new", mode=0) == "EACCES"


@pytest.mark.parametrize(
    ("values", "mounts"),
    [
        (("./data:/data",), [{"host": "./data", "guest": "/data", "mode": "ro"}]),
        (("/a:/b:rw",), [{"host": "/a", "guest": "/b", "mode": "rw"}]),
        (("/a:b:/c:ro",), [{"host": "/a:b", "guest": "/c", "mode": "ro"}]),
    ],
)
def test_mount_options_become_a_configuration(
    values: tuple[str, ...], mounts: list[dict[str, str]]
) -> None:
    configuration = FsPlugin.configuration_from_options({"--mount": values})
    assert configuration == {"mounts": mounts}
    FsConfiguration.model_validate(configuration)


def test_no_mount_option_is_no_configuration() -> None:
    assert FsPlugin.configuration_from_options({}) is None


@pytest.mark.parametrize("value", ["", "/a", ":/b", "/a:b", "/a:", "/a:/b:rx"])
def test_a_malformed_mount_option_is_named(value: str) -> None:
    with pytest.raises(ValueError, match="HOST:GUEST"):
        FsPlugin.configuration_from_options({"--mount": (value,)})


def test_a_missing_host_directory_fails_the_construction(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Guest({"mounts": [{"host": str(tmp_path / "missing"), "guest": "/data"}]})
