"""The plugin's configuration, and the requests and responses of its host functions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from hyperlight_core.functions import Model
from pydantic import Field

from hl_fs.values import Kind, Limits, Mount, OpenFlag, Permission

Mode = Literal["ro", "rw", "ephemeral"]
PermissionName = Literal["read", "write", "list", "create", "remove", "rename", "chmod", "cross"]
FlagName = Literal[
    "read", "write", "append", "create", "exclusive", "truncate", "directory", "nofollow"
]
#: An absolute guest path; a byte that is not UTF-8 is U+0000 and two hex digits.
GuestPath = Annotated[str, Field(min_length=1)]
Handle = Annotated[int, Field(ge=1, lt=2**63)]
Bytes = Annotated[int, Field(ge=0, lt=2**63)]
Bits = Annotated[int, Field(ge=0, le=0o7777)]
Nanoseconds = Annotated[int, Field(gt=-(2**63), lt=2**63)]
#: None is no limit.
Limit = Annotated[int, Field(ge=0, lt=2**63)] | None


class MountConfiguration(Model):
    """A directory to grant.

    Attributes:
        guest: absolute path at which the guest sees it.
        host: the host's directory; not needed for an ephemeral mount, whose private directory is
            then made in the system's temporary directory.
        mode: "ro", "rw" or "ephemeral".
        permissions: in place of those that the mode stands for.
    """

    guest: str
    host: str | Path | None = None
    mode: Mode = "ro"
    permissions: list[PermissionName] | None = None

    def mount(self) -> Mount:
        """The same for CapFs."""
        if self.permissions is None:
            return Mount(self.guest, self.host, self.mode)
        rights = Permission(0)
        for name in self.permissions:
            rights |= Permission[name.upper()]
        return Mount(self.guest, self.host, self.mode, rights)


class LimitsConfiguration(Model):
    """How much a guest may use; see hl_fs.Limits."""

    handles: Limit = Limits.handles
    path_bytes: Limit = Limits.path_bytes
    depth: Limit = Limits.depth
    call_bytes: Limit = Limits.call_bytes
    list_entries: Limit = Limits.list_entries
    file_bytes: Limit = Limits.file_bytes
    mount_bytes: Limit = Limits.mount_bytes
    mount_files: Limit = Limits.mount_files


class FsConfiguration(Model):
    """What one sandbox may do with files.

    Attributes:
        mounts: the directories.
        limits: for all mounts together or for each, as hl_fs.Limits says.
        dialect: also offer `fs.dispatch`, for guests written against the old JSON tools.
    """

    mounts: list[MountConfiguration]
    limits: LimitsConfiguration = LimitsConfiguration()
    dialect: bool = False


class Empty(Model):
    """Nothing to ask, or nothing to say."""


class MountEntry(Model):
    """A mount as the guest sees it."""

    guest: str
    mode: Mode


class MountsResponse(Model):
    """Every mount."""

    mounts: list[MountEntry]


class OpenRequest(Model):
    """Which file, and how."""

    path: GuestPath
    flags: list[FlagName]
    mode: Bits = 0o666

    def open_flags(self) -> OpenFlag:
        """The flags as one number."""
        value = OpenFlag(0)
        for name in self.flags:
            value |= OpenFlag[name.upper()]
        return value


class OpenResponse(Model):
    """An open file."""

    handle: int
    kind: Kind


class HandleRequest(Model):
    """An open file."""

    handle: Handle


class ReadRequest(Model):
    """`offset` null: at the position of the handle."""

    handle: Handle
    size: Bytes
    offset: Bytes | None = None


class WriteRequest(Model):
    """`offset` null: at the position of the handle. The bytes are the attachment."""

    handle: Handle
    offset: Bytes | None = None


class SizeResponse(Model):
    """Bytes moved."""

    size: int


class SeekRequest(Model):
    """Where to move the position."""

    handle: Handle
    offset: Nanoseconds
    whence: Literal["start", "current", "end"] = "start"


class SeekResponse(Model):
    """The new position."""

    offset: int


class TruncateRequest(Model):
    """The new size of an open file."""

    handle: Handle
    size: Bytes


class SyncRequest(Model):
    """Whether the content alone is enough."""

    handle: Handle
    data_only: bool = False


class PathRequest(Model):
    """A file by its path."""

    path: GuestPath


class StatRequest(Model):
    """`follow` false: of a symlink itself."""

    path: GuestPath
    follow: bool = True


class StatResponse(Model):
    """What stat(2) tells; the mode without the kind, times in ns."""

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


class ListRequest(Model):
    """`cursor` 0 at first, then what the last response said."""

    handle: Handle
    cursor: Bytes = 0
    limit: Annotated[int, Field(ge=1, lt=2**63)] = 2**32


class ListResponse(Model):
    """The entries are in the attachment; `cursor` null at the end."""

    count: int
    cursor: int | None


class ModeRequest(Model):
    """A path and permission bits."""

    path: GuestPath
    mode: Bits = 0o777


class PairRequest(Model):
    """From one name to another."""

    source: GuestPath
    target: GuestPath


class SymlinkRequest(Model):
    """`path` shall lead to `target`, which is relative."""

    target: GuestPath
    path: GuestPath


class TargetResponse(Model):
    """Where a symlink leads."""

    target: str


class UtimesRequest(Model):
    """Times in ns since 1970; null leaves one as it is."""

    path: GuestPath
    atime_ns: Nanoseconds | None = None
    mtime_ns: Nanoseconds | None = None
    follow: bool = True


class StatfsResponse(Model):
    """Room in a mount."""

    block_size: int
    blocks: int
    blocks_free: int
    files: int
    files_free: int
    name_max: int


class DispatchRequest(Model):
    """A call in the dialect of the old JSON tools."""

    name: str
    args: object = None


class DispatchResponse(Model):
    """One of the two."""

    result: object = None
    error: str | None = None
