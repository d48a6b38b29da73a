"""Finding shared libraries: real ELF files, made by the C compiler or damaged by the test."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperlight_core import libraries
from hyperlight_core.errors import GuestImageError
from hyperlight_core.libraries import DynamicSection, find_libraries, read_dynamic


def compiled(path: Path, *options: str, source: str = "int main(void) { return 0; }") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    command = ["gcc", "-x", "c", "-", "-x", "none", "-o", str(path), *options]
    subprocess.run(command, input=source.encode(), check=True)
    return path


def library(path: Path, *options: str) -> Path:
    return compiled(path, "-shared", "-fPIC", *options, source="int f(void) { return 1; }")


def needs(folder: Path, name: str, tag: str = "--enable-new-dtags") -> tuple[str, ...]:
    """Linker options for a file that needs `name` of `folder` and is told nothing else."""
    return (f"-L{folder}", "-Wl,--no-as-needed", f"-l:{name}", f"-Wl,{tag}")


def resolved(program: Path, *roots: Path) -> tuple[dict[str, Path], list[str]]:
    result = find_libraries([program], roots=roots)
    return result.found, list(result.missing)


def test_a_program_names_its_loader_and_libraries(tmp_path: Path) -> None:
    program = compiled(tmp_path / "p", "-Wl,-rpath,/a:/b", "-Wl,--enable-new-dtags")
    dynamic = read_dynamic(program)
    assert dynamic.interpreter == "/lib64/ld-linux-x86-64.so.2"
    assert dynamic.needed == ("libc.so.6",)
    assert (dynamic.rpath, dynamic.runpath) == ((), ("/a", "/b"))


def test_a_static_program_needs_nothing(tmp_path: Path) -> None:
    program = compiled(tmp_path / "p", "-static")
    assert read_dynamic(program) == DynamicSection()
    assert resolved(program, tmp_path) == ({}, [])


def test_system_libraries_and_their_own_are_found(tmp_path: Path) -> None:
    program = compiled(tmp_path / "p", "-Wl,--no-as-needed", "-lstdc++")
    found, missing = resolved(program)
    assert {"libc.so.6", "libm.so.6", "libgcc_s.so.1", "libstdc++.so.6"} <= set(found)
    assert missing == []
    assert "ld-linux-x86-64.so.2" not in found


@pytest.mark.parametrize("tag", ["--enable-new-dtags", "--disable-new-dtags"])
def test_origin_is_the_folder_of_the_file_that_names_it(tmp_path: Path, tag: str) -> None:
    lib = library(tmp_path / "lib" / "libone.so")
    origin = "-Wl,-rpath,$ORIGIN/../lib"
    program = compiled(tmp_path / "bin" / "p", *needs(lib.parent, lib.name, tag), origin)
    found, missing = resolved(program, tmp_path)
    assert missing == []
    assert found["libone.so"].resolve() == lib


def test_rpath_holds_for_libraries_of_libraries_but_runpath_does_not(tmp_path: Path) -> None:
    inner = library(tmp_path / "libinner.so")
    outer = library(tmp_path / "libouter.so", *needs(tmp_path, inner.name))
    for tag, expected in (("--disable-new-dtags", []), ("--enable-new-dtags", ["libinner.so"])):
        options = needs(tmp_path, outer.name, tag)
        program = compiled(tmp_path / "p", *options, "-Wl,-rpath,$ORIGIN", "-Wl,-rpath-link,.")
        assert resolved(program, tmp_path)[1] == expected, tag


def test_search_paths_outside_the_roots_are_not_followed(tmp_path: Path) -> None:
    """A hostile program must not have files of the host packed beside it."""
    secret = library(tmp_path / "secret" / "libsecret.so")
    paths = f"-Wl,-rpath,{secret.parent}:$ORIGIN/../secret:$ORIGIN/link"
    program = compiled(tmp_path / "bin" / "p", *needs(secret.parent, secret.name), paths)
    (program.parent / "link").symlink_to(secret.parent)
    found, missing = resolved(program, program.parent)
    assert (missing, "libsecret.so" in found) == (["libsecret.so"], False)
    assert resolved(program, tmp_path)[1] == []


def test_a_library_named_by_its_path_is_not_followed(tmp_path: Path) -> None:
    secret = library(tmp_path / "secret.so")
    program = compiled(tmp_path / "bin" / "p", "-Wl,--no-as-needed", str(secret))
    assert str(secret) in read_dynamic(program).needed
    assert resolved(program, tmp_path)[1] == [str(secret)]


def test_libraries_of_another_architecture_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = library(tmp_path / "real" / "libone.so")
    foreign = bytearray(real.read_bytes())
    foreign[18] = 183  # e_machine: EM_AARCH64
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "libone.so").write_bytes(foreign)
    program = compiled(tmp_path / "p", *needs(real.parent, real.name))
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{tmp_path}/foreign:{tmp_path}/real")
    assert resolved(program, tmp_path)[0]["libone.so"] == real


def test_what_is_loaded_at_run_time_is_found_but_not_missed() -> None:
    result = find_libraries([], roots=[], extra=["libgcc_s.so.1", "libnowhere.so.9"])
    assert "libgcc_s.so.1" in result.found
    assert result.missing == {}


@pytest.mark.parametrize(
    ("offset", "value", "words"),
    [(4, 1, "32 bit"), (18, 183, "AArch64"), (16, 1, "ET_REL"), (0, 0, "Magic")],
)
def test_other_files_are_refused_with_the_reason(
    tmp_path: Path, offset: int, value: int, words: str
) -> None:
    program = compiled(tmp_path / "p")
    content = bytearray(program.read_bytes())
    content[offset] = value
    program.write_bytes(content)
    with pytest.raises(GuestImageError, match=words):
        read_dynamic(program)


@pytest.mark.parametrize(
    "content", [b"", b"\x7fELF", b"#!/bin/sh\n", b"\x7fELF\2\1\1" + b"\xff" * 99]
)
def test_files_that_are_no_elf_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p").write_bytes(content)
    with pytest.raises(GuestImageError, match="not a usable"):
        read_dynamic(tmp_path / "p")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(GuestImageError, match="No such file"):
        read_dynamic(tmp_path / "p")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return compiled(tmp_path_factory.mktemp("elf") / "p").read_bytes()


CHANGES = st.lists(st.tuples(st.integers(0, 4095), st.binary(min_size=1, max_size=8)), max_size=8)


@settings(max_examples=300, deadline=None)
@given(changes=CHANGES)
def test_a_damaged_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, original: bytes, changes: list[tuple[int, bytes]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged"
    content = bytearray(original)
    for offset, value in changes:
        content[offset : offset + len(value)] = value
    path.write_bytes(content)
    with contextlib.suppress(GuestImageError):
        read_dynamic(path)


def test_a_string_table_without_end_is_given_up(tmp_path: Path, monkeypatch: Any) -> None:
    """A name that runs on for gigabytes must not be read to its end."""
    program = compiled(tmp_path / "p")
    monkeypatch.setattr(libraries._BoundedReader, "_left", 1000)
    with pytest.raises(GuestImageError, match="too large"):
        read_dynamic(program)
