"""`hyperlight schema`, for the plugin hl-echo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hyperlight_core.cli.app import run_command
from hyperlight_core.plugins import VARIABLE

PLUGINS = Path(__file__).parents[1] / "plugins"


@pytest.fixture(autouse=True)
def echo(monkeypatch: pytest.MonkeyPatch) -> None:
    """No plugin but hl-echo."""
    monkeypatch.syspath_prepend(str(PLUGINS))
    monkeypatch.setenv(VARIABLE, "echo")


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """The schema of hl-echo, as a file."""
    path = tmp_path / "schema.json"
    assert run_command(["schema", "--lock", str(path)]) == 0
    return path


def change(lock: Path, **members: Any) -> None:
    """Change the only method of the document in a file."""
    document = json.loads(lock.read_text())
    document["methods"][0].update(members)
    lock.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("json", '"name": "echo.say"'),
        ("python", "def say(*, text: _str) -> Message"),
        ("c", '#define HL_ECHO_SAY "echo.say"'),
        ("markdown", "## echo.say"),
    ],
)
def test_each_format_has_the_plugins_functions(
    capsys: pytest.CaptureFixture[str], kind: str, text: str
) -> None:
    assert run_command(["schema", "--format", kind, "echo"]) == 0
    assert text in capsys.readouterr().out


def test_a_plugin_that_is_not_installed_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["schema", "ecko", "echo"]) == 125
    assert "not installed: ecko" in capsys.readouterr().err


def test_a_locked_schema_is_written_again_where_nobody_is_hurt(lock: Path) -> None:
    before = lock.read_text()
    change(lock, params=[])
    assert run_command(["schema", "--lock", str(lock)]) == 1
    change(lock, **{"x-version": 0})
    assert run_command(["schema", "--lock", str(lock)]) == 0
    assert lock.read_text() == before


def test_a_locked_schema_stays_where_callers_would_break(
    lock: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(lock, name="echo.shout")
    before = lock.read_text()
    assert run_command(["schema", "--lock", str(lock)]) == 1
    assert "echo.shout is gone" in capsys.readouterr().err
    assert lock.read_text() == before
