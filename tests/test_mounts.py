"""Mounts as a program in the library OS sees them: ordinary paths, compared with the host's own."""

from __future__ import annotations

import contextlib
import io
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.kvm

MakeSandbox = Callable[..., Any]


def mount(guest: str, host: Path, mode: str = "rw") -> dict[str, object]:
    return {"guest": guest, "host": str(host), "mode": mode}


@pytest.fixture
def run(sandbox: MakeSandbox) -> Callable[..., str]:
    """Runs code in a guest with mounts, and gives what it printed."""

    def run(code: str, *mounts: dict[str, object]) -> str:
        guest = sandbox("python", plugins={"fs": {"mounts": list(mounts)}}, memory="256MiB")
        result = guest.run(code)
        assert (result.exit_code, result.stderr) == (0, "")
        return str(result.stdout)

    return run


PRELUDE = """
import os
from pathlib import Path
def tried(call, *arguments):
    try: print(call.__name__, call(*arguments))
    except OSError as error: print(call.__name__, error.errno)
"""
#: What is tried in the mount and, in a folder of the host, beside it; prints what it saw.
BOTH = {
    "files are read and written": """
with open("a", "w") as file: file.write("x" * 200_000)
with open("a", "a") as file: print(file.write("end"), file.tell())
with open("a", "r+b") as file: print(file.seek(-5, 2), file.read(), file.seek(3), file.write(b"-"))
print(os.path.getsize("a"), Path("a").read_text()[:5])
os.truncate("a", 2), print(Path("a").read_text())
with open("a", "ab") as file: os.ftruncate(file.fileno(), 1), file.write(b"!")
print(Path("a").read_bytes())
""",
    "more than one frame is moved at once": """
data = bytes(range(256)) * 20_000
with open("large", "wb", buffering=0) as file: print(file.write(data))
with open("large", "rb", buffering=0) as file: print(file.readinto(bytearray(6_000_000)))
print(Path("large").read_bytes() == data)
""",
    "what was read ahead gives way to what is written": """
data = bytes(range(256)) * 4000
Path("s").write_bytes(data)
reader, writer = os.open("s", os.O_RDONLY), os.open("s", os.O_WRONLY)
def parts(count): return b"".join(os.read(reader, 1000) for _ in range(count))
print(parts(8) == data[:8000], os.pread(reader, 5, 100), os.pread(reader, 5, 500_000))
parts(4), os.pwrite(writer, b"new", 12_000), print(os.read(reader, 5))
parts(8), os.lseek(reader, 0, 0), parts(8), os.ftruncate(writer, 9000)
print(len(os.read(reader, 5000)), os.read(reader, 1), os.read(reader, 1))
os.pwrite(writer, b"more", 9000), print(os.read(reader, 10))
both = os.open("s", os.O_RDWR | os.O_APPEND)
print(os.read(both, 1000) == os.read(both, 1000), os.write(both, b"end"), os.read(both, 1))
os.lseek(both, -4, 2), print(os.read(both, 100)), os.replace("s", "t"), Path("s").write_text("x")
print(os.pread(both, 3, 0), Path("s").read_text())
for file in reader, writer, both: os.close(file)
""",
    "appends keep their own positions": """
one, two = (os.open("log", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644) for _ in "12")
os.write(one, b"one"), os.write(two, b"second"), print(os.lseek(one, 0, 1), os.lseek(two, 0, 1))
print(os.pwrite(one, b"!", 0), os.lseek(one, 0, 1), os.read(one, 100), os.lseek(one, 0, 1))
os.close(one), os.close(two)
""",
    "errors have their numbers": """
os.mkdir("d"), Path("f").touch()
tried(Path.read_text, Path("nothing")), tried(Path.write_text, Path("d"), "x")
tried(Path.read_text, Path("f/x")), tried(os.open, "f/", 0)
tried(Path.touch, Path("f"), 0o600, False)
tried(os.mkdir, "d"), tried(os.rmdir, "f"), tried(os.unlink, "nothing"), tried(os.listdir, "f")
tried(os.rename, "nothing", "x"), tried(os.readlink, "f"), tried(os.chdir, "f")
Path("d/y").touch(), tried(os.rmdir, "d"), tried(os.stat, "nothing"), tried(os.stat, "f/")
""",
    "directories are listed": """
os.mkdir("d")
for number in range(3000): Path(f"d/{number:04}").touch()
print(len(os.listdir("d")), sorted(os.listdir("d"))[1234])
print(sorted((e.name, e.is_file(), e.is_dir(), e.is_symlink()) for e in os.scandir("."))[0])
os.symlink("d", "e"), print([e.is_symlink() for e in os.scandir(".") if e.name == "e"])
for entry in os.scandir("d"): os.unlink(entry.path)
print(os.listdir("d"), os.rmdir("d"))
""",
    "names move": """
Path("one").write_text("1"), os.rename("one", "two"), print(os.listdir("."))
os.link("two", "three"), print(os.stat("two").st_nlink, os.path.samefile("two", "three"))
os.symlink("two", "four"), print(os.readlink("four"), Path("four").read_text())
os.replace("three", "two"), os.unlink("four"), print(sorted(os.listdir(".")))
""",
    "attributes are kept": """
Path("f").write_text("x" * 5000)
os.chmod("f", 0o640), os.utime("f", ns=(10**18 + 5, 10**18 + 7))
found = os.stat("f")
print(oct(found.st_mode), found.st_size, found.st_atime_ns, found.st_mtime_ns, found.st_nlink)
os.symlink("f", "l"), os.utime("l", ns=(1, 2), follow_symlinks=False)
print(os.lstat("l").st_mtime_ns, os.stat("l").st_mtime_ns, os.path.getsize("f"))
""",
    "directories are entered": """
home = os.getcwd()
os.makedirs("a/b"), os.chdir("a/b"), print(os.path.relpath(os.getcwd(), home))
for _ in range(200): os.chdir(".."), os.chdir("b")
os.chdir(".."), print(os.path.relpath(os.getcwd(), home), os.listdir("."))
at = os.open("b", os.O_RDONLY | os.O_DIRECTORY)
os.mkdir("c", dir_fd=at), print(os.listdir(at), os.stat("c", dir_fd=at).st_nlink)
os.rename("c", "d", src_dir_fd=at, dst_dir_fd=at), print(os.listdir("b")), os.close(at)
os.chdir(home)
""",
    "names need not be text": r"""
name = os.fsdecode(b"not \xff utf-8 \xc3\xa4")
Path(name).write_text("x"), os.symlink(name, "l")
print(os.fsencode(name) in os.listdir(b"."), os.fsencode(os.readlink("l")), Path("l").read_text())
""",
    "the library's own tools work": """
import contextlib, shutil, tempfile, zipfile, sqlite3, mmap
os.makedirs("t/u"), Path("t/u/f").write_text("x"), shutil.copytree("t", "v")
shutil.copy2("t/u/f", "v/g"), print(sorted(map(str, Path("v").rglob("*"))))
shutil.make_archive("z", "zip", "v")
with zipfile.ZipFile("z.zip") as archive: print(sorted(archive.namelist()))
with tempfile.NamedTemporaryFile(dir=".") as file: print(file.write(b"abc"))
with contextlib.closing(sqlite3.connect("db")) as base, base:
    base.execute("create table t(x)"), base.execute("insert into t values(7)")
with contextlib.closing(sqlite3.connect("db")) as base: print(list(base.execute("select * from t")))
with open("t/u/f", "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as bytes:
    print(bytes[:])
shutil.rmtree("t"), shutil.rmtree("v"), print(sorted(os.listdir(".")))
""",
}


@pytest.mark.parametrize("code", BOTH.values(), ids=list(BOTH))
def test_a_mount_is_like_a_folder_of_the_host(
    run: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    mounted, beside = tmp_path / "mounted", tmp_path / "beside"
    mounted.mkdir()
    beside.mkdir()
    monkeypatch.chdir(beside)
    with contextlib.redirect_stdout(io.StringIO()) as expected:
        exec(PRELUDE + code, {})  # noqa: S102 - the code above
    granted = {"permissions": ["read", "write", "list", "create", "remove", "rename", "chmod"]}
    seen = run(f"{PRELUDE}os.chdir('/data')\n{code}", {**mount("/data", mounted), **granted})
    assert seen == expected.getvalue()


def test_mount_points_are_listed_where_the_image_has_none(
    run: Callable[..., str], tmp_path: Path
) -> None:
    code = "import os; print('data' in os.listdir('/'), os.listdir('/a'), os.listdir('/a/b'))"
    mounts = mount("/data", tmp_path), mount("/a/b/c", tmp_path, "ro")
    assert run(code, *mounts) == "True ['b'] ['c']\n"


def test_dots_climb_out_of_a_mount_into_the_image(run: Callable[..., str], tmp_path: Path) -> None:
    """As on Linux, and not to the host's parent."""
    (tmp_path / "mounted").mkdir()
    (tmp_path / "secret").write_text("host")
    code = """
import os
print(os.path.samefile("/data/..", "/"), os.path.exists("/data/../secret"))
print(os.path.samefile("/data/../usr/bin", "/usr/bin"), os.path.samefile("/data/x/../..", "/"))
"""
    (tmp_path / "mounted/x").mkdir()
    assert run(code, mount("/data", tmp_path / "mounted")) == "True False\nTrue True\n"


def test_links_do_not_lead_out_of_a_mount(run: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "mounted").mkdir()
    (tmp_path / "secret").write_text("host")
    (tmp_path / "mounted/up").symlink_to("../secret")
    (tmp_path / "mounted/far").symlink_to(tmp_path / "secret")
    code = """
for name in "up", "far":
    try: print(open(f"/data/{name}").read())
    except OSError as error: print("refused")
"""
    assert run(code, mount("/data", tmp_path / "mounted")) == "refused\nrefused\n"


def test_a_read_only_mount_says_so(run: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    code = """
import errno, os
def tried(call, *arguments):
    try: call(*arguments)
    except OSError as error: print(errno.errorcode[error.errno], end=" ")
    else: print("done", end=" ")
tried(open, "/data/f"), tried(open, "/data/f", "w"), tried(open, "/data/g", "w")
tried(os.mkdir, "/data/d"), tried(os.unlink, "/data/f"), tried(os.rename, "/data/f", "/data/g")
tried(os.truncate, "/data/f", 0), tried(os.chmod, "/data/f", 0), tried(os.utime, "/data/f")
print(os.access("/data/f", os.R_OK), os.access("/data/f", os.W_OK))
"""
    expected = "done " + "EROFS " * 8 + "True False\n"
    assert run(code, mount("/data", tmp_path, "ro")) == expected


def test_a_mount_point_cannot_be_removed_or_renamed(
    run: Callable[..., str], tmp_path: Path
) -> None:
    code = """
import errno, os
def tried(call, *arguments):
    try: call(*arguments)
    except OSError as error: print(errno.errorcode[error.errno], end=" ")
tried(os.rmdir, "/data"), tried(os.rename, "/data", "/tmp/x"), tried(os.mkdir, "/data")
tried(os.rename, "/tmp", "/data/x"), tried(os.rename, "/data/f", "/tmp/f")
"""
    (tmp_path / "f").write_text("x")
    assert run(code, mount("/data", tmp_path)) == "EBUSY EBUSY EEXIST EBUSY EXDEV "


def test_a_mount_may_lie_in_a_mount(run: Callable[..., str], tmp_path: Path) -> None:
    """The inner one covers what the outer one has of that name."""
    for folder in ("outer/in", "inner"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "outer/in/hidden").write_text("")
    (tmp_path / "inner/shown").write_text("")
    code = """
import os
print(os.listdir("/out"), os.listdir("/out/in"), os.listdir("/out/in/.."))
os.chdir("/out/in"), os.chdir(".."), print(os.getcwd())
"""
    mounts = mount("/out", tmp_path / "outer"), mount("/out/in", tmp_path / "inner")
    assert run(code, *mounts) == "['in'] ['shown'] ['in']\n/out\n"


def test_everything_else_is_read_only_but_for_the_memory(run: Callable[..., str]) -> None:
    code = """
import errno, os
for place in "/", "/usr/lib", "/tmp", "/dev/shm", "/proc", "/sys", "/dev":
    try: open(f"{place}/new", "w").close()
    except OSError as error: print(place, errno.errorcode[error.errno])
    else: print(place, os.path.exists(f"{place}/new"))
"""
    lines = run(code).splitlines()
    assert lines[:4] == ["/ EROFS", "/usr/lib EROFS", "/tmp True", "/dev/shm True"]
    assert not any(line.endswith("True") for line in lines[4:])


def test_small_reads_in_a_row_are_few_host_calls(sandbox: MakeSandbox, tmp_path: Path) -> None:
    """A dozen or so; more on a machine so busy that what was read ahead grows old."""
    (tmp_path / "large").write_bytes(bytes(8 << 20))
    code = """
with open("/data/large", "rb", buffering=0) as file:
    print(sum(1 for _ in iter(lambda: file.read(4096), b"")))
"""
    files = {"mounts": [mount("/data", tmp_path)]}
    guest = sandbox("python", plugins={"fs": files}, memory="256MiB", host_calls=200)
    assert guest.run(code).stdout == "2048\n"


def test_what_a_host_call_changes_is_read_at_once(sandbox: MakeSandbox, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"a" * 100_000)
    code = """
import hyperlight, os
file = os.open("/data/file", os.O_RDONLY)
for _ in range(10): os.read(file, 100)
hyperlight.tools.change()
print(os.read(file, 3), os.pread(file, 3, 500))
"""

    def change() -> None:
        (tmp_path / "file").write_bytes(b"b" * 100_000)

    plugins = {
        "fs": {"mounts": [mount("/data", tmp_path)]},
        "tools": {"functions": {"change": change}},
    }
    guest = sandbox("python", plugins=plugins, memory="256MiB")
    assert guest.run(code).stdout == "b'bbb' b'bbb'\n"


def test_what_the_host_writes_meanwhile_is_read_soon(sandbox: MakeSandbox, tmp_path: Path) -> None:
    """The guest does nothing but look at bytes it has read ahead."""
    (tmp_path / "file").write_bytes(b"a" * 1000)
    code = """
import os
file = os.open("/data/file", os.O_RDONLY)
os.close(os.open("/data/ready", os.O_CREAT | os.O_WRONLY))
while os.pread(file, 1, 900) == b"a": pass
"""

    def write() -> None:
        while not (tmp_path / "ready").exists():
            pass
        with (tmp_path / "file").open("r+b") as file:
            file.write(b"b" * 1000)

    guest = sandbox("python", plugins={"fs": {"mounts": [mount("/data", tmp_path)]}}, timeout=60)
    writer = threading.Thread(target=write)
    writer.start()
    assert guest.run(code).exit_code == 0
    writer.join()


def test_the_umask_of_a_guest_and_that_of_the_host_both_hold(
    run: Callable[..., str], tmp_path: Path
) -> None:
    code = """
import os
for mask in 0o000, 0o077:
    os.umask(mask), os.close(os.open(f"/data/f{mask}", os.O_CREAT | os.O_WRONLY, 0o777))
    os.mkdir(f"/data/d{mask}")
"""
    before = os.umask(0o022)
    try:
        run(code, mount("/data", tmp_path))
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"f0": 0o755, "d0": 0o755, "f63": 0o700, "d63": 0o700}
