"""Taking the host's prefix out of the interpreter's files."""

from pathlib import Path

import pytest
from hl_python.interpreter import Scrubber


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    folder = tmp_path / "versions" / "3.11.7"
    folder.mkdir(parents=True)
    return folder


def test_text_names_usr_instead(prefix: Path) -> None:
    file = prefix / "data.py"
    file.write_text(f"prefix = '{prefix}'\nlib = '{prefix}/lib'\n")
    content = Scrubber(str(prefix)).content(file)
    assert content == b"prefix = '/usr'\nlib = '/usr/lib'\n"


def test_elf_files_keep_their_length_and_name_the_same_place(prefix: Path) -> None:
    file = prefix / "libx.so"
    original = b"\x7fELF" + f"\0{prefix}/lib\0{prefix}\0".encode()
    file.write_bytes(original)
    content = Scrubber(str(prefix)).content(file)
    assert content is not None
    assert len(content) == len(original)
    runpath, bare = content.split(b"\0")[1:3]
    assert Path(runpath.decode()) == Path("/usr/lib")
    assert bare.startswith(b"/usr/")
    assert str(prefix).encode() not in content


def test_a_string_that_ends_the_prefix_keeps_its_end(prefix: Path) -> None:
    """Linkers merge strings: sys.version may point at the last bytes of the prefix."""
    file = prefix / "libx.so"
    file.write_bytes(b"\x7fELF" + f"\0{prefix}\0".encode())
    content = Scrubber(str(prefix)).content(file)
    assert content is not None
    assert content.endswith(b"3.11.7\0")


def test_a_prefix_behind_a_symbolic_link_is_found_under_both_names(
    prefix: Path, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(prefix)
    file = prefix / "data.py"
    file.write_text(f"{link} {prefix}")
    assert Scrubber(str(link)).content(file) == b"/usr /usr"


def test_other_files_stay_as_they_are(prefix: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.py"
    outside.write_text(str(prefix))
    inside = prefix / "inside.py"
    inside.write_text("nothing")
    scrubber = Scrubber(str(prefix))
    assert scrubber.content(outside) is None
    assert scrubber.content(inside) is None


@pytest.mark.parametrize("system", ["/usr", "/usr/local", "/"])
def test_a_system_prefix_is_no_secret(system: str, tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_text(system)
    assert Scrubber(system).content(file) is None
    assert Scrubber(system).path("/usr/lib/ssl/cert.pem") == "usr/lib/ssl/cert.pem"


def test_paths_below_the_prefix_move_with_it(prefix: Path) -> None:
    assert Scrubber(str(prefix)).path(f"{prefix}/ssl/cert.pem") == "usr/ssl/cert.pem"
