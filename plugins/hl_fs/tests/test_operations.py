"""Every operation against a model: a plain directory, driven by the standard library."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from hl_fs import CapFs, Mount, OpenFlag, Permission

NAMES = ["a", "b", "c", "l", "caf\udce9"]
paths = st.one_of(
    st.sampled_from(NAMES),
    st.lists(st.sampled_from([*NAMES, ".", "a/..", "b/.."]), min_size=2, max_size=4).map("/".join),
)
# Where both names of a rename or link are wrong, which error comes back is nobody's business.
names = paths.filter(lambda path: not path.endswith("."))
targets = st.sampled_from(["a", "b", "a/b", "../b", "./c", "l", "missing", "b/../a"])
OPEN_FLAGS = {
    OpenFlag.CREATE: os.O_CREAT,
    OpenFlag.EXCLUSIVE | OpenFlag.CREATE: os.O_EXCL | os.O_CREAT,
    OpenFlag.TRUNCATE: os.O_TRUNC,
    OpenFlag.DIRECTORY: os.O_DIRECTORY,
    OpenFlag.NOFOLLOW: os.O_NOFOLLOW,
}
ACCESS = {
    OpenFlag.READ: os.O_RDONLY,
    OpenFlag.WRITE: os.O_WRONLY,
    OpenFlag.READ | OpenFlag.WRITE: os.O_RDWR,
    OpenFlag.APPEND: os.O_WRONLY | os.O_APPEND,
    OpenFlag.READ | OpenFlag.APPEND: os.O_RDWR | os.O_APPEND,
}
KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}
data = st.binary(max_size=40)
offsets = st.integers(0, 60)


def outcome(function: Callable[[], object]) -> object:
    """The value, or the errno."""
    try:
        return function()
    except OSError as error:
        return ("errno", error.errno)


def tree(root: Path) -> dict[str, object]:
    """All that is beneath a directory: kinds, modes, contents and link targets."""
    found: dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        content: object = os.readlink(path) if path.is_symlink() else None
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
        found[str(path.relative_to(root))] = (status.st_mode, status.st_nlink, content)
    return found


def _times(path: str, follow: bool) -> tuple[int, int]:
    status = os.stat(path, follow_symlinks=follow)
    return (status.st_atime_ns, status.st_mtime_ns)


class Comparison(RuleBasedStateMachine):
    """Does the same to both and compares what comes back and what is left."""

    handles = Bundle("handles")

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.ours, self.model = self.root / "ours", self.root / "model"
        # Below some directories, so that a `..` in a link stays inside.
        for base in (self.ours, self.model):
            (base / "x" / "y").mkdir(parents=True)
        rights = Permission.of("ephemeral")
        self.fs = CapFs([Mount("/data", self.ours, permissions=rights)])
        self.open: dict[int, int] = {}

    def teardown(self) -> None:
        for descriptor in self.open.values():
            os.close(descriptor)
        self.fs.close()
        shutil.rmtree(self.root)

    def both(self, ours: Callable[..., Any], model: Callable[..., Any], *names: str) -> None:
        """The same operation on names: both succeed, or both fail with one errno."""
        here = outcome(lambda: ours(*[f"/data/x/y/{name}" for name in names]))
        there = outcome(lambda: model(*[f"{self.model}/x/y/{name}" for name in names]))
        assert here == there

    @rule(
        target=handles,
        path=paths,
        access=st.sampled_from(list(ACCESS)),
        extra=st.sets(st.sampled_from(list(OPEN_FLAGS)), max_size=2),
    )
    def open_file(self, path: str, access: OpenFlag, extra: set[OpenFlag]) -> int:
        flags, model_flags = access, ACCESS[access]
        for flag in extra:
            flags, model_flags = flags | flag, model_flags | OPEN_FLAGS[flag]
        if not access & (OpenFlag.WRITE | OpenFlag.APPEND) and flags & OpenFlag.TRUNCATE:
            return -1  # unspecified by POSIX; we refuse it
        here = outcome(lambda: self.fs.open(f"/data/x/y/{path}", flags, 0o640))
        there = outcome(lambda: os.open(f"{self.model}/x/y/{path}", model_flags, 0o640))
        if isinstance(there, tuple):
            assert here == there
            return -1
        assert isinstance(here, int), here
        assert isinstance(there, int)
        self.open[here] = there
        return here

    @rule(handle=consumes(handles))
    def close_file(self, handle: int) -> None:
        if handle in self.open:
            self.fs.close_handle(handle)
            os.close(self.open.pop(handle))

    @rule(handle=handles, size=offsets)
    def read(self, handle: int, size: int) -> None:
        if handle in self.open:
            model = self.open[handle]
            here = outcome(lambda: self.fs.read(handle, size))
            assert here == outcome(lambda: os.read(model, size))
            self.same_position(handle)

    @rule(handle=handles, size=offsets, offset=offsets)
    def read_at(self, handle: int, size: int, offset: int) -> None:
        if handle in self.open:
            model = self.open[handle]
            here = outcome(lambda: self.fs.read(handle, size, offset))
            assert here == outcome(lambda: os.pread(model, size, offset))

    @rule(handle=handles, content=data)
    def write(self, handle: int, content: bytes) -> None:
        if handle in self.open and self.is_file(handle):
            model = self.open[handle]
            here = outcome(lambda: self.fs.write(handle, content))
            assert here == outcome(lambda: os.write(model, content))
            if isinstance(here, int):
                self.same_position(handle)

    @rule(handle=handles, content=data, offset=offsets)
    def write_at(self, handle: int, content: bytes, offset: int) -> None:
        if handle in self.open and self.is_file(handle):
            model = self.open[handle]
            here = outcome(lambda: self.fs.write(handle, content, offset))
            assert here == outcome(lambda: os.pwrite(model, content, offset))

    @rule(handle=handles, offset=st.integers(-20, 60), whence=st.sampled_from([0, 1, 2]))
    def seek(self, handle: int, offset: int, whence: int) -> None:
        if handle in self.open and self.is_file(handle):
            model = self.open[handle]
            here = outcome(lambda: self.fs.seek(handle, offset, whence))
            assert here == outcome(lambda: os.lseek(model, offset, whence))

    @rule(handle=handles, size=offsets)
    def truncate(self, handle: int, size: int) -> None:
        if handle in self.open and self.is_file(handle) and self.writes(handle):
            self.fs.truncate(handle, size)
            os.ftruncate(self.open[handle], size)

    @rule(handle=handles, data_only=st.booleans())
    def sync(self, handle: int, data_only: bool) -> None:
        if handle in self.open:
            model, wait = self.open[handle], os.fdatasync if data_only else os.fsync
            here = outcome(lambda: self.fs.sync(handle, data_only=data_only))
            assert here == outcome(lambda: wait(model))

    @rule(handle=handles, size=offsets)
    def read_into(self, handle: int, size: int) -> None:
        if handle in self.open:
            ours, model, descriptor = bytearray(size), bytearray(size), self.open[handle]
            here = outcome(lambda: self.fs.read_into(handle, ours))
            assert here == outcome(lambda: os.readv(descriptor, [model]))
            assert ours == model

    @rule(handle=handles)
    def stat_of_handle(self, handle: int) -> None:
        if handle in self.open:
            here, there = self.fs.fstat(handle), os.fstat(self.open[handle])
            assert here.mode == stat.S_IMODE(there.st_mode)
            assert here.nlink == there.st_nlink
            assert here.size == there.st_size or here.kind == "directory"

    @rule(path=paths, mode=st.integers(0o700, 0o777))
    def mkdir(self, path: str, mode: int) -> None:
        self.both(lambda p: self.fs.mkdir(p, mode), lambda p: os.mkdir(p, mode), path)

    @rule(path=paths)
    def rmdir(self, path: str) -> None:
        self.both(self.fs.rmdir, os.rmdir, path)

    @rule(path=paths)
    def unlink(self, path: str) -> None:
        self.both(self.fs.unlink, os.unlink, path)

    @rule(source=names, new=names)
    def rename(self, source: str, new: str) -> None:
        self.both(self.fs.rename, os.rename, source, new)

    @rule(source=names, new=names)
    def link(self, source: str, new: str) -> None:
        model = lambda a, b: os.link(a, b, follow_symlinks=False)  # noqa: E731
        self.both(self.fs.link, model, source, new)

    @rule(leads_to=targets, path=paths)
    def symlink(self, leads_to: str, path: str) -> None:
        self.both(lambda p: self.fs.symlink(leads_to, p), lambda p: os.symlink(leads_to, p), path)

    @rule(path=paths)
    def readlink(self, path: str) -> None:
        here = outcome(lambda: self.fs.readlink(f"/data/x/y/{path}"))
        assert here == outcome(lambda: os.fsencode(os.readlink(f"{self.model}/x/y/{path}")))

    @rule(path=paths, mode=st.integers(0o600, 0o777))
    def chmod(self, path: str, mode: int) -> None:
        # Of a directory, what keeps out an owner who is not root would end the comparison.
        bits = mode | 0o700 if os.path.isdir(f"{self.model}/x/y/{path}") else mode
        self.both(lambda p: self.fs.chmod(p, bits), lambda p: os.chmod(p, bits), path)

    @rule(
        path=paths,
        access=st.integers(-(10**15), 10**18),
        change=st.integers(0, 10**18),
        follow=st.booleans(),
    )
    def utimes(self, path: str, access: int, change: int, follow: bool) -> None:
        self.both(
            lambda p: self.fs.utimes(p, access, change, follow=follow),
            lambda p: os.utime(p, ns=(access, change), follow_symlinks=follow),
            path,
        )

    @rule(path=paths, follow=st.booleans())
    def times(self, path: str, follow: bool) -> None:
        """Those that were set, which alone are the same in both."""
        self.utimes(path, 10**9, 2 * 10**9, follow)
        here = outcome(lambda: self.fs.stat(f"/data/x/y/{path}", follow=follow)[-3:-1])
        there = outcome(lambda: _times(f"{self.model}/x/y/{path}", follow))
        assert here == there

    @rule(path=st.sampled_from([".", "x", "x/y"]))
    def statfs(self, path: str) -> None:
        """What no limit changes; the rest is in test_limits.py."""
        here = outcome(lambda: self.fs.statfs(f"/data/{path}").name_max)
        assert here == os.statvfs(f"{self.model}/{path}").f_namemax

    @rule(path=paths, follow=st.booleans())
    def stat(self, path: str, follow: bool) -> None:
        def ours() -> object:
            status = self.fs.stat(f"/data/x/y/{path}", follow=follow)
            size = 0 if status.kind == "directory" else status.size
            return (status.kind, status.mode, size, status.nlink)

        def model() -> object:
            status = os.stat(f"{self.model}/x/y/{path}", follow_symlinks=follow)
            kind = KINDS[stat.S_IFMT(status.st_mode)]
            size = 0 if kind == "directory" else status.st_size
            return (kind, stat.S_IMODE(status.st_mode), size, status.st_nlink)

        assert outcome(ours) == outcome(model)

    @rule(path=paths)
    def list(self, path: str) -> None:
        here = outcome(lambda: sorted(entry.name for entry in self.fs.scandir(f"/data/x/y/{path}")))
        assert here == outcome(lambda: sorted(os.listdir(f"{self.model}/x/y/{path}")))

    @invariant()
    def both_trees_are_the_same(self) -> None:
        assert tree(self.ours) == tree(self.model)

    @invariant()
    def what_is_charged_is_what_is_there(self) -> None:
        assert self.fs.usage("/data") == self.fs.usage("/data", recount=True)

    def is_file(self, handle: int) -> bool:
        return self.fs.fstat(handle).kind == "file"

    def writes(self, handle: int) -> bool:
        return outcome(lambda: self.fs.write(handle, b"")) == 0

    def same_position(self, handle: int) -> None:
        if self.is_file(handle):
            there = os.lseek(self.open[handle], 0, os.SEEK_CUR)
            assert self.fs.seek(handle, 0, os.SEEK_CUR) == there


TestComparison = pytest.mark.timeout(600)(Comparison.TestCase)
TestComparison.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    # The machine may be busy.
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
