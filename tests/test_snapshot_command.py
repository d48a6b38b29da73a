"""`hyperlight snapshot` as a shell sees it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.kvm


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder of snapshots."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data" / "hyperlight" / "snapshots"


def snapshot(*arguments: str, script: str = "") -> tuple[int, str, str]:
    command = [sys.executable, "-m", "hyperlight_core", "snapshot", *arguments]
    result = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    return result.returncode, result.stdout, result.stderr


def test_from_saving_to_removing(data: Path) -> None:
    assert snapshot("save", "base", "-", script="answer = 41; print('ready')") == (0, "ready\n", "")
    assert snapshot("save", "--parent", "base", "more", "-", script="answer += 1") == (0, "", "")
    run = "import sys; print(answer, *sys.argv[1:])"
    assert snapshot("run", "base", "-", "-x", script=run) == (0, "41 -x\n", "")
    assert snapshot("run", "--no-verify", "more", "-", script=run) == (0, "42\n", "")
    listing = snapshot("ls")[1]
    assert "base" in listing
    assert "more" in listing
    assert snapshot("verify", "base", "more") == (0, "base: good\nmore: good\n", "")
    with (data / "base" / "memory").open("r+b") as file:
        file.write(b"x")
    altered = "hyperlight: the snapshot base: the file memory was altered\n"
    assert snapshot("verify", "base") == (125, "", altered)
    assert snapshot("run", "base", "-", script=run) == (125, "", altered)
    assert snapshot("rm", "more", "base") == (0, "more\nbase\n", "")
    assert list(data.iterdir()) == []


def test_a_path_is_no_name(tmp_path: Path, data: Path) -> None:
    assert snapshot("save", f"{tmp_path}/here", "-", script="x = 1")[0] == 0
    assert (tmp_path / "here" / "manifest.json").is_file()
    assert not data.exists()


def test_a_script_that_fails_leaves_no_snapshot(data: Path) -> None:
    status, _, error = snapshot("save", "bad", "-", script="1/0")
    assert status == 1
    assert "ZeroDivisionError" in error
    assert not (data / "bad").exists()


def test_only_snapshots_are_removed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    status, _, error = snapshot("rm", f"{tmp_path}/folder")
    assert status == 125
    assert "there is no snapshot" in error
    assert (tmp_path / "folder").is_dir()


@pytest.mark.parametrize("name", [".hidden", ".", ".."])
def test_a_name_that_leads_elsewhere(name: str) -> None:
    assert "is no name for a snapshot" in snapshot("rm", name)[2]


def test_another_memory_size_is_refused() -> None:
    assert snapshot("save", "base", "-", script="x = 1")[0] == 0
    status, _, error = snapshot("run", "--memory", "256MiB", "base", "-", script="print(x)")
    assert status == 125
    assert "memory=536870912, this sandbox has memory=268435456" in error
