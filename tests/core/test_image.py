"""Image files: their layout, their names, the cache, and packed programs."""

from __future__ import annotations

import contextlib
import stat
import struct
import subprocess
import threading
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperlight_core.errors import GuestImageError
from hyperlight_core.image import ImageFile, ImageWriter, cached_image, content_key, pack_program

PAGE = 4096

NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=40
).filter(lambda name: name not in (".", ".."))


def write(path: Path, *files: ImageFile) -> Path:
    with contextlib.closing(ImageWriter(path)) as writer:
        for file in files:
            writer.add(file)
    return path


def data_offset(image: Path, member: zipfile.ZipInfo) -> int:
    """Where a member's data begins, from its local header (APPNOTE.TXT 4.3.7)."""
    with image.open("rb") as file:
        file.seek(member.header_offset)
        fields = struct.unpack("<4sHHHHHIIIHH", file.read(30))
    assert fields[0] == b"PK\3\4"
    return member.header_offset + 30 + int(fields[9]) + int(fields[10])


@settings(deadline=None)
@given(files=st.dictionaries(NAMES, st.binary(max_size=10_000), max_size=12))
def test_all_data_is_stored_on_page_boundaries(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    image = tmp_path_factory.mktemp("image") / "i.zip"
    write(image, *(ImageFile(name, data) for name, data in files.items()))
    with zipfile.ZipFile(image) as archive:
        assert {member.filename for member in archive.infolist()} == set(files)
        for member in archive.infolist():
            assert data_offset(image, member) % PAGE == 0
            assert member.compress_type == zipfile.ZIP_STORED
            assert archive.read(member) == files[member.filename]


def test_copied_files_keep_their_bytes_and_whether_they_are_executable(tmp_path: Path) -> None:
    plain, program = tmp_path / "plain", tmp_path / "program"
    plain.write_bytes(b"\1" * 3_000_000)
    program.write_bytes(b"\2")
    program.chmod(0o700)
    image = write(tmp_path / "i.zip", ImageFile("a", plain), ImageFile("b", program))
    with zipfile.ZipFile(image) as archive:
        first, second = archive.infolist()
        assert archive.read(first) == plain.read_bytes()
    assert first.external_attr >> 16 == stat.S_IFREG | 0o644
    assert second.external_attr >> 16 == stat.S_IFREG | 0o755
    assert data_offset(image, second) % PAGE == 0


def test_a_symbolic_link_is_a_member_with_its_target(tmp_path: Path) -> None:
    image = write(tmp_path / "i.zip", ImageFile("l", b"../target", stat.S_IFLNK | 0o777))
    with zipfile.ZipFile(image) as archive:
        (member,) = archive.infolist()
        assert stat.S_ISLNK(member.external_attr >> 16)
        assert archive.read(member) == b"../target"


def test_the_directory_of_members_is_small(tmp_path: Path) -> None:
    """A guest reads all of it at its start: the padding must not be in it a second time."""
    image = write(tmp_path / "i.zip", *(ImageFile(f"f{i}", b"x") for i in range(100)))
    with zipfile.ZipFile(image) as archive:
        assert {len(member.extra) for member in archive.infolist()} == {0}


@pytest.mark.parametrize(
    "name", ["", "/a", "a/", "a//b", ".", "a/../b", "./a", "a\0b", "\udcff", "twice"]
)
def test_names_that_a_guest_could_misread_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(GuestImageError):
        write(tmp_path / "i.zip", ImageFile("twice", b""), ImageFile(name, b""))


def test_a_file_too_large_for_a_plain_header_is_refused(tmp_path: Path) -> None:
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(2000 << 20)
    with pytest.raises(GuestImageError, match="too large"):
        write(tmp_path / "i.zip", ImageFile("huge", huge))


def test_the_key_follows_name_mode_content_and_facts(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("1")
    key = content_key([ImageFile("a", file)], "fact")
    assert content_key([ImageFile("a", file)], "fact") == key
    others = [
        content_key([ImageFile("b", file)], "fact"),
        content_key([ImageFile("a", file, 0o600)], "fact"),
        content_key([ImageFile("a", b"1")], "fact"),
        content_key([ImageFile("a", b"2")], "fact"),
        content_key([ImageFile("a", file)], "other"),
    ]
    file.write_text("22")
    others.append(content_key([ImageFile("a", file)], "fact"))
    assert len({key, *others}) == 1 + len(others)


def test_an_image_is_written_once(tmp_path: Path) -> None:
    written: list[int] = []

    def write_one(writer: ImageWriter) -> None:
        written.append(1)
        writer.add(ImageFile("a", b"x"))

    first = cached_image("key", write_one, tmp_path / "new" / "cache")
    assert cached_image("key", write_one, tmp_path / "new" / "cache") == first
    assert written == [1]


def test_an_image_that_cannot_be_finished_leaves_nothing(tmp_path: Path) -> None:
    def fail(writer: ImageWriter) -> None:
        writer.add(ImageFile("a", b"x"))
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        cached_image("key", fail, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_what_a_killed_packer_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "x.partial").write_bytes(b"half")
    image = cached_image("key", lambda writer: writer.add(ImageFile("a", b"")), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"lock", image.name}


def test_a_second_packer_waits_for_the_first(tmp_path: Path) -> None:
    order: list[str] = []
    started, may_end = threading.Event(), threading.Event()

    def slow(writer: ImageWriter) -> None:
        started.set()
        assert may_end.wait(60)
        order.append("packed")
        writer.add(ImageFile("a", b"x"))

    first = threading.Thread(target=cached_image, args=("key", slow, tmp_path))
    first.start()
    assert started.wait(60)

    def second() -> None:
        cached_image("key", lambda _: order.append("packed twice"), tmp_path)
        order.append("found")

    waiting = threading.Thread(target=second)
    waiting.start()
    may_end.set()
    first.join(60)
    waiting.join(60)
    assert order == ["packed", "found"]


def test_a_packed_program_brings_its_loader_and_libraries(tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    packed = pack_program(
        Path("/bin/ls"), directory=tmp_path, progress=lambda *step: steps.append(step)
    )
    with zipfile.ZipFile(packed.image) as archive:
        names = archive.namelist()
        assert archive.read("usr/bin/ls") == Path("/bin/ls").read_bytes()
    assert packed.path == "/usr/bin/ls"
    assert "lib64/ld-linux-x86-64.so.2" in names
    assert [name for name in names if name.endswith("/libc.so.6")] != []
    assert steps[-1][1] == steps[-1][2] == len(names)


def test_a_packed_program_runs_with_what_is_in_its_image(tmp_path: Path) -> None:
    packed = pack_program(Path("/bin/ls"), directory=tmp_path)
    root = tmp_path / "root"
    with zipfile.ZipFile(packed.image) as archive:
        archive.extractall(root)
    loader = root / "lib64" / "ld-linux-x86-64.so.2"
    loader.chmod(0o755)
    (libc,) = root.rglob("libc.so.6")
    command: list[str | Path] = [loader, "--library-path", libc.parent, root / "usr/bin/ls", root]
    done = subprocess.run(command, env={}, check=True, capture_output=True, text=True)
    assert set(done.stdout.split()) == {path.name for path in root.iterdir()}


def test_further_files_and_folders_are_packed_with_links_as_links(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "file").write_text("content")
    (folder / "link").symlink_to("/etc/shadow")
    files = {"/data": folder, "/etc/one": folder / "deep" / "file"}
    packed = pack_program(Path("/bin/ls"), files, directory=tmp_path / "cache")
    with zipfile.ZipFile(packed.image) as archive:
        assert archive.read("data/deep/file") == archive.read("etc/one") == b"content"
        assert archive.read("data/link") == b"/etc/shadow"
        assert stat.S_ISLNK(archive.getinfo("data/link").external_attr >> 16)


def test_a_static_program_is_packed_alone(tmp_path: Path) -> None:
    program = tmp_path / "static"
    command = ["gcc", "-static", "-x", "c", "-", "-o", str(program)]
    subprocess.run(command, input=b"int main(void) { return 0; }", check=True)
    packed = pack_program(program, directory=tmp_path / "cache")
    assert zipfile.ZipFile(packed.image).namelist() == ["usr/bin/static"]


def compiled(path: Path, *options: str) -> Path:
    command = ["gcc", "-x", "c", "-", "-o", str(path), *options]
    subprocess.run(command, input=b"int main(void) { return 0; }", check=True)
    return path


def test_a_missing_library_is_named(tmp_path: Path) -> None:
    library = compiled(tmp_path / "libgone.so", "-shared", "-fPIC")
    program = compiled(tmp_path / "p", f"-L{tmp_path}", "-Wl,--no-as-needed", "-l:libgone.so")
    library.unlink()
    with pytest.raises(GuestImageError, match=r"needs the library libgone\.so"):
        pack_program(program, directory=tmp_path / "cache")


def test_a_loader_outside_the_system_is_refused(tmp_path: Path) -> None:
    """A hostile program must not have any file of the host packed as its loader."""
    (tmp_path / "secret").write_text("secret")
    program = compiled(tmp_path / "p", f"-Wl,--dynamic-linker={tmp_path}/../secret")
    with pytest.raises(GuestImageError, match="system directory"):
        pack_program(program, directory=tmp_path / "cache")


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n"])
def test_what_is_no_program_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p").write_bytes(content)
    with pytest.raises(GuestImageError, match="not a usable"):
        pack_program(tmp_path / "p", directory=tmp_path / "cache")
