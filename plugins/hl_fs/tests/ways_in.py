"""The ways into hl_fs without a guest: the Python API, and the C interface in its own process."""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

from hl_fs import CapFs, EscapeError, Limits, Mount, OpenFlag, Permission
from hl_fs.values import KINDS

from .attacks.world import Seen

LISTING = OpenFlag.READ | OpenFlag.DIRECTORY


class ByPython:
    """`CapFs`, with what else attacks ask for."""

    is_posix = False

    def __init__(self, mounts: list[Mount], limits: Limits) -> None:
        self._fs = CapFs(mounts, limits)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fs, name)

    def pid(self) -> int:
        return os.getpid()

    def is_escape(self, error: OSError) -> bool:
        return isinstance(error, EscapeError)

    def fstat(self, handle: int) -> Seen:
        return _seen(self._fs.fstat(handle))

    def stat(self, path: str | bytes, *, follow: bool = True) -> Seen:
        return _seen(self._fs.stat(path, follow=follow))

    def names(self, path: str) -> dict[bytes, str]:
        return {os.fsencode(entry.name): entry.kind for entry in self._fs.scandir(path)}

    def list_page(self, handle: int) -> None:
        self._fs.list_into(handle, 0, 10, bytearray(4096))


def _seen(status: Any) -> Seen:
    return Seen(status.kind, status.mode, status.size, status.mtime_ns)


class ByC:
    """The C interface, in a program of its own."""

    is_posix = False

    def __init__(self, driver: Path, mounts: list[Mount], limits: Limits | None = None) -> None:
        numbers = ["-1" if limit is None else str(limit) for limit in astuple(limits or Limits())]
        table = [word for mount in mounts for word in _words(mount)]
        self._process = subprocess.Popen(
            [driver, *numbers, *table], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._run("restore")  # it has come so far

    def close(self) -> None:
        """End the program, which must end well."""
        self._process.communicate()
        assert self._process.returncode == 0

    def pid(self) -> int:
        return self._process.pid

    def is_escape(self, error: OSError) -> bool:
        return error.strerror == "kind 2" and error.errno == 0

    def _run(self, command: str, *words: int | bytes) -> tuple[int, bytes]:
        texts = [b"x" + w.hex().encode() if isinstance(w, bytes) else b"%d" % w for w in words]
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(b" ".join([command.encode(), *texts]) + b"\n")
        self._process.stdin.flush()
        code, _, output = self._process.stdout.readline().strip(b"\n").partition(b" ")
        if int(code) < 0:
            raise OSError(-int(code) & 0xFFFF, f"kind {-int(code) >> 16}")
        return int(code), bytes.fromhex(output.decode())

    def _seen(self, command: str, *words: int | bytes) -> Seen:
        status = self._run(command, *words)[1]
        kind, mode, size, *_, mtime, _ = struct.unpack("=IIQQQQQqqq", status)
        return Seen(KINDS[kind], mode, size, mtime)

    def open(self, path: str | bytes, flags: int, mode: int = 0o666) -> int:
        return self._run("open", os.fsencode(path), int(flags), mode)[0]

    def close_handle(self, handle: int) -> None:
        self._run("close", handle)

    def read(self, handle: int, size: int, offset: int | None = None) -> bytes:
        return self._run("read", handle, size, -1 if offset is None else offset)[1]

    def write(self, handle: int, data: bytes, offset: int | None = None) -> int:
        return self._run("write", handle, data, -1 if offset is None else offset)[0]

    def seek(self, handle: int, offset: int, whence: int = 0) -> int:
        return self._run("seek", handle, offset, whence)[0]

    def truncate(self, handle: int, size: int) -> None:
        self._run("truncate", handle, size)

    def fstat(self, handle: int) -> Seen:
        return self._seen("fstat", handle)

    def stat(self, path: str | bytes, *, follow: bool = True) -> Seen:
        return self._seen("stat", os.fsencode(path), int(follow))

    def list_page(self, handle: int) -> None:
        self._run("list", handle, 0)

    def names(self, path: str) -> dict[bytes, str]:
        handle = self.open(path, LISTING)
        try:
            return dict(entries(self._run("list", handle, 0)[1]))
        finally:
            self.close_handle(handle)

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        self._run("mkdir", path.encode(), mode)

    def rmdir(self, path: str) -> None:
        self._run("rmdir", path.encode())

    def unlink(self, path: str) -> None:
        self._run("unlink", path.encode())

    def rename(self, source: str, target: str) -> None:
        self._run("rename", source.encode(), target.encode())

    def link(self, source: str, target: str) -> None:
        self._run("link", source.encode(), target.encode())

    def symlink(self, target: str, path: str) -> None:
        self._run("symlink", target.encode(), path.encode())

    def readlink(self, path: str) -> bytes:
        return self._run("readlink", path.encode())[1]

    def chmod(self, path: str, mode: int) -> None:
        self._run("chmod", path.encode(), mode)

    def utimes(self, path: str, access_ns: int, change_ns: int) -> None:
        self._run("utimes", path.encode(), access_ns, change_ns)

    def restore(self) -> None:
        self._run("restore")


def _words(mount: Mount) -> list[str]:
    rights = Permission.of(mount.mode) if mount.permissions is None else mount.permissions
    return [mount.guest, str(mount.host), str(int(rights)), str(int(mount.mode == "ephemeral"))]


def entries(page: bytes) -> Iterator[tuple[bytes, str]]:
    """Names and kinds of a page of a listing."""
    place = 0
    while place < len(page):
        _, kind, length = struct.unpack_from("<QBH", page, place)
        yield page[place + 11 : place + 11 + length], KINDS[kind]
        place += 11 + length
