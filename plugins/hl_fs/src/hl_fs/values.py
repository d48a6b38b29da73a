"""What goes into a `CapFs` and comes out of it: rights, mounts, limits, statuses, the error."""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

from hl_fs._ffi import lib

__all__ = [
    "KINDS",
    "AnyPath",
    "Entry",
    "EscapeError",
    "Kind",
    "Limits",
    "Listing",
    "Mount",
    "OpenFlag",
    "Permission",
    "Snapshot",
    "Space",
    "Status",
    "Usage",
]

AnyPath: TypeAlias = "str | bytes | os.PathLike[str] | os.PathLike[bytes]"
Kind: TypeAlias = Literal["file", "directory", "symlink", "other"]

KINDS: tuple[Kind, ...] = ("other", "file", "directory", "symlink", "other")


class EscapeError(PermissionError):
    """The path leads outside of its mount; nothing there was touched. `errno` is EACCES."""


class Permission(enum.IntFlag):
    """What a guest may do in a mount."""

    READ = lib.HL_FS_READ
    WRITE = lib.HL_FS_WRITE
    LIST = lib.HL_FS_LIST
    CREATE = lib.HL_FS_CREATE
    REMOVE = lib.HL_FS_REMOVE
    RENAME = lib.HL_FS_RENAME
    CHMOD = lib.HL_FS_CHMOD
    CROSS = lib.HL_FS_CROSS

    @classmethod
    def of(cls, mode: Literal["ro", "rw", "ephemeral"]) -> Permission:
        """What the short name of a mode stands for."""
        read = cls.READ | cls.LIST
        change = cls.WRITE | cls.CREATE | cls.REMOVE | cls.RENAME
        return {"ro": read, "rw": read | change, "ephemeral": read | change | cls.CHMOD}[mode]


class OpenFlag(enum.IntFlag):
    """How to open a file."""

    READ = lib.HL_FS_OPEN_READ
    WRITE = lib.HL_FS_OPEN_WRITE
    APPEND = lib.HL_FS_OPEN_APPEND
    CREATE = lib.HL_FS_OPEN_CREATE
    EXCLUSIVE = lib.HL_FS_OPEN_EXCLUSIVE
    TRUNCATE = lib.HL_FS_OPEN_TRUNCATE
    DIRECTORY = lib.HL_FS_OPEN_DIRECTORY
    NOFOLLOW = lib.HL_FS_OPEN_NOFOLLOW


@dataclass(frozen=True)
class Mount:
    """A directory to grant.

    Attributes:
        guest: absolute path at which the guest sees it.
        host: the host's directory; for an ephemeral mount the directory in which its private one is
            made, None for the system's temporary directory.
        mode: "ro", "rw" (all but chmod and crossing), or "ephemeral" (private, empty at first,
            wiped at restore and close, all but crossing).
        permissions: in place of those that `mode` stands for.
    """

    guest: str
    host: AnyPath | None = None
    mode: Literal["ro", "rw", "ephemeral"] = "ro"
    permissions: Permission | None = None


@dataclass(frozen=True)
class Limits:
    """How much a guest may use; None is no limit.

    Attributes:
        handles: open files and directories together; over it EMFILE.
        path_bytes: bytes of a path; over it ENAMETOOLONG.
        depth: components of a path and levels of directories; over it ENAMETOOLONG.
        call_bytes: bytes one read or write moves; more is cut short.
        list_entries: entries one `list` returns.
        file_bytes: size that a write or truncate may give a file, in bytes; over it EDQUOT.
        mount_bytes: bytes of all files in a mount, holes included; over it ENOSPC.
        mount_files: names in a mount; over it ENOSPC.
    """

    handles: int | None = 1024
    path_bytes: int | None = 4096
    depth: int | None = 64
    call_bytes: int | None = 16 << 20
    list_entries: int | None = 10_000
    file_bytes: int | None = 4 << 30
    mount_bytes: int | None = 16 << 30
    mount_files: int | None = 1_000_000


class Status(NamedTuple):
    """What stat(2) tells: `mode` without the kind's bits, `blocks` of 512 bytes, times in ns."""

    kind: Kind
    mode: int
    size: int
    nlink: int
    inode: int
    device: int
    blocks: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int


class Space(NamedTuple):
    """How much a mount may hold and how much of that is free, in blocks and names."""

    block_size: int
    blocks: int
    blocks_free: int
    files: int
    files_free: int
    name_max: int


class Usage(NamedTuple):
    """What a mount holds: bytes of files, holes included, and names."""

    bytes: int
    files: int


class Listing(NamedTuple):
    """What `CapFs.list_into` has put into the buffer; `cursor` is None at the end."""

    entries: int
    size: int
    cursor: int | None


class Entry(NamedTuple):
    """An entry of a directory."""

    name: str
    kind: Kind
    inode: int


@dataclass(frozen=True)
class Snapshot:
    """What `CapFs.snapshot` remembers; immutable, and may outlive its file system.

    Attributes:
        pointer: of the C interface.
        next_handle: all of it that can go to another process, for `CapFs.restart`.
    """

    pointer: Any
    next_handle: int
