"""The tools `fs_read`, `fs_write`, … that guests of an older family call with {"name", "args"}.

An adapter over `CapFs`: it has no rights of its own. Paths may be guest paths, or relative to the
first mount, also with a leading slash. Binary data is base64 here, as those guests expect.
"""

from __future__ import annotations

import base64
import errno
import json
import os
import posixpath
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias, TypeVar

from hl_fs.capfs import CapFs
from hl_fs.values import EscapeError, OpenFlag

__all__ = ["Dialect"]

Result: TypeAlias = dict[str, Any]
_T = TypeVar("_T", str, int, bool)
_TRUNCATING = OpenFlag.WRITE | OpenFlag.CREATE | OpenFlag.TRUNCATE


class _Arguments:
    """The `args` of one call, by name and type."""

    def __init__(self, tool: str, values: object) -> None:
        self._tool, self._values = tool, values if isinstance(values, dict) else {}

    def required(self, name: str, kind: type[_T]) -> _T:
        value = self._values.get(name)
        if type(value) is not kind:
            raise ValueError(f"{self._tool}: missing '{name}'")
        return value

    def optional(self, name: str, default: _T) -> _T:
        value = self._values.get(name, default)
        return value if type(value) is type(default) else default


class Dialect:
    """Answers calls in that dialect.

    Args:
        fs: the file system to act on.
        guests: guest paths of its mounts; relative paths are beneath the first.
        limit: bytes of the largest file that `fs_read` returns, and of one `fs_read_bytes`.
    """

    def __init__(self, fs: CapFs, guests: Sequence[str], limit: int = 16 << 20) -> None:
        self._fs, self._guests, self._limit = fs, tuple(guests), limit

    def answer(self, request: bytes) -> bytes:
        """The JSON response to a JSON request."""
        try:
            message = json.loads(request)
        except ValueError as error:
            return json.dumps({"error": str(error)}).encode()
        name = message.get("name") if isinstance(message, dict) else None
        if not isinstance(name, str):
            return json.dumps({"error": "missing 'name'"}).encode()
        return json.dumps(self.dispatch(name, message.get("args"))).encode()

    def dispatch(self, name: str, args: object) -> Result:
        """{"result": …} or {"error": text}; no text names a host path."""
        tool = _TOOLS.get(name)
        if tool is None:
            return {"error": f"unknown tool: {name}"}
        arguments = _Arguments(name, args)
        path = arguments.optional("path", "")
        try:
            return {"result": tool(self, arguments)}
        except EscapeError:
            return {"error": f'path escapes mount root (symlink): "{path}"'}
        except OSError as error:
            number = error.errno or errno.EIO
            return {"error": f'{name} "{path}": {os.strerror(number)} (os error {number})'}
        except ValueError as error:
            return {"error": str(error)}

    def _path(self, arguments: _Arguments, *, required: bool = True) -> str:
        path = arguments.required("path", str) if required else arguments.optional("path", "")
        plain = posixpath.normpath(path)
        if self._is_guest_path(plain):
            return plain
        relative = posixpath.normpath(path.lstrip("/"))
        if relative.split("/")[0] == ".." or not self._guests:
            raise ValueError(f'path escapes mount root: "{path}"')
        return f"{self._guests[0]}/{relative}"

    def _is_guest_path(self, path: str) -> bool:
        return any(path == guest or path.startswith(f"{guest}/") for guest in self._guests)

    @contextmanager
    def _open(self, path: str, flags: OpenFlag) -> Iterator[int]:
        handle = self._fs.open(path, flags)
        try:
            yield handle
        finally:
            self._fs.close_handle(handle)

    def _write_all(self, path: str, flags: OpenFlag, data: bytes, offset: int | None) -> Result:
        with self._open(path, flags) as handle:
            if offset is not None:
                self._fs.seek(handle, offset)
            done = 0
            while done < len(data):
                done += self._fs.write(handle, data[done:])
        return {"bytes_written": done}

    def read(self, arguments: _Arguments) -> Result:
        """The text of a file."""
        with self._open(self._path(arguments), OpenFlag.READ) as handle:
            size = self._fs.fstat(handle).size
            if size > self._limit:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
            return {"text": self._fs.read(handle, size).decode("utf-8")}

    def write(self, arguments: _Arguments) -> Result:
        """Replace or extend a file by text."""
        path, data = self._path(arguments), arguments.required("text", str).encode()
        return self._write_all(path, _append_or_cut(arguments), data, None)

    def read_bytes(self, arguments: _Arguments) -> Result:
        """A part of a file."""
        path, offset = self._path(arguments), arguments.optional("offset", 0)
        wanted = arguments.optional("len", 65536)
        if offset < 0 or wanted < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        wanted = min(wanted, self._limit)
        with self._open(path, OpenFlag.READ) as handle:
            data = self._fs.read(handle, wanted, offset)
        encoded = base64.b64encode(data).decode()
        return {"data": encoded, "eof": len(data) < wanted, "bytes_read": len(data)}

    def write_bytes(self, arguments: _Arguments) -> Result:
        """Replace, extend or overwrite a part of a file."""
        path, text = self._path(arguments), arguments.required("data", str)
        try:
            data = base64.b64decode(text, validate=True)
        except ValueError as error:
            raise ValueError(f"bad base64: {error}") from None
        flags, offset = _append_or_cut(arguments), arguments.optional("offset", -1)
        if offset < 0 or flags & OpenFlag.APPEND:
            return self._write_all(path, flags, data, None)
        return self._write_all(path, OpenFlag.WRITE | OpenFlag.CREATE, data, offset)

    def list(self, arguments: _Arguments) -> Result:
        """The entries of a directory."""
        path = self._path(arguments, required=False)
        return {
            "entries": [
                {
                    "name": entry.name,
                    "is_dir": entry.kind == "directory",
                    "is_file": entry.kind == "file",
                    "is_symlink": entry.kind == "symlink",
                }
                for entry in self._fs.scandir(path)
            ]
        }

    def stat(self, arguments: _Arguments) -> Result:
        """Size and kind of what a path leads to."""
        status = self._fs.stat(self._path(arguments))
        kind = status.kind
        return {"size": status.size, "is_dir": kind == "directory", "is_file": kind == "file"}

    def mkdir(self, arguments: _Arguments) -> Result:
        """Make a directory, with `parents` those above it too."""
        path = self._path(arguments)
        if not arguments.optional("parents", default=False):
            self._fs.mkdir(path)
            return {}
        parts = path.split("/")
        for end in range(2, len(parts) + 1):
            directory = "/".join(parts[:end])
            if self._is_guest_path(directory):
                with suppress(FileExistsError):
                    self._fs.mkdir(directory)
        if self._fs.stat(path).kind != "directory":
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        return {}

    def truncate(self, arguments: _Arguments) -> Result:
        """Set the size of a file."""
        path, length = self._path(arguments), arguments.required("length", int)
        if length < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        with self._open(path, OpenFlag.WRITE) as handle:
            self._fs.truncate(handle, length)
        return {}

    def unlink(self, arguments: _Arguments) -> Result:
        """Remove a file, a link itself or an empty directory."""
        path = self._path(arguments)
        is_directory = self._fs.stat(path, follow=False).kind == "directory"
        (self._fs.rmdir if is_directory else self._fs.unlink)(path)
        return {}


def _append_or_cut(arguments: _Arguments) -> OpenFlag:
    if arguments.optional("append", default=False):
        return OpenFlag.APPEND | OpenFlag.CREATE
    return _TRUNCATING


_TOOLS: dict[str, Callable[[Dialect, _Arguments], Result]] = {
    "fs_read": Dialect.read,
    "fs_write": Dialect.write,
    "fs_read_bytes": Dialect.read_bytes,
    "fs_write_bytes": Dialect.write_bytes,
    "fs_list": Dialect.list,
    "fs_stat": Dialect.stat,
    "fs_mkdir": Dialect.mkdir,
    "fs_truncate": Dialect.truncate,
    "fs_unlink": Dialect.unlink,
}
