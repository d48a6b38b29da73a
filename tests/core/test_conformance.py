"""The conformance tests pass for a good plugin, and find what is wrong with a bad one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parents[1] / "plugins"

BAD = """
import logging, os
from typing import ClassVar
from pydantic import BaseModel
from hyperlight_core.functions import Model, functions_of, host_function
from hyperlight_core.hookspecs import CliOption, hookimpl
import hl_echo
logging.basicConfig(level=logging.DEBUG)

class Loose(BaseModel):
    number: int = 0

class Answer(Model):
    number: int

class Plugin:
    configuration: ClassVar = Loose
    cli_options = (CliOption("--bad", "X", "Do it."),)

    def __init__(self, configuration):
        self.kept = []

    @staticmethod
    def configuration_from_options(options):
        return {}

    @host_function("bad.divide")
    def divide(self, request: Loose) -> Answer:
        self.kept.append(os.dup(0))
        return Answer(number=1 // request.number)

    @hookimpl
    def host_functions(self):
        return functions_of(self)

    @hookimpl
    def snapshot_taken(self, snapshot):
        snapshot.plugin_state["mine"] = 1

    @hookimpl
    def snapshot_restored(self, snapshot):
        snapshot.plugin_state["mine"]
"""

FAULTS = {
    "importing_it_changes_nothing_global",
    "it_imports_no_other_plugin",
    "its_configuration_takes_no_unknown_keys",
    "its_options_grant_nothing_unless_given",
    "it_offers_functions_and_documents_each",
    "its_functions_refuse_parameters_they_do_not_have",
    "bad_input_gives_errors_and_never_a_crash",
    "a_small_buffer_of_the_guest_is_respected",
    "it_can_be_restored_again_and_again",
    "a_clone_starts_from_a_snapshot_it_has_never_seen",
    "handles_opened_after_a_snapshot_are_closed_by_its_restore",
    "nothing_stays_open_after_the_sandbox_is_closed",
}


def conformance(folder: Path, plugin: str) -> tuple[int, set[str], str]:
    """Runs the tests for a plugin: status, the names of failing tests, and what was printed."""
    (folder / "test_own.py").write_text("def test_own() -> None: pass\n")
    paths = [str(folder), str(PLUGINS), *sys.path]
    environment = os.environ | {
        "HYPERLIGHT_PLUGINS": f"{plugin},echo",
        "PYTHONPATH": os.pathsep.join(paths),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["--import-mode=importlib", "--hyperlight-conformance", "test_own.py"]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    failing = re.findall(
        rf"^(?:FAILED|ERROR) .*::test_(\w+)\[{plugin}\]", done.stdout, re.MULTILINE
    )
    return done.returncode, set(failing), done.stdout + done.stderr


def test_a_good_plugin_passes(tmp_path: Path) -> None:
    status, failing, printed = conformance(tmp_path, "echo")
    assert (status, failing) == (0, set()), printed
    assert re.search(r"^1\d passed", printed, re.MULTILINE)


def test_each_fault_of_a_bad_plugin_is_found(tmp_path: Path) -> None:
    (tmp_path / "hl_bad.py").write_text(BAD)
    info = tmp_path / "hl_bad-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hl-bad\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[hyperlight]\nbad = hl_bad:Plugin\n")
    status, failing, printed = conformance(tmp_path, "bad")
    assert status == 1
    assert failing == FAULTS, printed


@pytest.mark.parametrize("arguments", [["--help"], ["--collect-only"]])
def test_without_the_option_nothing_is_added(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "test_own.py").write_text("def test_own() -> None: pass\n")
    command = [sys.executable, "-m", "pytest", *arguments, "test_own.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "test_bad_input" not in done.stdout
