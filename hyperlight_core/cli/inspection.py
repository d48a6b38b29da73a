"""`hyperlight doctor`, `plugins` and `schema`: what is here, and whether it works."""

from __future__ import annotations

import dataclasses
import json

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hyperlight_core.cli.plugin_options import PluginOptionsCommand, plugin_configurations
from hyperlight_core.doctor import examine
from hyperlight_core.errors import ConfigurationError
from hyperlight_core.functions import HostFunction, functions_of
from hyperlight_core.openrpc import openrpc_document
from hyperlight_core.plugins import InstalledPlugin, installed_plugins, load_plugins

__all__ = ["doctor", "plugins", "schema"]

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command()
@_json_option
def doctor(*, as_json: bool) -> int:
    """Check this machine; status 1 if something that sandboxes need is missing."""
    checks = examine()
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(check) for check in checks], indent=2))
    else:
        for check in checks:
            mark = Text("ok     ", "green") if check.ok else Text("missing", "red")
            Console().print(mark, Text(str(check)), soft_wrap=True)
    return int(any(check.required and not check.ok for check in checks))


@click.command()
@_json_option
def plugins(*, as_json: bool) -> None:
    """List the installed plugins and the host functions they can grant."""
    rows = [
        {
            "name": plugin.name,
            "distribution": plugin.distribution,
            "version": plugin.version,
            "functions": sorted(function.name for function in _functions(plugin, {})),
            "problem": str(plugin.problem() or ""),
        }
        for plugin in installed_plugins()
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    table = Table("plugin", "distribution", "version", "host functions")
    for row in rows:
        names = (
            Text(str(row["problem"]), "red") if row["problem"] else Text(_join(row["functions"]))
        )
        table.add_row(*(Text(str(row[key])) for key in ("name", "distribution", "version")), names)
    Console().print(table)


def _join(names: object) -> str:
    return ", ".join(names) if isinstance(names, list) else ""


@click.command(cls=PluginOptionsCommand)
@click.pass_context
def schema(ctx: click.Context) -> None:
    """Print the host functions of the installed plugins as one OpenRPC document.

    Functions that only a configuration brings, such as --tool, are included when it is given.
    """
    given = plugin_configurations(ctx)
    functions = [
        function
        for plugin in installed_plugins()
        for function in _functions(plugin, given.get(plugin.name, {}))
    ]
    click.echo(json.dumps(openrpc_document(functions), indent=2))


def _functions(plugin: InstalledPlugin, configuration: object) -> list[HostFunction]:
    """What the plugin offers under `configuration`, or declares if it does not take that."""
    try:
        started = load_plugins({plugin.name: configuration})
    except ConfigurationError:
        return [] if plugin.problem() else _declared(plugin)
    try:
        return list(started.table.values())
    finally:
        started.closed()


def _declared(plugin: InstalledPlugin) -> list[HostFunction]:
    """The functions that a plugin's class declares, whatever the configuration."""
    cls = plugin.load()
    # Only asked what it declares, never called: it needs no configuration.
    unconfigured = cls.__new__(cls)
    return [
        dataclasses.replace(function, plugin=plugin.name) for function in functions_of(unconfigured)
    ]
