"""Attacks the archive reader and compares the in-memory file system with the host's, sanitized."""

from __future__ import annotations

import contextlib
import os
import stat
import struct
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

HERE = Path(__file__).parent
SOURCES = ["archive", "descriptor", "file", "image", "mount", "tmpfs", "tmpfs_file", "vfs"]
SOURCES += [
    f"sys_{family}" for family in ("attribute", "descriptor", "dir", "file", "open", "path", "stat")
]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
#: The host's examples of one test share its compiled program.
SETTINGS = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
STAT = struct.Struct("<QQQIIIIQqqq")


class Native:
    """One process of native.c."""

    def __init__(self, program: Path) -> None:
        self._process = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self._process.stdin
        assert self._process.stdout
        self._to, self._from = self._process.stdin, self._process.stdout

    def close(self) -> None:
        """End it; a sanitizer's complaint, leaks included, fails the test."""
        _, complaint = self._process.communicate()
        assert (self._process.returncode, complaint.decode()) == (0, "")

    def kill(self) -> None:
        """End it, whatever it was doing."""
        self._process.kill()
        self._process.communicate()

    def image(self, archive: bytes) -> tuple[list[str], int]:
        """The lines about an archive, and the exit status."""
        self._to.write(b"image %d\n" % len(archive) + archive)
        self._to.flush()
        lines = []
        while not (line := self._from.readline().decode(errors="replace")).startswith("end "):
            assert line, "the program died"
            lines.append(line.rstrip("\n"))
        return [line for line in lines if line], int(line.split()[1])

    def call(self, name: str, *arguments: object) -> tuple[int, bytes]:
        """A system call: its result, and the bytes it gave."""
        self._to.write(" ".join([name, *map(str, arguments)]).encode() + b"\n")
        self._to.flush()
        line = self._from.readline().split()
        assert line, "the program died"
        return int(line[0]), bytes.fromhex(line[1].decode()) if line[1:] else b""


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """native.c, with what it tests."""
    target = tmp_path_factory.mktemp("native") / "native"
    include = ["-I.", "-Itests/host", "-I../sdk", "-I../../vmm_c/include"]
    options = ["-g", "-O1", "-std=gnu11", "-ffreestanding", "-fno-strict-aliasing", *SANITIZERS]
    sources = ["tests/host/native.c", *(f"{name}.c" for name in SOURCES)]
    subprocess.run(
        ["gcc", "-Wall", "-Wextra", "-Werror", *options, *include, "-o", str(target), *sources],
        check=True,
        cwd=HERE.parent,
    )
    return target


@pytest.fixture(scope="session")
def native(program: Path) -> Iterator[Native]:
    """A process for all archives, each of which it reads in a child."""
    with started(program) as native:
        yield native


@contextlib.contextmanager
def started(program: Path) -> Iterator[Native]:
    """A process that is checked at its end."""
    native = Native(program)
    try:
        yield native
    except BaseException:
        native.kill()
        raise
    native.close()


# ---- archives ------------------------------------------------------------------------------------


def checksum(data: bytes) -> int:
    """What native.c calls sum_of."""
    total = 0
    for byte in data:
        total = (total * 31 + byte) % 2**32
    return total


def archive(members: dict[str, bytes], *, method: int = zipfile.ZIP_STORED) -> bytes:
    """A ZIP archive; a name with a slash at its end is a directory, one that begins `->` a link."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as writer:
        for name, data in members.items():
            info = zipfile.ZipInfo(name.removeprefix("->"))
            info.create_system = 3
            kind = stat.S_IFDIR if name.endswith("/") else stat.S_IFREG
            info.external_attr = (stat.S_IFLNK if name.startswith("->") else kind | 0o640) << 16
            writer.writestr(info, data, method)
    return buffer.getvalue()


part = st.text("abcä.-", min_size=1, max_size=4).filter(lambda text: text not in {".", ".."})
names = st.lists(part, min_size=1, max_size=3).map("/".join)
trees = st.dictionaries(names, st.binary(max_size=64), max_size=8).filter(
    lambda tree: not any(f"{a}/" in f"{b}/"[: len(a) + 1] for a in tree for b in tree if a != b)
)


@SETTINGS
@given(trees)
def test_an_archive_becomes_its_tree(native: Native, tree: dict[str, bytes]) -> None:
    lines, status = native.image(archive(tree))
    files = {line.split()[0]: line.split()[1:] for line in lines[1:] if len(line.split()) == 4}
    assert (lines[0], status) == ("good", 0)
    assert files == {
        f"/{name}": ["100640", str(len(data)), str(checksum(data))] for name, data in tree.items()
    }


GOOD = archive({"a/b": b"hello", "c/": b"", "->d": b"a/b", "long" * 20: b"x" * 300})


@settings(SETTINGS, max_examples=400)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=6))
@example([(GOOD.rindex(b"PK\x01\x02") + 42, 0xFF)])
def test_a_damaged_archive_is_read_or_refused(
    native: Native, damage: list[tuple[int, int]]
) -> None:
    """127 is for a local header, which is looked at only when the member is."""
    damaged = bytearray(GOOD)
    for place, byte in damage:
        damaged[place] = byte
    lines, status = native.image(bytes(damaged))
    assert lines[0] == "good" or lines[0].startswith("bad ")
    assert status == 0 or (status == 127 and "broken image: " in lines[-1])


@pytest.mark.parametrize("size", [0, 1, 21, 22, len(GOOD) // 2, len(GOOD) - 1])
def test_an_archive_cut_short_is_refused(native: Native, size: int) -> None:
    lines, status = native.image(GOOD[:size])
    assert status == 0
    assert lines[0].startswith("bad ")


def patched(content: bytes, mark: bytes, offset: int, value: bytes) -> bytes:
    """The archive with something else behind the last such mark."""
    place = content.rindex(mark) + offset
    return content[:place] + value + content[place + len(value) :]


CENTRAL, END = b"PK\x01\x02", b"PK\x05\x06"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (archive({"a": b"x" * 99}, method=zipfile.ZIP_DEFLATED), "compressed or encrypted"),
        (archive({"../a": b""}), "an impossible name"),
        (archive({"/a": b""}), "an impossible name"),
        (archive({"a//b": b""}), "an impossible name"),
        (archive({"a/./b": b""}), "an impossible name"),
        (archive({"n" * 256: b""}), "an impossible name"),
        (patched(archive({"ab": b""}), b"ab", 0, b"a\0"), "an impossible name"),
        (archive({"a": b"", "a/b": b""}), "two members with one name"),
        (archive({"a/b": b"", "a": b""}), "two members with one name"),
        (archive({"->a": b""}), "a symbolic link of impossible length"),
        (archive({"->a": b"x" * 4096}), "a symbolic link of impossible length"),
        (patched(archive({"a/": b""}), CENTRAL, 40, b"\xa4\x81"), "name and mode disagree"),
        (patched(archive({"a": b""}), CENTRAL, 40, b"\xa4\x61"), "neither file, directory nor"),
        (patched(archive({"a": b"x"}), CENTRAL, 42, b"\xff\xff\xff\x7f"), "lies outside"),
        (patched(archive({"a": b"x"}), CENTRAL, 20, b"\xff\xff\xff\x7f" * 2), "lies outside"),
        (patched(archive({"a": b"x"}), CENTRAL, 20, b"\x02"), "two sizes"),
        (patched(archive({"a": b"x"}), CENTRAL, 8, b"\x01"), "compressed or encrypted"),
        (patched(archive({"a": b"x"}), END, 8, b"\x02\0\x02\0"), "more members than"),
        (patched(archive({"a": b"x"}), END, 8, b"\x01\0\x02\0"), "more than one volume"),
        (patched(archive({"a": b"x"}), END, 8, b"\xff\xff\xff\xff"), "no ZIP64 locator"),
        (patched(archive({"a": b"x"}), END, 16, b"\xff\xff\xff\x7f"), "directory lies outside"),
        (patched(archive({"a": b"x"}), CENTRAL, 0, b"PK"), None),
    ],
)
def test_what_an_image_cannot_have_is_named(
    native: Native, content: bytes, why: str | None
) -> None:
    lines, _ = native.image(content)
    assert lines[0] == "good" if why is None else (lines[0].startswith("bad ") and why in lines[0])


def test_large_archives_have_zip64_records(native: Native) -> None:
    """More members than 16 bits can count."""
    members = {f"directory/{number}": b"" for number in range(70_000)}
    lines, status = native.image(archive(members))
    assert (lines[0], len(lines), status) == ("good", len(members) + 3, 0)


# ---- the file system in memory, beside the host's ------------------------------------------------


class Step(NamedTuple):
    """A system call with its arguments; an `int` first is the number of an open file."""

    name: str
    arguments: tuple[str | int, ...]


OPEN_FLAGS = [os.O_CREAT, os.O_EXCL, os.O_TRUNC, os.O_APPEND, os.O_DIRECTORY, os.O_NOFOLLOW]
paths = st.lists(st.sampled_from(["a", "b", "c", ".", ".."]), min_size=1, max_size=4).flatmap(
    lambda parts: st.sampled_from(["/".join(parts), "/".join(parts) + "/"])
)
files = st.integers(0, 3)
sizes = st.sampled_from([0, 1, 5, 511, 512, 4096, 65535, 65536, 65537, 140_000])
flags = st.builds(
    lambda access, more: access | sum(set(more)),
    st.sampled_from([os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR | os.O_CREAT]),
    st.lists(st.sampled_from(OPEN_FLAGS), max_size=2),
)


def step(
    name: str, *arguments: st.SearchStrategy[str] | st.SearchStrategy[int]
) -> st.SearchStrategy[Step]:
    """Calls of that name."""
    return st.tuples(*arguments).map(lambda values: Step(name, values))


steps = st.one_of(
    step("mkdir", paths, st.sampled_from([0o700, 0o755])),
    step("rmdir", paths),
    step("unlink", paths),
    step("rename", paths, paths),
    step("link", paths, paths),
    step("symlink", paths, paths),
    step("readlink", paths),
    step("stat", paths),
    step("lstat", paths),
    step("truncate", paths, sizes),
    step("open", paths, flags),
    step("close", files),
    step("write", files, st.text("xyz", min_size=1, max_size=9)),
    step("pwrite64", files, st.text("xyz", min_size=1, max_size=9), sizes),
    step("read", files, sizes),
    step("pread64", files, sizes, sizes),
    step("ftruncate", files, sizes),
    step("lseek", files, sizes, st.sampled_from([os.SEEK_SET, os.SEEK_CUR, os.SEEK_END])),
    step("fstat", files),
)
Answer = tuple[int, object]
#: So deep that no path above climbs out.
HOME = "/".join("klmnopqrst")


def seen(mode: int, links: int, size: int) -> object:
    """What of a stat must be the same: how directories are counted is up to a file system."""
    kind = stat.S_IFMT(mode)
    return (mode, links, size) if kind == stat.S_IFREG else (kind, size * stat.S_ISLNK(mode))


class Host:
    """The calls, made on the host below its own directory."""

    def __init__(self, home: str) -> None:
        self._home = os.open(home, os.O_PATH)
        self._files: list[int] = []

    def close(self) -> None:
        """Close everything."""
        for file in [*self._files, self._home]:
            with contextlib.suppress(OSError):
                os.close(file)

    def do(self, step: Step) -> Answer:
        """The result, or the errno, negative."""
        try:
            method = "close_file" if step.name == "close" else step.name
            result = getattr(self, method)(*step.arguments)
        except OSError as error:
            return -(error.errno or 0), None
        return (0, result) if not isinstance(result, int) else (result, None)

    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(path, mode, dir_fd=self._home)

    def rmdir(self, path: str) -> None:
        os.rmdir(path, dir_fd=self._home)

    def unlink(self, path: str) -> None:
        os.unlink(path, dir_fd=self._home)

    def rename(self, source: str, target: str) -> None:
        os.rename(source, target, src_dir_fd=self._home, dst_dir_fd=self._home)

    def link(self, source: str, target: str) -> None:
        os.link(
            source,
            target,
            src_dir_fd=self._home,
            dst_dir_fd=self._home,
            follow_symlinks=False,
        )

    def symlink(self, target: str, path: str) -> None:
        os.symlink(target, path, dir_fd=self._home)

    def file(self, number: int) -> int:
        """The descriptor of an open file."""
        return self._files[number] if number < len(self._files) else -1

    def open(self, path: str, flags: int) -> int:
        self._files.append(os.open(path, flags, 0o644, dir_fd=self._home))
        return len(self._files) - 1

    def close_file(self, number: int) -> int:
        os.close(self.file(number))
        self._files[number] = -1
        return 0

    def readlink(self, path: str) -> object:
        return os.readlink(path, dir_fd=self._home)

    def stat(self, path: str, *, follow: bool = True) -> object:
        found = os.stat(path, dir_fd=self._home, follow_symlinks=follow)
        return seen(found.st_mode, found.st_nlink, found.st_size)

    def lstat(self, path: str) -> object:
        return self.stat(path, follow=False)

    def fstat(self, number: int) -> object:
        found = os.fstat(self.file(number))
        return seen(found.st_mode, found.st_nlink, found.st_size)

    def truncate(self, path: str, size: int) -> int:
        # By way of the link that leads there: os.truncate takes no directory.
        os.truncate(f"/proc/self/fd/{self._home}/{path}", size)
        return 0

    def ftruncate(self, number: int, size: int) -> int:
        os.ftruncate(self.file(number), size)
        return 0

    def write(self, number: int, text: str) -> int:
        return os.write(self.file(number), text.encode())

    def pwrite64(self, number: int, text: str, offset: int) -> int:
        return os.pwrite(self.file(number), text.encode(), offset)

    def read(self, number: int, size: int) -> object:
        return os.read(self.file(number), min(size, 60_000))

    def pread64(self, number: int, size: int, offset: int) -> object:
        return os.pread(self.file(number), min(size, 60_000), offset)

    def lseek(self, number: int, offset: int, whence: int) -> int:
        return os.lseek(self.file(number), offset, whence)


class Guest:
    """The same calls in native.c."""

    def __init__(self, native: Native) -> None:
        self._native = native
        self._files: list[int] = []
        for depth in range(1, len(HOME) + 1, 2):
            native.call("mkdir", HOME[:depth], 0o755)
        native.call("chdir", HOME)

    def do(self, step: Step) -> Answer:
        """As Host.do."""
        name, arguments = step
        if isinstance(arguments[0], int):
            number = arguments[0]
            known = number < len(self._files)
            arguments = (self._files[number] if known else -1, *arguments[1:])
        result, data = self._native.call(name, *self._arguments(name, arguments))
        if result < 0:
            return result, None
        return self._answer(step, result, data)

    def _arguments(self, name: str, given: tuple[str | int, ...]) -> tuple[str | int, ...]:
        match name:
            case "open":
                return (*given, 0o644)
            case "stat" | "lstat" | "fstat":
                return (*given, "@")
            case "readlink":
                return (*given, "@", 4096)
            case "write" | "pwrite64":
                return (*given[:2], len(str(given[1])), *given[2:])
            case "read" | "pread64":
                return (given[0], "@", min(int(given[1]), 60_000), *given[2:])
        return given

    def _answer(self, step: Step, result: int, data: bytes) -> Answer:
        match step.name:
            case "open":
                self._files.append(result)
                return len(self._files) - 1, None
            case "close":
                self._files[int(step.arguments[0])] = -1
            case "stat" | "lstat" | "fstat":
                _, _, links, mode, _, _, _, _, size, _, _ = STAT.unpack_from(data)
                return 0, seen(mode, links, size)
            case "readlink":
                return 0, data.decode()
            case "read" | "pread64":
                return 0, data
        return result, None


@settings(SETTINGS, max_examples=300)
@given(st.lists(steps, max_size=40))
def test_the_file_system_in_memory_does_what_the_host_does(
    program: Path, calls: list[Step]
) -> None:
    with started(program) as native, tempfile.TemporaryDirectory() as folder:
        home = Path(folder, HOME)
        home.mkdir(parents=True)
        host, guest = Host(str(home)), Guest(native)
        try:
            for number, call in enumerate(calls):
                assert (number, guest.do(call)) == (number, host.do(call)), calls[: number + 1]
        finally:
            host.close()
