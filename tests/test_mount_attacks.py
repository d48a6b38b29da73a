"""Every attack that hl_fs is tested with, from inside a guest: by system and by host calls."""

from __future__ import annotations

import base64
import importlib.util
import os
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hl_fs import Mount, OpenFlag, Permission
from hl_fs.names import decode_name, encode_name
from hl_fs.values import KINDS

from hyperlight_core import Sandbox
from hyperlight_core.pytest_plugin import MakeSandbox

pytestmark = pytest.mark.kvm


def load() -> ModuleType:
    """The attacks, which are among the tests of hl_fs and no package of this folder."""
    name = "hl_fs_attacks"
    folder = Path(__file__).parents[1] / "plugins/hl_fs/tests/attacks"
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py")
    assert spec
    assert spec.loader
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


attacks = load()
Seen = attacks.world.Seen

#: Runs in the guest. Bytes travel packed, so that large ones of few kinds fit into a frame; what
#: fails answers with its errno.
GUEST = """
import base64, errno, hyperlight, os, stat, zlib

def packed(data): return base64.b64encode(zlib.compress(data)).decode()
def unpacked(text): return zlib.decompress(base64.b64decode(text))

def answered(work):
    try: return {"result": work()}
    except OSError as error: return {"errno": error.errno}
    except hyperlight.InvalidParamsError: return {"errno": errno.EINVAL}

def host_call(method, params, attachment):
    def work():
        result, data = hyperlight.call_raw(method, params, unpacked(attachment))
        return [result, packed(data)]
    return answered(work)

def kind(mode):
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}
    return kinds.get(stat.S_IFMT(mode), "other")

def seen(status):
    return [kind(status.st_mode), stat.S_IMODE(status.st_mode), status.st_size, status.st_mtime_ns]

def read(handle, size, offset):
    return packed(os.read(handle, size) if offset is None else os.pread(handle, size, offset))

def write(handle, text, offset):
    data = unpacked(text)
    return os.write(handle, data) if offset is None else os.pwrite(handle, data, offset)

def listed(path):
    with os.scandir(path) as entries:
        return [[packed(os.fsencode(e.name)), kind(e.stat(follow_symlinks=False).st_mode)]
                for e in entries]

calls = {
    "open": lambda path, flags, mode: os.open(unpacked(path), flags, mode),
    "stat": lambda path, follow: seen(os.stat(unpacked(path), follow_symlinks=follow)),
    "fstat": lambda handle: seen(os.fstat(handle)),
    "readlink": lambda path: packed(os.fsencode(os.readlink(path))),
    "link": lambda a, b: os.link(a, b, follow_symlinks=False),
    "utimes": lambda path, a, b: os.utime(path, ns=(a, b)),
    "close": os.close, "seek": os.lseek, "truncate": os.ftruncate, "read": read, "write": write,
    "names": listed, "list_page": lambda handle: os.listdir(handle) and None,
}

def system_call(name, *arguments):
    return answered(lambda: (calls.get(name) or getattr(os, name))(*arguments))

os.umask(0)
"""


def packed(data: bytes) -> str:
    """As the guest has it."""
    return base64.b64encode(zlib.compress(data)).decode()


def unpacked(text: str) -> bytes:
    """As the guest has it."""
    return zlib.decompress(base64.b64decode(text))


class Guest:
    """What both ways in from a guest share."""

    def __init__(self, sandbox: Sandbox) -> None:
        result = sandbox.run(GUEST)
        assert (result.exit_code, result.stderr) == (0, "")
        self._sandbox, self._start = sandbox, sandbox.snapshot()

    def pid(self) -> int:
        return os.getpid()

    def restore(self) -> None:
        self._sandbox.restore(self._start)

    def _ask(self, function: str, *arguments: object) -> Any:
        answer = self._sandbox.call(function, *arguments)
        if "errno" in answer:
            raise OSError(answer["errno"], os.strerror(answer["errno"]))
        return answer["result"]


class BySystemCalls(Guest):
    """Ordinary POSIX, as any program of the guest has it."""

    is_posix = True

    def is_escape(self, error: OSError) -> bool:
        # Dots may have led from the mount into the guest's image, which has its own answers.
        return True

    def _do(self, name: str, *arguments: object) -> Any:
        return self._ask("system_call", name, *arguments)

    def open(self, path: str | bytes, flags: int, mode: int = 0o666) -> int:
        return int(self._do("open", packed(os.fsencode(path)), _posix(OpenFlag(flags)), mode))

    def close_handle(self, handle: int) -> None:
        self._do("close", handle)

    def read(self, handle: int, size: int, offset: int | None = None) -> bytes:
        return unpacked(self._do("read", handle, size, offset))

    def write(self, handle: int, data: bytes, offset: int | None = None) -> int:
        return int(self._do("write", handle, packed(data), offset))

    def seek(self, handle: int, offset: int, whence: int = 0) -> int:
        return int(self._do("seek", handle, offset, whence))

    def fstat(self, handle: int) -> Any:
        return Seen(*self._do("fstat", handle))

    def stat(self, path: str | bytes, *, follow: bool = True) -> Any:
        return Seen(*self._do("stat", packed(os.fsencode(path)), follow))

    def names(self, path: str) -> dict[bytes, str]:
        return {unpacked(name): kind for name, kind in self._do("names", path)}

    def readlink(self, path: str) -> bytes:
        return unpacked(self._do("readlink", path))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        # truncate, list_page, mkdir, rmdir, unlink, rename, link, symlink, chmod, utimes
        return lambda *arguments: self._do(name, *arguments)


def _posix(flags: OpenFlag) -> int:
    names = {
        OpenFlag.APPEND: os.O_APPEND,
        OpenFlag.CREATE: os.O_CREAT,
        OpenFlag.EXCLUSIVE: os.O_EXCL,
        OpenFlag.TRUNCATE: os.O_TRUNC,
        OpenFlag.DIRECTORY: os.O_DIRECTORY,
        OpenFlag.NOFOLLOW: os.O_NOFOLLOW,
    }
    writes, reads = flags & (OpenFlag.WRITE | OpenFlag.APPEND), flags & OpenFlag.READ
    value = (os.O_RDWR if reads else os.O_WRONLY) if writes else os.O_RDONLY
    for flag, number in names.items():
        value |= number if flags & flag else 0
    return value


class ByHostCalls(Guest):
    """The host functions themselves: what a guest can do that has overwritten its library OS."""

    is_posix = False

    def is_escape(self, error: OSError) -> bool:
        return isinstance(error, PermissionError)

    def _do(self, verb: str, data: bytes = b"", /, **params: object) -> tuple[Any, bytes]:
        result, attachment = self._ask("host_call", f"fs.{verb}", params, packed(data))
        return result, unpacked(attachment)

    def open(self, path: str | bytes, flags: int, mode: int = 0o666) -> int:
        names = [flag.name.lower() for flag in OpenFlag if flags & flag and flag.name]
        name = encode_name(os.fsencode(path))
        return int(self._do("open", path=name, flags=names, mode=mode)[0]["handle"])

    def close_handle(self, handle: int) -> None:
        self._do("close", handle=handle)

    def read(self, handle: int, size: int, offset: int | None = None) -> bytes:
        return self._do("read", handle=handle, size=size, offset=offset)[1]

    def write(self, handle: int, data: bytes, offset: int | None = None) -> int:
        # No more than a frame takes.
        return int(self._do("write", data[: 1 << 19], handle=handle, offset=offset)[0]["size"])

    def seek(self, handle: int, offset: int, whence: int = 0) -> int:
        name = ("start", "current", "end")[whence]
        return int(self._do("seek", handle=handle, offset=offset, whence=name)[0]["offset"])

    def truncate(self, handle: int, size: int) -> None:
        self._do("truncate", handle=handle, size=size)

    def fstat(self, handle: int) -> Any:
        return _seen(self._do("fstat", handle=handle)[0])

    def stat(self, path: str | bytes, *, follow: bool = True) -> Any:
        return _seen(self._do("stat", path=encode_name(os.fsencode(path)), follow=follow)[0])

    def list_page(self, handle: int) -> None:
        self._do("list", handle=handle, cursor=0, limit=10)

    def names(self, path: str) -> dict[bytes, str]:
        handle = self.open(path, OpenFlag.READ | OpenFlag.DIRECTORY)
        try:
            return dict(_entries(self._do("list", handle=handle)[1]))
        finally:
            self.close_handle(handle)

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        self._do("mkdir", path=path, mode=mode)

    def rmdir(self, path: str) -> None:
        self._do("rmdir", path=path)

    def unlink(self, path: str) -> None:
        self._do("unlink", path=path)

    def rename(self, source: str, target: str) -> None:
        self._do("rename", source=source, target=target)

    def link(self, source: str, target: str) -> None:
        self._do("link", source=source, target=target)

    def symlink(self, target: str, path: str) -> None:
        self._do("symlink", target=target, path=path)

    def readlink(self, path: str) -> bytes:
        return decode_name(self._do("readlink", path=path)[0]["target"])

    def chmod(self, path: str, mode: int) -> None:
        self._do("chmod", path=path, mode=mode)

    def utimes(self, path: str, access_ns: int, change_ns: int) -> None:
        self._do("utimes", path=path, atime_ns=access_ns, mtime_ns=change_ns)


def _seen(status: dict[str, Any]) -> Any:
    return Seen(*(status[name] for name in Seen._fields))


def _entries(page: bytes) -> Iterator[tuple[bytes, str]]:
    place = 0
    while place < len(page):
        _, kind, length = struct.unpack_from("<QBH", page, place)
        yield page[place + 11 : place + 11 + length], KINDS[kind]
        place += 11 + length


def configured(mount: Mount) -> dict[str, object]:
    """A mount as a plugin's configuration has it."""
    rights = Permission.of(mount.mode) if mount.permissions is None else mount.permissions
    names = [right.name.lower() for right in Permission if rights & right and right.name]
    host = None if mount.host is None else os.fsdecode(mount.host)
    return {"guest": mount.guest, "host": host, "mode": mount.mode, "permissions": names}


@pytest.fixture
def host(tmp_path: Path) -> Any:
    """A fresh pair of directories."""
    return attacks.Host(tmp_path)


@pytest.fixture(params=[BySystemCalls, ByHostCalls], ids=["system_calls", "host_calls"])
def grant(request: pytest.FixtureRequest, host: Any, sandbox: MakeSandbox) -> Any:
    """Grants the host's directory at /data to a guest of its own."""

    def make(rights: Permission = attacks.EVERYTHING, *mounts: Mount, **limits: int | None) -> Any:
        table = [configured(Mount("/data", host.inside, permissions=rights))]
        files = {"mounts": table + [configured(mount) for mount in mounts], "limits": limits}
        return request.param(sandbox("python", plugins={"fs": files}, memory="256MiB"))

    return make


@pytest.mark.parametrize("attack", attacks.ATTACKS.values(), ids=attacks.ATTACKS)
def test_attack(attack: Callable[[Any, Any], None], grant: Any, host: Any) -> None:
    attack(grant, host)
