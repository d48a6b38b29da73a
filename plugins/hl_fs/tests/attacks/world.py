"""The world of an attack: a directory to grant, a secret beside it, and what a way in can do."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from hl_fs import Mount, OpenFlag, Permission

READ, WRITE, APPEND = OpenFlag.READ, OpenFlag.WRITE, OpenFlag.APPEND
CREATE, EXCLUSIVE, TRUNCATE = OpenFlag.CREATE, OpenFlag.EXCLUSIVE, OpenFlag.TRUNCATE
EVERYTHING = Permission.of("ephemeral")


class Host:
    """A directory to grant, and one beside it that nobody may reach."""

    def __init__(self, root: Path) -> None:
        self.inside, self.outside = root / "inside", root / "outside"
        self.inside.mkdir()
        self.outside.mkdir()
        (self.outside / "secret").write_text("secret")
        (self.outside / "secret").chmod(0o600)
        (self.inside / "file").write_text("content")
        (self.inside / "directory").mkdir()

    def link(self, name: str, target: str | Path) -> str:
        """Make a symlink in the directory, and tell the guest's path of it."""
        (self.inside / name).symlink_to(target)
        return f"/data/{name}"

    def outside_is_untouched(self) -> bool:
        """Whether the other directory is as it was made."""
        names = [path.name for path in self.outside.iterdir()]
        secret = self.outside / "secret"
        mode = secret.stat().st_mode & 0o777
        return names == ["secret"] and secret.read_text() == "secret" and mode == 0o600

    def names(self) -> list[str]:
        """What is in the directory."""
        return sorted(os.listdir(self.inside))


class Seen(NamedTuple):
    """What a stat tells that every way in can tell."""

    kind: str
    mode: int
    size: int
    mtime_ns: int


class Files(Protocol):
    """A way in. Every operation raises OSError; handles are what `open` returned."""

    #: Whether the guest's own library OS is between the attack and hl_fs. It may refuse earlier and
    #: with another errno, and what it keeps for itself is the guest's memory.
    is_posix: bool

    def is_escape(self, error: OSError) -> bool:
        """Whether an error says that the path leads out, as far as this way in tells."""

    def open(self, path: str | bytes, flags: int, mode: int = 0o666) -> int: ...
    def close_handle(self, handle: int) -> None: ...
    def read(self, handle: int, size: int, offset: int | None = None) -> bytes: ...
    def write(self, handle: int, data: bytes, offset: int | None = None) -> int: ...
    def seek(self, handle: int, offset: int, whence: int = 0) -> int: ...
    def truncate(self, handle: int, size: int) -> None: ...
    def fstat(self, handle: int) -> Seen: ...
    def list_page(self, handle: int) -> None:
        """Ask for the first few entries of an open directory."""

    def names(self, path: str) -> dict[bytes, str]:
        """The kinds in a directory by name."""

    def stat(self, path: str | bytes, *, follow: bool = True) -> Seen: ...
    def mkdir(self, path: str, mode: int = 0o777) -> None: ...
    def rmdir(self, path: str) -> None: ...
    def unlink(self, path: str) -> None: ...
    def rename(self, source: str, target: str) -> None: ...
    def link(self, source: str, target: str) -> None: ...
    def symlink(self, target: str, path: str) -> None: ...
    def readlink(self, path: str) -> bytes: ...
    def chmod(self, path: str, mode: int) -> None: ...
    def utimes(self, path: str, access_ns: int, change_ns: int) -> None: ...
    def restore(self) -> None:
        """Back to the state at the start, as a sandbox goes at its reset."""

    def pid(self) -> int:
        """The process that holds the descriptors."""


class Grant(Protocol):
    """Grants the host's directory at /data with these rights and limits, and other mounts."""

    def __call__(
        self,
        rights: Permission = EVERYTHING,
        *mounts: Mount,
        **limits: int | None,
    ) -> Files: ...


Attack = Callable[[Grant, Host], None]
#: Every attack by name.
ATTACKS: dict[str, Attack] = {}


def attack(function: Attack) -> Attack:
    """Enter an attack into the list."""
    ATTACKS[function.__name__] = function
    return function


def errno_of(function: Callable[..., Any], *arguments: object, **keywords: object) -> str:
    """The name of the errno a call raises, "none" where it has none, or "" if it succeeds."""
    try:
        function(*arguments, **keywords)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "none")
    return ""


def is_refused(function: Callable[..., Any], *arguments: object) -> bool:
    """Whether a call raises OSError."""
    return errno_of(function, *arguments) != ""


def descriptors(fs: Files) -> int:
    """How many descriptors the process of hl_fs has open."""
    return len(os.listdir(f"/proc/{fs.pid()}/fd"))
