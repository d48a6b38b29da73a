"""`hyperlight doctor` and `plugins`: what is here, and whether it works."""

from __future__ import annotations

import dataclasses
import json

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hyperlight_core.doctor import examine
from hyperlight_core.plugins import installed_plugins
from hyperlight_core.schema.offers import offered

__all__ = ["doctor", "plugins"]

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
            "functions": sorted(function.name for function in offered(plugin)),
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
