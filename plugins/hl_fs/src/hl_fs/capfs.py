"""The file system for Python programs: `CapFs`, over the C interface of the Rust crate.

Paths are absolute and as a guest sees them: str (as `os.fsdecode` makes them), bytes or
os.PathLike. Every operation raises OSError with the errno a system call would give, most often as
the subclass that Python has for it; a path that leads out of its mount raises EscapeError.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import astuple
from types import TracebackType
from typing import Any, TypeAlias, final

from hl_fs._ffi import ffi, lib
from hl_fs.values import (
    KINDS,
    AnyPath,
    Entry,
    EscapeError,
    Kind,
    Limits,
    Listing,
    Mount,
    OpenFlag,
    Permission,
    Snapshot,
    Space,
    Status,
    Usage,
)

__all__ = ["CapFs"]

Buffer: TypeAlias = "bytes | bytearray | memoryview"
_unpack_status, _new_tuple = struct.Struct("=IIQQQQQqqq").unpack_from, tuple.__new__
_ENTRY = struct.Struct("<QBH")
_NAMES = (sys.getfilesystemencoding(), "surrogateescape")
_NEW_STATUS = ffi.typeof("hl_fs_status *")
_NEW_KIND = ffi.typeof("uint32_t *")
_NEW_BYTES = ffi.typeof("uint8_t[]")
_uninitialized = ffi.new_allocator(should_clear_after_alloc=False)
_NULL = ffi.NULL
# Looked up once, and used in place below: a system call takes no longer than a few steps of Python.
_open, _read, _close, _write = lib.hl_fs_open, lib.hl_fs_read, lib.hl_fs_close, lib.hl_fs_write
_stat, _fstat = lib.hl_fs_stat, lib.hl_fs_fstat
_from_buffer, _buffer = ffi.from_buffer, ffi.buffer
_UNLIMITED = 2**64 - 1
_KEEP_TIME = -(2**63)
_LIST_BYTES = 64 << 10
_SMALL = 64 << 10


def _room_for_status() -> tuple[Any, memoryview]:
    status = ffi.new(_NEW_STATUS)
    return status, memoryview(_buffer(status))


def _take(spare: list[Any]) -> Any:
    """One of them that is then nobody else's, or None."""
    try:
        return spare.pop()
    except IndexError:
        return None


def _raise(code: int, path: AnyPath | None) -> None:
    name = None if path is None else os.fsdecode(path)
    kind, number = -code >> 16, -code & 0xFFFF
    if kind == lib.HL_FS_ESCAPE:
        raise EscapeError(errno.EACCES, "the path leads outside of its mount", name)
    number = number or errno.EIO
    raise OSError(number, os.strerror(number), name)


def _check(code: int, path: AnyPath | None = None) -> int:
    if code < 0:
        _raise(code, path)
    return code


@final
class CapFs:
    """Granted directories in one tree of paths, and the open handles into it.

    Any thread may call any method. Use it as a context manager, or `close` it.

    Args:
        mounts: the directories; where guest paths nest, the longest one wins.
        limits: how much the guest may use.

    Raises:
        ValueError: a guest path is not plain and absolute, comes twice, or lies in the guest's own
            system (such as /usr); or a host directory is missing from the arguments.
        OSError: a host directory cannot be opened.
    """

    def __init__(self, mounts: Iterable[Mount], limits: Limits | None = None) -> None:
        mounts = list(mounts)
        table, keep = _mount_table(mounts)
        limits = limits or Limits()
        numbers = [_UNLIMITED if n is None else n for n in astuple(limits)]
        self._call_bytes = _UNLIMITED if limits.call_bytes is None else limits.call_bytes
        place, failed = ffi.new("hl_fs **"), ffi.new("size_t *")
        code = lib.hl_fs_new(ffi.new("hl_fs_limits *", numbers), table, len(mounts), place, failed)
        del keep
        if code < 0:
            _raise_mount(code, mounts[failed[0]])
        self._fs: Any = ffi.gc(place[0], lib.hl_fs_free)
        # Memory that no call is using, for small reads and for statuses.
        self._rooms: list[Any] = []
        self._statuses: list[tuple[Any, memoryview]] = []

    def __enter__(self) -> CapFs:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every handle and remove the ephemeral directories; further use is EBADF."""
        fs, self._fs = self._fs, ffi.NULL
        if fs:
            lib.hl_fs_close_all(fs)

    def _at(self, function: Any, path: AnyPath, *rest: Any) -> int:
        data = path.encode(*_NAMES) if type(path) is str else os.fsencode(path)
        code: int = function(self._fs, data, len(data), *rest)
        if code < 0:
            _raise(code, path)
        return code

    # ---- handles ---------------------------------------------------------------------------------

    def open(self, path: AnyPath, flags: OpenFlag | int, mode: int = 0o666) -> int:
        """Open a file or directory and return its handle, a number that is never used twice.

        `mode` holds permission bits for a file that is made; the umask applies.
        """
        data = path.encode(*_NAMES) if type(path) is str else os.fsencode(path)
        handle: int = _open(self._fs, data, len(data), flags, mode, _NULL)
        if handle < 0:
            _raise(handle, path)
        return handle

    def open_kind(
        self, path: AnyPath, flags: OpenFlag | int, mode: int = 0o666
    ) -> tuple[int, Kind]:
        """The same, with the kind of what was opened."""
        kind = ffi.new(_NEW_KIND)
        handle = self._at(lib.hl_fs_open, path, flags, mode, kind)
        return handle, KINDS[kind[0]]

    def close_handle(self, handle: int) -> None:
        """Close a handle."""
        code = _close(self._fs, handle)
        if code < 0:
            _raise(code, None)

    def read(self, handle: int, size: int, offset: int | None = None) -> bytes:
        """Up to `size` bytes from `offset`, or from the position, which moves; b"" at the end."""
        if size > _SMALL:
            return self._read_large(handle, size, offset)
        room = _take(self._rooms) or ffi.new(_NEW_BYTES, _SMALL)
        got = _read(self._fs, handle, room, size, -1 if offset is None else offset)
        if got < 0:
            _raise(got, None)
        data: bytes = _buffer(room, got)[:]
        self._rooms.append(room)
        return data

    def _read_large(self, handle: int, size: int, offset: int | None) -> bytes:
        size = min(size, self._call_bytes)  # before it is allocated
        room = _uninitialized(_NEW_BYTES, size)
        got = _check(_read(self._fs, handle, room, size, -1 if offset is None else offset))
        return _buffer(room, got)[:]  # type: ignore[no-any-return]

    def read_into(self, handle: int, buffer: Buffer, offset: int | None = None) -> int:
        """Read straight into `buffer` and return the number of bytes."""
        room = _from_buffer(_NEW_BYTES, buffer, True)
        got: int = _read(self._fs, handle, room, len(room), -1 if offset is None else offset)
        if got < 0:
            _raise(got, None)
        return got

    def write(self, handle: int, data: Buffer, offset: int | None = None) -> int:
        """Write at `offset`, at the position or at the end; return the number of bytes written."""
        view = _from_buffer(_NEW_BYTES, data)
        put: int = _write(self._fs, handle, view, len(view), -1 if offset is None else offset)
        if put < 0:
            _raise(put, None)
        return put

    def seek(self, handle: int, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position, as lseek(2), and return it."""
        return _check(lib.hl_fs_seek(self._fs, handle, offset, whence))

    def truncate(self, handle: int, size: int) -> None:
        """Set the size of a file, in bytes."""
        _check(lib.hl_fs_truncate(self._fs, handle, size))

    def sync(self, handle: int, *, data_only: bool = False) -> None:
        """Wait until a file is on the host's disk."""
        _check(lib.hl_fs_sync(self._fs, handle, data_only))

    def fstat(self, handle: int) -> Status:
        """What stat(2) tells of an open file."""
        room = _take(self._statuses) or _room_for_status()
        _check(_fstat(self._fs, handle, room[0]))
        return self._seen(room)

    def _seen(self, room: tuple[Any, memoryview]) -> Status:
        fields = _unpack_status(room[1])
        self._statuses.append(room)
        return _new_tuple(Status, (KINDS[fields[0]], *fields[1:]))

    def list_into(self, handle: int, cursor: int, limit: int, buffer: Buffer) -> Listing:
        """Put entries of an open directory into `buffer`, as rust/include/hl_fs.h lays them out."""
        data = ffi.from_buffer(_NEW_BYTES, buffer, require_writable=True)
        listing = ffi.new("hl_fs_listing *")
        _check(lib.hl_fs_list(self._fs, handle, cursor, limit, data, len(data), listing))
        return Listing(listing.count, listing.bytes, None if listing.end else listing.cursor)

    # ---- paths -----------------------------------------------------------------------------------

    def stat(self, path: AnyPath, *, follow: bool = True) -> Status:
        """What a path leads to; without `follow`, of a symlink itself."""
        room = _take(self._statuses) or _room_for_status()
        data = path.encode(*_NAMES) if type(path) is str else os.fsencode(path)
        code = _stat(self._fs, data, len(data), follow, room[0])
        if code < 0:
            _raise(code, path)
        return self._seen(room)

    def scandir(self, path: AnyPath) -> Iterator[Entry]:
        """The entries of a directory, in the host's order, without `.` and `..`."""
        handle = self.open(path, OpenFlag.READ | OpenFlag.DIRECTORY)
        try:
            buffer = bytearray(_LIST_BYTES)
            cursor: int | None = 0
            while cursor is not None:
                _, size, cursor = self.list_into(handle, cursor, _LIST_BYTES, buffer)
                yield from _unpack(bytes(buffer[:size]))
        finally:
            self.close_handle(handle)

    def mkdir(self, path: AnyPath, mode: int = 0o777) -> None:
        """Make a directory; the umask applies."""
        self._at(lib.hl_fs_mkdir, path, mode)

    def rmdir(self, path: AnyPath) -> None:
        """Remove an empty directory."""
        self._at(lib.hl_fs_rmdir, path)

    def unlink(self, path: AnyPath) -> None:
        """Remove a name that is no directory."""
        self._at(lib.hl_fs_unlink, path)

    def rename(self, source: AnyPath, target: AnyPath) -> None:
        """Rename within a mount, replacing what has the name `target`; EXDEV across mounts."""
        name = os.fsencode(target)
        self._at(lib.hl_fs_rename, source, name, len(name))

    def link(self, source: AnyPath, target: AnyPath) -> None:
        """Give a file a second name in its mount."""
        name = os.fsencode(target)
        self._at(lib.hl_fs_link, source, name, len(name))

    def symlink(self, target: AnyPath, path: AnyPath) -> None:
        """Make a symlink. An absolute target means another file on the host: EscapeError."""
        name = os.fsencode(path)
        self._at(lib.hl_fs_symlink, target, name, len(name))

    def readlink(self, path: AnyPath) -> bytes:
        """The target of a symlink; an absolute one is a host path, and an EscapeError."""
        target = ffi.new(_NEW_BYTES, 4096)
        return bytes(ffi.buffer(target, self._at(lib.hl_fs_readlink, path, target, len(target))))

    def chmod(self, path: AnyPath, mode: int) -> None:
        """Set the permission bits; set-id and sticky bits are left out."""
        self._at(lib.hl_fs_chmod, path, mode)

    def utimes(
        self,
        path: AnyPath,
        access_ns: int | None = None,
        change_ns: int | None = None,
        *,
        follow: bool = True,
    ) -> None:
        """Set the times of access and of content, in ns since 1970; None leaves one as it is."""
        times = [_KEEP_TIME if time is None else time for time in (access_ns, change_ns)]
        self._at(lib.hl_fs_utimes, path, *times, follow)

    def statfs(self, path: AnyPath) -> Space:
        """How much room limits and disk leave in a mount."""
        space = ffi.new("hl_fs_space *")
        self._at(lib.hl_fs_statfs, path, space)
        return Space(*(getattr(space, field) for field in Space._fields))

    def usage(self, path: AnyPath, *, recount: bool = False) -> Usage:
        """What a mount holds; with `recount` counted anew, after the host has changed it."""
        used = ffi.new("hl_fs_usage *")
        self._at(lib.hl_fs_usage_of, path, recount, used)
        return Usage(used.bytes, used.files)

    # ---- snapshots -------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Remember the open handles and what the ephemeral mounts hold."""
        place = ffi.new("hl_fs_snapshot **")
        _check(lib.hl_fs_snapshot_take(self._fs, place))
        pointer = ffi.gc(place[0], lib.hl_fs_snapshot_free)
        return Snapshot(pointer, _check(lib.hl_fs_snapshot_next_handle(pointer)))

    def restore(self, snapshot: Snapshot | None = None) -> None:
        """Go back to a snapshot, of this file system or one with the same mounts, or to the start.

        Handles opened since are closed. Those of the snapshot are at their position again, or
        answer ESTALE if their file has gone. After an error every handle is closed.
        """
        pointer = ffi.NULL if snapshot is None else snapshot.pointer
        _check(lib.hl_fs_restore(self._fs, pointer))

    def restart(self, next_handle: int) -> None:
        """Go to the start, for a guest that another process has taken a snapshot of.

        The handles that it had there are those below the snapshot's `next_handle`. They answer
        ESTALE until the next restore, closing them succeeds, and none is given out again.
        """
        _check(lib.hl_fs_restart(self._fs, next_handle))


def _unpack(page: bytes) -> Iterator[Entry]:
    place, end, unpack = 0, len(page), _ENTRY.unpack_from
    while place < end:
        inode, kind, length = unpack(page, place)
        name, place = place + 11, place + 11 + length
        yield Entry(page[name:place].decode(*_NAMES), KINDS[kind], inode)


def _mount_table(mounts: list[Mount]) -> tuple[Any, list[Any]]:
    """The C array, and what must stay alive while it is used."""
    table, keep = ffi.new("hl_fs_mount[]", len(mounts)), []
    for row, mount in zip(table, mounts, strict=True):
        host = b"" if mount.host is None else os.fsencode(mount.host)
        guest = os.fsencode(mount.guest)
        rights = Permission.of(mount.mode) if mount.permissions is None else mount.permissions
        keep += [ffi.from_buffer(_NEW_BYTES, host), ffi.from_buffer(_NEW_BYTES, guest)]
        row.host, row.host_size = keep[-2], len(host)
        row.guest, row.guest_size = keep[-1], len(guest)
        row.permissions, row.ephemeral = int(rights), mount.mode == "ephemeral"
    return table, keep


def _raise_mount(code: int, mount: Mount) -> None:
    if -code >> 16 == lib.HL_FS_INVALID:
        raise ValueError(
            f"cannot mount {mount.host!r} at {mount.guest!r}: the guest path must be absolute,"
            " plain, used once and away from the guest's system, and a mount that is not"
            " ephemeral needs a host directory that is not a procfs"
        )
    _raise(code, mount.host)
