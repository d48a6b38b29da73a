"""`hyperlight plugin new`: a complete package to begin a plugin with."""

from __future__ import annotations

import importlib.util
import keyword
import re
from pathlib import Path

import click
import importlib_metadata

from hyperlight_core.errors import ConfigurationError

__all__ = ["plugin"]

_TEMPLATE = Path(__file__).parents[1] / "plugin_template"


@click.group()
def plugin() -> None:
    """Write plugins."""


@plugin.command()
@click.argument("name")
@click.option("--distribution", help="Name of the distribution.  [default: hl-NAME]")
def new(*, name: str, distribution: str | None) -> None:
    """Write a package for a plugin NAME into a new folder, named like its distribution."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name) or name == "rpc":
        raise click.UsageError(f"{name!r} is no lower-case identifier, as guests write it")
    if importlib.util.find_spec("copier") is None:
        raise ConfigurationError(
            "copier is not installed; to mend it: pip install 'hyperlight-core[kit]'"
        )
    folder = Path(distribution or f"hl-{name}")
    if not re.fullmatch(r"[a-z][a-z0-9]*([._-][a-z0-9]+)*", folder.name) or folder.exists():
        raise click.UsageError(f"{folder} exists, or is no name of a distribution")
    _fill_in(folder, name)
    click.echo(f"{folder}: see README.md; try: pip install -e '.[test]' && pytest")


def _fill_in(folder: Path, name: str) -> None:
    from copier import run_copy  # noqa: PLC0415 - comes with the extra

    major, minor = importlib_metadata.version("hyperlight-core").split(".")[:2]
    core = f"hyperlight-core>={major}.{minor},<{major}.{int(minor) + 1}"
    data = {"name": name, "distribution": folder.name, "core": core}
    run_copy(str(_TEMPLATE), folder, data=data, defaults=True, quiet=True)
