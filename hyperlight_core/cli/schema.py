"""`hyperlight schema`: the host functions, described for people and programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from hyperlight_core.cli.plugin_options import PluginOptionsCommand, plugin_configurations
from hyperlight_core.errors import PluginNotInstalledError
from hyperlight_core.openrpc import openrpc_document
from hyperlight_core.plugins import InstalledPlugin, installed_plugins
from hyperlight_core.schema.c_header import c_header
from hyperlight_core.schema.compatibility import breaking_changes
from hyperlight_core.schema.offers import offered
from hyperlight_core.schema.reference import reference_page
from hyperlight_core.schema.stubs import python_stubs

__all__ = ["schema"]


def _as_json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2) + "\n"


_FORMATS: dict[str, Callable[[dict[str, Any]], str]] = {
    "json": _as_json,
    "python": python_stubs,
    "c": c_header,
}


@click.command(cls=PluginOptionsCommand)
@click.argument("names", metavar="[PLUGIN]...", nargs=-1)
@click.option(
    "--format",
    "kind",
    type=click.Choice([*_FORMATS, "markdown"]),
    default="json",
    show_default=True,
    help="OpenRPC, stubs of the guest's Python module, a C header, or a reference page.",
)
@click.option(
    "--lock",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the document to this file, unless that breaks callers of what it holds.",
)
@click.pass_context
def schema(ctx: click.Context, *, names: tuple[str, ...], kind: str, lock: Path | None) -> int:
    """Print the host functions of the installed plugins, or of those named, as one document.

    Functions that only a configuration brings, such as --tool, are included when it is given.
    """
    given = plugin_configurations(ctx)
    functions = [
        function
        for plugin in _chosen(names)
        for function in offered(plugin, given.get(plugin.name))
    ]
    document = openrpc_document(functions)
    if lock is not None:
        return _write_lock(lock, document)
    if kind == "markdown":
        text = reference_page(document, " ".join(names) or "host functions")
    else:
        text = _FORMATS[kind](document)
    click.echo(text, nl=False)
    return 0


def _chosen(names: tuple[str, ...]) -> list[InstalledPlugin]:
    there = installed_plugins()
    missing = set(names) - {plugin.name for plugin in there}
    if missing:
        raise PluginNotInstalledError(f"not installed: {', '.join(sorted(missing))}")
    return [plugin for plugin in there if not names or plugin.name in names]


def _write_lock(path: Path, document: dict[str, Any]) -> int:
    faults = breaking_changes(json.loads(path.read_text()), document) if path.exists() else []
    for fault in faults:
        click.echo(f"{path.name}: {fault}", err=True)
    if faults:
        click.echo("raise the version of these host functions", err=True)
        return 1
    path.write_text(_as_json(document))
    return 0
