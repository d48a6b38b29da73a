"""Images of real interpreters: what is in them, that they run, and how they are cached."""

import os
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hl_python.interpreter import PROGRAM, SITE_PACKAGES, STDLIB, interpreter
from hl_python.packer import pack, plan


def unpack(image: Path, root: Path) -> Path:
    with zipfile.ZipFile(image) as archive:
        archive.extractall(root)
        for member in archive.infolist():
            (root / member.filename).chmod(member.external_attr >> 16 & 0o777)
    return root


@pytest.fixture(scope="session")
def unpacked(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack(packed, tmp_path_factory.mktemp("root"))


def run_unpacked(root: Path, code: str, *, strip: bool = True) -> str:
    """Run the image's interpreter with the image's own loader and libraries only."""
    (loader,) = root.glob("lib*/ld-linux-*.so.*")
    (libc,) = root.rglob("libc.so.6")
    command: list[str | Path] = [
        loader,
        "--library-path",
        libc.parent,
        root / PROGRAM,
        *("-I", "-B", "-c", code),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env={}, check=False)
    assert done.stderr == ""
    output = str(done.stdout)
    return output.replace(str(root), "") if strip else output


def test_zip_tools_read_an_image(packed: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        assert archive.testzip() is None
    subprocess.run(["unzip", "-tq", packed], check=True, capture_output=True)


def test_the_interpreter_finds_its_library_in_the_image(unpacked: Path) -> None:
    code = "import sys; print(sys.prefix, sys.exec_prefix, *sys.path, sep='\\n')"
    lines = run_unpacked(unpacked, code).splitlines()
    assert lines[:2] == ["/usr", "/usr"]
    assert f"/{STDLIB}" in lines
    assert all(line.startswith("/usr") for line in lines)


def test_modules_with_libraries_of_their_own_work(unpacked: Path) -> None:
    code = (
        "import bz2, ctypes, decimal, hashlib, lzma, sqlite3, ssl, zlib, zoneinfo\n"
        "print(zoneinfo.ZoneInfo('Europe/Berlin'), sqlite3.connect(':memory:').execute("
        "'select 1').fetchone(), hashlib.sha256(b'').hexdigest()[:8])"
    )
    assert run_unpacked(unpacked, code) == "Europe/Berlin (1,) e3b0c442\n"


def test_the_libraries_come_from_the_image(unpacked: Path) -> None:
    code = (
        "import ssl; lines = [line.split() for line in open('/proc/self/maps')]\n"
        "print(*{line[5] for line in lines if '.so' in line[-1]})"
    )
    loaded = run_unpacked(unpacked, code, strip=False).split()
    assert [path for path in loaded if "libssl" in path] != []
    assert [path for path in loaded if not path.startswith(str(unpacked))] == []


def test_bytecode_is_never_checked_and_names_the_file_in_the_image(unpacked: Path) -> None:
    code = (
        "import json, json.decoder, sys; print(json.decoder.__cached__);"
        "print(json.loads.__code__.co_filename, int.from_bytes("
        "open(json.__cached__, 'rb').read()[4:8], 'little'))"
    )
    cached, where = run_unpacked(unpacked, code).splitlines()
    assert cached == f"/{STDLIB}/json/__pycache__/decoder.{sys.implementation.cache_tag}.pyc"
    assert where == f"/{STDLIB}/json/__init__.py 1"


def test_every_module_has_bytecode(packed: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        names = set(archive.namelist())
    tag = sys.implementation.cache_tag
    modules = [Path(name) for name in names if name.startswith(STDLIB) and name.endswith(".py")]
    missing = [
        str(module)
        for module in modules
        if str(module.parent / "__pycache__" / f"{module.stem}.{tag}.pyc") not in names
    ]
    assert len(modules) > 500
    assert [name for name in missing if "lib2to3/" not in name] == []


def test_nothing_in_an_image_names_the_place_of_a_private_interpreter(packed: Path) -> None:
    private = [
        path
        for path in (sys.base_prefix, sys.prefix, str(Path.home()))
        if not Path(path).is_relative_to("/usr") and len(path) > len("/root")
    ]
    with zipfile.ZipFile(packed) as archive:
        for name in archive.namelist():
            content = archive.read(name)
            assert [path for path in private if path.encode() in content] == [], name


def test_an_image_leaves_out_what_a_sandbox_has_no_use_for(packed: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        names = archive.namelist()
    for part in ("/test/", "/tests/", "tkinter", "idlelib", "ensurepip", "sitecustomize", "libX11"):
        assert [name for name in names if part in name] == []


def test_an_image_has_the_packages_and_what_they_require(tmp_path: Path) -> None:
    names = zipfile.ZipFile(pack(plan(["hypothesis"]), directory=tmp_path)).namelist()
    assert f"{SITE_PACKAGES}/hypothesis/__init__.py" in names
    assert f"{SITE_PACKAGES}/sortedcontainers/__init__.py" in names
    assert not [name for name in names if name.startswith(f"{SITE_PACKAGES}/pytest/")]
    assert not [name for name in names if name.endswith("direct_url.json")]


def test_a_package_finds_the_libraries_it_brings(tmp_path: Path) -> None:
    root = unpack(pack(plan(["numpy"]), directory=tmp_path), tmp_path / "root")
    names = [str(path.relative_to(root)) for path in root.rglob("*")]
    blas = [name for name in names if "libscipy_openblas" in name]
    assert len(blas) == 1
    assert blas[0].startswith(f"{SITE_PACKAGES}/numpy.libs/")
    code = (
        f"import sys; sys.path.append(sys.prefix + '/{SITE_PACKAGES}'[4:])\n"
        "import numpy; print(int((numpy.ones((9, 9)) @ numpy.ones((9, 9))).sum()), numpy.__file__)"
    )
    path = f"/{SITE_PACKAGES}/numpy/__init__.py"
    assert run_unpacked(root, code) == f"729 {path}\n"


def test_an_image_is_packed_once(tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    first = pack(plan([]), directory=tmp_path, progress=lambda *step: steps.append(step))
    assert steps[-1][1] == steps[-1][2] == len(steps)
    written = first.stat().st_mtime_ns
    again = pack(plan([]), directory=tmp_path, progress=lambda *_: pytest.fail("packed again"))
    assert (again, again.stat().st_mtime_ns) == (first, written)


def test_the_key_follows_the_content() -> None:
    base, other = plan([]), plan(["hypothesis"])
    assert plan([]).key == base.key
    assert other.key != base.key


def test_two_processes_that_pack_at_once_get_one_image(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; sys.path[:] = sys.argv[2:]\n"
        "from hl_python.packer import pack, plan\n"
        "print(pack(plan([]), directory=pathlib.Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", code, str(tmp_path), *filter(None, sys.path)]
    with ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(subprocess.run, command, capture_output=True) for _ in range(3)]
    images = {run.result().stdout for run in runs}
    assert len(images) == 1
    assert {path.suffix for path in tmp_path.iterdir()} == {".zip", ""}
    assert zipfile.ZipFile(images.pop().decode().strip()).testzip() is None


def test_a_virtual_environment_stands_for_the_interpreter_it_was_made_from() -> None:
    assert interpreter() == Path(os.path.realpath(interpreter()))
    assert interpreter().is_relative_to(os.path.realpath(sys.base_prefix))
