"""What the documentation shows is so: its code runs, its commands and links exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hyperlight_core.cli import status
from hyperlight_core.cli.app import hyperlight

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path
    for pattern in (
        "*.md",
        "docs/*.md",
        "docs/plugins/*.md",
        "plugins/*/README.md",
        "guests/*/README.md",
    )
    for path in ROOT.glob(pattern)
)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def commands(program: str) -> Iterator[tuple[str, str]]:
    """Each command line that a page shows for `program`, without its comment."""
    for page in PAGES:
        for line in "".join(blocks(page, "console")).splitlines():
            if line.startswith(program + " "):
                yield name_of(page), line.partition(" #")[0].strip()


@pytest.mark.kvm
def test_the_readme_example_runs(tmp_path: Path) -> None:
    """As it stands, in an empty folder; its comment says what it prints."""
    (code,) = blocks(ROOT / "README.md", "python")
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (result.stdout.strip(), result.stderr) == ("10", "")


@pytest.mark.parametrize(("page", "command"), sorted(commands("hyperlight")))
def test_a_hyperlight_command_is_understood(page: str, command: str) -> None:
    """Its subcommand exists and takes these options; it is not run."""
    assert page
    name, *arguments = shlex.split(command)[1:]
    with hyperlight.make_context("hyperlight", ["--"]) as ctx:
        subcommand = hyperlight.get_command(ctx, name)
        assert subcommand is not None
        subcommand.make_context(name, arguments, parent=ctx).close()


@pytest.mark.parametrize(("page", "command"), sorted(commands("make")))
def test_a_make_target_exists(page: str, command: str) -> None:
    assert page
    target = command.split()[1]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_link_leads_to_a_file(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_path_named_in_code_font_exists(page: Path) -> None:
    """Written `like/this`, it is there as seen from the repository or from the page's folder."""
    tops = "|".join(re.escape(path.name) for path in ROOT.iterdir() if path.is_dir())
    for named in re.findall(rf"`((?:{tops})/[\w./-]*)`", page.read_text()):
        assert (ROOT / named).exists() or (page.parent / named).exists(), named


@pytest.mark.parametrize("command", ["run", "exec"])
def test_every_option_is_documented(command: str) -> None:
    page = (ROOT / "docs" / "command-line.md").read_text()
    with hyperlight.make_context("hyperlight", ["--"]) as ctx:
        subcommand = hyperlight.get_command(ctx, command)
        assert subcommand is not None
        flags = [flag for option in subcommand.get_params(ctx) for flag in option.opts]
    assert [flag for flag in flags if flag.startswith("--") and f"`{flag}" not in page] == [
        "--help"
    ]


def test_the_exit_statuses_are_those_of_the_command() -> None:
    """The table in the page is the one in the module."""
    row = re.compile(r"^\| (\d+ \| .*)$", re.MULTILINE)
    page = (ROOT / "docs" / "command-line.md").read_text()
    assert row.findall(page) == row.findall(status.__doc__ or "")


def test_every_module_has_its_place_in_the_architecture() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    modules = {path.name for path in (ROOT / "hyperlight_core").glob("*.py")}
    modules -= {"__init__.py", "__main__.py"}
    assert [name for name in sorted(modules) if f"`{name}`" not in text] == []
