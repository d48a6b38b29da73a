"""The command: statuses, one line for every error, and the plugins' options."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import click
import pytest
from pydantic import BaseModel

from hyperlight_core.cli import plugin_options
from hyperlight_core.cli.app import run_command
from hyperlight_core.cli.output import Output
from hyperlight_core.cli.status import NotExecutableError, NotFoundError, status_of
from hyperlight_core.errors import (
    GuestCrashedError,
    GuestExitedError,
    MemoryExceededError,
    PluginError,
    SandboxTimeoutError,
)
from hyperlight_core.hookspecs import CliOption
from hyperlight_core.plugins import InstalledPlugin


class LampPlugin:
    """A plugin with an option; it is only asked for its configuration."""

    configuration: ClassVar[type[BaseModel]] = BaseModel
    cli_options = (CliOption("--lamp", "NAME=on|off", "Switch a lamp."),)

    @staticmethod
    def configuration_from_options(options: Mapping[str, tuple[str, ...]]) -> dict[str, Any] | None:
        lamps = dict(value.split("=") for value in options["--lamp"])
        if not set(lamps.values()) <= {"on", "off"}:
            raise ValueError("a lamp is on or off")
        return {"lamps": lamps}


@pytest.fixture
def lamp_command(monkeypatch: pytest.MonkeyPatch) -> click.Command:
    """A command that returns what the plugins' options stand for."""
    plugin = InstalledPlugin("lamp", "acme-lamp", "1.0")
    monkeypatch.setattr(InstalledPlugin, "load", lambda _self: LampPlugin)
    monkeypatch.setattr(plugin_options, "installed_plugins", lambda: [plugin])

    @click.command(cls=plugin_options.PluginOptionsCommand)
    @click.pass_context
    def command(ctx: click.Context) -> dict[str, dict[str, Any]]:
        return plugin_options.plugin_configurations(ctx)

    return command


def invoke(command: click.Command, *arguments: str) -> Any:
    return command.main(list(arguments), standalone_mode=False)


def test_an_option_of_a_plugin_becomes_its_configuration(lamp_command: click.Command) -> None:
    result = invoke(lamp_command, "--lamp", "hall=on", "--lamp", "attic=off")
    assert result == {"lamp": {"lamps": {"hall": "on", "attic": "off"}}}


def test_an_installed_plugin_without_options_is_not_granted(lamp_command: click.Command) -> None:
    assert invoke(lamp_command) == {}


def test_a_value_the_plugin_refuses_names_the_option(lamp_command: click.Command) -> None:
    with pytest.raises(click.UsageError, match="--lamp: a lamp is on or off"):
        invoke(lamp_command, "--lamp", "hall=dim")


def test_the_help_lists_the_option_with_its_plugin(
    lamp_command: click.Command, capsys: pytest.CaptureFixture[str]
) -> None:
    invoke(lamp_command, "--help")
    assert "--lamp NAME=on|off" in capsys.readouterr().out


def test_an_option_that_is_taken_names_both_owners(
    lamp_command: click.Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = [InstalledPlugin(name, f"acme-{name}", "1.0") for name in ("lamp", "twin")]
    monkeypatch.setattr(plugin_options, "installed_plugins", lambda: both)
    with pytest.raises(PluginError, match=r"acme-twin.*--lamp.*acme-lamp"):
        invoke(lamp_command)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (GuestExitedError(3), 3),
        (SandboxTimeoutError("late"), 124),
        (MemoryExceededError("big"), 124),
        (GuestCrashedError("page fault"), 125),
        (click.UsageError("no such option"), 125),
        (RuntimeError("bug"), 125),
        (NotExecutableError("x"), 126),
        (NotFoundError("x"), 127),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(), 141),
    ],
)
def test_every_kind_of_error_has_its_status(error: BaseException, status: int) -> None:
    assert status_of(error) == status


def test_an_unknown_command_is_one_line_and_125(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["nonsense"]) == 125
    captured = capsys.readouterr()
    assert captured.err == "hyperlight: No such command 'nonsense'.\n"
    assert captured.out == ""


def test_help_of_the_command_lists_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["--help"]) == 0
    assert {"run", "exec", "plugins", "doctor", "image"} <= set(capsys.readouterr().out.split())


def test_no_command_at_all_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([]) == 125
    assert capsys.readouterr().err == "hyperlight: Missing command.\n"


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(click.UsageError):
        run_command(["--debug", "nonsense"])


def test_schema_of_no_plugins_is_an_openrpc_document(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYPERLIGHT_PLUGINS", "")
    assert run_command(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["openrpc"] == "1.3.2"


def test_plugins_as_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYPERLIGHT_PLUGINS", "")
    assert run_command(["plugins", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_images_are_listed_and_removed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "hyperlight" / "images"
    folder.mkdir(parents=True)
    (folder / "abc123.zip").write_bytes(b"1234")
    assert run_command(["image", "ls"]) == 0
    assert "abc123" in capsys.readouterr().out
    assert run_command(["image", "rm", "abc"]) == 0
    assert list(folder.iterdir()) == []
    assert run_command(["image", "rm", "abc"]) == 125


def test_json_output_reports_an_error_and_what_came_before(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = Output(as_json=True)

    def job() -> int:
        output("stdout", b"half a l")
        raise SandboxTimeoutError("too late")

    assert output.report(job) == 124
    report = json.loads(capsys.readouterr().out)
    assert report.pop("duration") >= 0
    assert report == {
        "stdout": "half a l",
        "stderr": "",
        "exit_code": 124,
        "error": {"type": "SandboxTimeoutError", "message": "too late"},
    }


def test_without_json_output_passes_through(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    output = Output(as_json=False)
    output("stdout", b"\xff out")
    output("stderr", b"err")
    captured = capfdbinary.readouterr()
    assert (captured.out, captured.err) == (b"\xff out", b"err")


def test_a_reader_that_goes_away_ends_the_command_quietly() -> None:
    """As `hyperlight plugins | head -c0` does it."""
    command = [sys.executable, "-m", "hyperlight_core", "schema"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.wait() == 141
        assert process.stderr.read() == b""


def test_without_the_extra_the_command_says_how_to_get_it() -> None:
    """In an interpreter that finds no click."""
    program = (
        "import importlib.util as u, sys; find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'click' else find(name, *rest)\n"
        "from hyperlight_core.cli import main; main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert result.returncode == 125
    assert result.stderr == (
        "hyperlight: click not installed; to mend it: pip install 'hyperlight-core[cli]'\n"
    )
