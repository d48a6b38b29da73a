"""The plugin of hyperlight: the host functions `fs.*` over one `CapFs` for each sandbox."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import wraps
from typing import Any, ClassVar

from hyperlight_core.errors import HostFunctionError, InvalidParamsError
from hyperlight_core.functions import HostCall, HostFunction, functions_of, host_function
from hyperlight_core.hookspecs import CliOption, SnapshotToken, hookimpl
from pydantic import BaseModel

from hl_fs import models
from hl_fs.capfs import CapFs
from hl_fs.dialect import Dialect
from hl_fs.names import decode_name, encode_name
from hl_fs.values import Limits, Mount, Permission

__all__ = ["FsPlugin"]

_WHENCE = {"start": 0, "current": 1, "end": 2}
_MOST_HANDLES = 2**53  # what JSON holds exactly; the file system takes no more either
_SEES = Permission.READ | Permission.LIST | Permission.CROSS


class FsPlugin:
    """Files for one sandbox, within its configuration."""

    configuration: ClassVar[type[BaseModel]] = models.FsConfiguration
    cli_options: ClassVar[tuple[CliOption, ...]] = (
        CliOption("--mount", "HOST:GUEST[:ro|rw]", "Grant a directory of the host, read-only."),
    )

    def __init__(self, configuration: models.FsConfiguration) -> None:
        """Open the directories.

        Raises:
            ValueError: a mount is malformed.
            OSError: a host directory cannot be opened.
        """
        self._mounts = [mount.mount() for mount in configuration.mounts]
        self._offers_dialect = configuration.dialect
        self._fs = CapFs(self._mounts, Limits(**configuration.limits.model_dump()))
        self._dialect = Dialect(self._fs, [mount.guest for mount in self._mounts])

    @staticmethod
    def configuration_from_options(options: Mapping[str, tuple[str, ...]]) -> dict[str, Any] | None:
        """The mounts that `--mount` names.

        Raises:
            ValueError: a value is not HOST:GUEST[:ro|rw].
        """
        values = options.get("--mount", ())
        return {"mounts": [_parse_mount(value) for value in values]} if values else None

    # ---- hooks -----------------------------------------------------------------------------------

    @hookimpl
    def host_functions(self) -> Iterable[HostFunction]:
        """Every `fs.*` function; those a mount does not permit answer EROFS or EACCES."""
        for function in functions_of(self):
            if self._offers_dialect or function.name != "fs.dispatch":
                yield replace(function, handler=_with_errno(function.handler))

    @hookimpl
    def explain(self) -> Iterable[str]:
        """The mounts, with the host's directories."""
        for mount in self._mounts:
            host = f" from {os.fsdecode(mount.host)}" if mount.host is not None else ""
            yield f"mount {mount.guest} ({_mode_of(mount)}){host}"

    @hookimpl
    def snapshot_taken(self, snapshot: SnapshotToken) -> None:
        """Remember handles and ephemeral files; on disk, only which handles are used up."""
        taken = snapshot.plugin_state["fs"] = self._fs.snapshot()
        snapshot.on_disk["fs"] = taken.next_handle

    @hookimpl
    def snapshot_restored(self, snapshot: SnapshotToken) -> None:
        """Bring them back; of a snapshot from disk, the handles are stale."""
        taken = snapshot.plugin_state.get("fs")
        if taken is not None:
            self._fs.restore(taken)
        else:
            self._fs.restart(_next_handle(snapshot.on_disk.get("fs", 1)))

    @hookimpl
    def closed(self) -> None:
        """Let go of everything."""
        self._fs.close()

    # ---- host functions --------------------------------------------------------------------------

    @host_function("fs.mounts")
    def mounts(self, _request: models.Empty) -> models.MountsResponse:
        """The mounts of this sandbox."""
        return models.MountsResponse(
            mounts=[models.MountEntry(guest=m.guest, mode=_mode_of(m)) for m in self._mounts]
        )

    @host_function("fs.open")
    def open(self, request: models.OpenRequest) -> models.OpenResponse:
        """Open a file or directory."""
        path, flags = decode_name(request.path), request.open_flags()
        handle, kind = self._fs.open_kind(path, flags, request.mode)
        return models.OpenResponse(handle=handle, kind=kind)

    @host_function("fs.close")
    def close(self, request: models.HandleRequest) -> models.Empty:
        """Close a handle."""
        self._fs.close_handle(request.handle)
        return models.Empty()

    @host_function("fs.read")
    def read(self, request: models.ReadRequest, call: HostCall) -> models.SizeResponse:
        """Read into the attachment; no more than fits there."""
        place = call.reply_buffer(min(request.size, call.reply_limit))
        size = self._fs.read_into(request.handle, place, request.offset)
        call.reply_size(size)
        return models.SizeResponse(size=size)

    @host_function("fs.write")
    def write(self, request: models.WriteRequest, call: HostCall) -> models.SizeResponse:
        """Write the attachment."""
        size = self._fs.write(request.handle, call.attachment, request.offset)
        return models.SizeResponse(size=size)

    @host_function("fs.seek")
    def seek(self, request: models.SeekRequest) -> models.SeekResponse:
        """Move the position of a handle."""
        place = self._fs.seek(request.handle, request.offset, _WHENCE[request.whence])
        return models.SeekResponse(offset=place)

    @host_function("fs.truncate")
    def truncate(self, request: models.TruncateRequest) -> models.Empty:
        """Set the size of an open file."""
        self._fs.truncate(request.handle, request.size)
        return models.Empty()

    @host_function("fs.sync", blocking=True)
    def sync(self, request: models.SyncRequest) -> models.Empty:
        """Wait until a file is on the host's disk."""
        self._fs.sync(request.handle, data_only=request.data_only)
        return models.Empty()

    @host_function("fs.stat")
    def stat(self, request: models.StatRequest) -> models.StatResponse:
        """What a path leads to."""
        status = self._fs.stat(decode_name(request.path), follow=request.follow)
        return models.StatResponse(**status._asdict())

    @host_function("fs.fstat")
    def fstat(self, request: models.HandleRequest) -> models.StatResponse:
        """What a handle stands for."""
        return models.StatResponse(**self._fs.fstat(request.handle)._asdict())

    @host_function("fs.list")
    def list(self, request: models.ListRequest, call: HostCall) -> models.ListResponse:
        """Entries of an open directory, from a cursor on, in the attachment."""
        place = call.reply_buffer(call.reply_limit)
        found = self._fs.list_into(request.handle, request.cursor, request.limit, place)
        call.reply_size(found.size)
        return models.ListResponse(count=found.entries, cursor=found.cursor)

    @host_function("fs.mkdir")
    def mkdir(self, request: models.ModeRequest) -> models.Empty:
        """Make a directory."""
        self._fs.mkdir(decode_name(request.path), request.mode)
        return models.Empty()

    @host_function("fs.rmdir")
    def rmdir(self, request: models.PathRequest) -> models.Empty:
        """Remove an empty directory."""
        self._fs.rmdir(decode_name(request.path))
        return models.Empty()

    @host_function("fs.unlink")
    def unlink(self, request: models.PathRequest) -> models.Empty:
        """Remove a name that is no directory."""
        self._fs.unlink(decode_name(request.path))
        return models.Empty()

    @host_function("fs.rename")
    def rename(self, request: models.PairRequest) -> models.Empty:
        """Rename within a mount."""
        self._fs.rename(decode_name(request.source), decode_name(request.target))
        return models.Empty()

    @host_function("fs.link")
    def link(self, request: models.PairRequest) -> models.Empty:
        """Give a file a second name in its mount."""
        self._fs.link(decode_name(request.source), decode_name(request.target))
        return models.Empty()

    @host_function("fs.symlink")
    def symlink(self, request: models.SymlinkRequest) -> models.Empty:
        """Make a symlink with a relative target."""
        self._fs.symlink(decode_name(request.target), decode_name(request.path))
        return models.Empty()

    @host_function("fs.readlink")
    def readlink(self, request: models.PathRequest) -> models.TargetResponse:
        """Where a symlink leads; one that leads to a host path is refused."""
        return models.TargetResponse(
            target=encode_name(self._fs.readlink(decode_name(request.path)))
        )

    @host_function("fs.chmod")
    def chmod(self, request: models.ModeRequest) -> models.Empty:
        """Set permission bits."""
        self._fs.chmod(decode_name(request.path), request.mode)
        return models.Empty()

    @host_function("fs.utimes")
    def utimes(self, request: models.UtimesRequest) -> models.Empty:
        """Set times."""
        path, times = decode_name(request.path), (request.atime_ns, request.mtime_ns)
        self._fs.utimes(path, *times, follow=request.follow)
        return models.Empty()

    @host_function("fs.statfs")
    def statfs(self, request: models.PathRequest) -> models.StatfsResponse:
        """Room in a mount."""
        return models.StatfsResponse(**self._fs.statfs(decode_name(request.path))._asdict())

    @host_function("fs.dispatch")
    def dispatch(self, request: models.DispatchRequest) -> models.DispatchResponse:
        """A call in the dialect of the old JSON tools; only where the configuration asks for it."""
        return models.DispatchResponse(**self._dialect.dispatch(request.name, request.args))


def _with_errno(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Answers with errnos: the text of an OSError may name a path of the host."""

    @wraps(handler)
    def answer(*arguments: Any) -> Any:
        try:
            return handler(*arguments)
        except HostFunctionError:
            raise
        except OSError as error:
            raise HostFunctionError.from_os_error(error) from None
        except ValueError as error:
            raise InvalidParamsError(str(error), errno="EINVAL") from None

    return answer


def _next_handle(value: object) -> int:
    """What a snapshot on disk says, which may have been altered."""
    if type(value) is not int or not 1 <= value <= _MOST_HANDLES:
        raise ValueError("its part of the snapshot is no number of a handle")
    return value


def _mode_of(mount: Mount) -> models.Mode:
    if mount.mode == "ephemeral":
        return "ephemeral"
    rights = Permission.of(mount.mode) if mount.permissions is None else mount.permissions
    return "rw" if rights & ~_SEES else "ro"


def _parse_mount(value: str) -> dict[str, str]:
    rest, _, mode = value.rpartition(":")
    if mode not in {"ro", "rw"}:
        rest, mode = value, "ro"
    host, _, guest = rest.rpartition(":")
    if not host or not guest.startswith("/"):
        raise ValueError(f"--mount {value!r}: expected HOST:GUEST[:ro|rw] with an absolute GUEST")
    return {"host": host, "guest": guest, "mode": mode}
