"""The dialect of the old JSON tools, as the guests written against them expect it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from hl_fs import CapFs, Limits, Mount
from hl_fs.dialect import Dialect

from .attacks import Host


@pytest.fixture
def dialect(host: Host) -> Iterator[Dialect]:
    """One writable mount at /host."""
    with CapFs([Mount("/host", host.inside, "rw")]) as fs:
        yield Dialect(fs, ["/host"], limit=1000)


def ok(dialect: Dialect, name: str, **args: object) -> Any:
    """The result of a call that succeeds."""
    answer = json.loads(dialect.answer(json.dumps({"name": name, "args": args}).encode()))
    assert answer.keys() == {"result"}, answer
    return answer["result"]


def error(dialect: Dialect, name: str, **args: object) -> str:
    """The message of a call that fails."""
    answer = json.loads(dialect.answer(json.dumps({"name": name, "args": args}).encode()))
    assert answer.keys() == {"error"}, answer
    return str(answer["error"])


def test_text_goes_in_and_out(dialect: Dialect) -> None:
    assert ok(dialect, "fs_write", path="a", text="hi") == {"bytes_written": 2}
    assert ok(dialect, "fs_write", path="/a", text=" you", append=True) == {"bytes_written": 4}
    assert ok(dialect, "fs_read", path="/host/a") == {"text": "hi you"}
    assert ok(dialect, "fs_write", path="a", text="x") == {"bytes_written": 1}
    assert ok(dialect, "fs_stat", path="a") == {"size": 1, "is_dir": False, "is_file": True}


def test_bytes_go_in_and_out_as_base64(dialect: Dialect) -> None:
    data = base64.b64encode(b"\xff\x00abc").decode()
    assert ok(dialect, "fs_write_bytes", path="b", data=data) == {"bytes_written": 5}
    ok(dialect, "fs_write_bytes", path="b", data=data, offset=3)
    ok(dialect, "fs_write_bytes", path="b", data=data, offset=0, append=True)
    part = ok(dialect, "fs_read_bytes", path="b", offset=3, len=4)
    assert part == {"data": base64.b64encode(b"\xff\x00ab").decode(), "eof": False, "bytes_read": 4}
    assert ok(dialect, "fs_read_bytes", path="b", offset=99)["eof"] is True
    assert ok(dialect, "fs_stat", path="b")["size"] == 13


def test_directories(dialect: Dialect) -> None:
    assert ok(dialect, "fs_mkdir", path="x/y/z", parents=True) == {}
    assert ok(dialect, "fs_mkdir", path="x/y/z", parents=True) == {}
    assert error(dialect, "fs_mkdir", path="x").endswith("File exists (os error 17)")
    assert error(dialect, "fs_mkdir", path="file", parents=True).endswith("(os error 17)")
    entry = {"name": "y", "is_dir": True, "is_file": False, "is_symlink": False}
    assert ok(dialect, "fs_list", path="x") == {"entries": [entry]}
    names = {entry["name"] for entry in ok(dialect, "fs_list")["entries"]}
    assert names == {"x", "file", "directory"}
    assert ok(dialect, "fs_unlink", path="x/y/z") == {}
    assert ok(dialect, "fs_truncate", path="file", length=3) == {}
    assert ok(dialect, "fs_read", path="file") == {"text": "con"}


def test_errors_have_the_texts_those_guests_look_for(dialect: Dialect) -> None:
    missing = 'fs_read "nope": No such file or directory (os error 2)'
    assert error(dialect, "fs_read", path="nope") == missing
    assert error(dialect, "fs_read") == "fs_read: missing 'path'"
    assert error(dialect, "fs_write", path="a", text=1) == "fs_write: missing 'text'"
    assert error(dialect, "fs_format") == "unknown tool: fs_format"
    assert error(dialect, "fs_write_bytes", path="a", data="?").startswith("bad base64: ")
    assert json.loads(dialect.answer(b"{}")) == {"error": "missing 'name'"}
    assert json.loads(dialect.answer(b"[]")) == {"error": "missing 'name'"}
    assert "error" in json.loads(dialect.answer(b"\xff"))


def test_escapes_are_refused_with_the_texts_for_them(dialect: Dialect, host: Host) -> None:
    (host.inside / "link").symlink_to("../outside")
    (host.inside / "new").symlink_to("../outside/new")
    assert error(dialect, "fs_read", path="../outside/secret").startswith(
        "path escapes mount root:"
    )
    through = 'path escapes mount root (symlink): "link/secret"'
    assert error(dialect, "fs_read", path="link/secret") == through
    assert "escapes" in error(dialect, "fs_write", path="new", text="x")
    assert ok(dialect, "fs_unlink", path="new") == {}
    assert host.outside_is_untouched()


def test_no_size_a_guest_names_is_allocated(dialect: Dialect) -> None:
    assert ok(dialect, "fs_read_bytes", path="file", len=2**62)["bytes_read"] == 7
    ok(dialect, "fs_truncate", path="file", length=1001)
    assert error(dialect, "fs_read", path="file").endswith("File too large (os error 27)")
    for args in ({"offset": -1}, {"len": -1}):
        assert error(dialect, "fs_read_bytes", path="file", **args).endswith("(os error 22)")


def test_a_write_larger_than_one_call_is_whole(host: Host) -> None:

    with CapFs([Mount("/host", host.inside, "rw")], Limits(call_bytes=10)) as fs:
        dialect = Dialect(fs, ["/host"])
        assert ok(dialect, "fs_write", path="long", text="x" * 95) == {"bytes_written": 95}
    assert (host.inside / "long").read_text() == "x" * 95
