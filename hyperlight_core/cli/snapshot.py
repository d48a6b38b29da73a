"""`hyperlight snapshot`: guests prepared by a script and kept on disk, for later runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import platformdirs
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from hyperlight_core.cli.guest import read_script
from hyperlight_core.cli.output import Output
from hyperlight_core.cli.plugin_options import PluginOptionsCommand, plugin_configurations
from hyperlight_core.cli.progress import progress_bar
from hyperlight_core.errors import ConfigurationError
from hyperlight_core.guests import find_guest
from hyperlight_core.sandbox import Sandbox, Snapshot, load_snapshot
from hyperlight_core.snapshot_files import SavedSnapshot, open_snapshot

__all__ = ["snapshot"]

_SETTINGS = {"allow_interspersed_args": False}
_Function = TypeVar("_Function", bound=Callable[..., Any])


def _script_options(function: _Function) -> _Function:
    """Of the commands that run a script."""
    for option in (
        click.argument("arguments", metavar="[ARG]...", nargs=-1, type=click.UNPROCESSED),
        click.argument("script"),
        click.argument("name"),
        click.option("--package", "packages", metavar="NAME", multiple=True, help="Pack it."),
        click.option("--memory", default="512MiB", show_default=True, help="Of the guest."),
        click.option("--timeout", type=click.FloatRange(min=0, min_open=True), help="In seconds."),
    ):
        function = option(function)
    return function


@click.group()
def snapshot() -> None:
    """Keep prepared guests on disk, and run scripts from there.

    NAME is one in the user's own folder of snapshots, or a path if it has a slash in it.
    """


def _place(name: str) -> Path:
    if "/" in name:
        return Path(name)
    if name.startswith("."):
        raise click.UsageError(f"{name!r} is no name for a snapshot")
    return _folder() / name


def _folder() -> Path:
    return Path(platformdirs.user_data_dir("hyperlight")) / "snapshots"


@snapshot.command(cls=PluginOptionsCommand, context_settings=_SETTINGS)
@_script_options
@click.option("--parent", metavar="NAME", help="Store only what differs from that snapshot.")
@click.pass_context
def save(ctx: click.Context, /, *, name: str, parent: str | None, **settings: Any) -> int:
    """Run the Python SCRIPT in a new sandbox and keep as NAME what it has become."""
    place = _place(name)
    if place.exists():
        raise ConfigurationError(f"there is a snapshot {name} already")
    over = None if parent is None else _place(parent)
    with _sandbox(ctx, None if over is None else load_snapshot(over), **settings) as sandbox:
        status = _run(sandbox, **settings)
        if status == 0:
            sandbox.snapshot().save(place, parent=over)
    return status


@snapshot.command(cls=PluginOptionsCommand, context_settings=_SETTINGS)
@_script_options
@click.option("--verify/--no-verify", default=True, help="Compare the checksums first.")
@click.pass_context
def run(ctx: click.Context, /, *, name: str, verify: bool, **settings: Any) -> int:
    """Run the Python SCRIPT in a sandbox that begins at the snapshot NAME."""
    start = load_snapshot(_place(name), verify=verify)
    with _sandbox(ctx, start, **settings) as sandbox:
        return _run(sandbox, **settings)


def _sandbox(ctx: click.Context, start: Snapshot | None, **settings: Any) -> Sandbox:
    with progress_bar() as progress:
        image = find_guest("python", {"packages": settings["packages"]}, progress)
    return Sandbox(
        image,
        plugins=plugin_configurations(ctx),
        memory=settings["memory"],
        timeout=settings["timeout"],
        stream=Output(as_json=False),
        start=start,
    )


def _run(sandbox: Sandbox, *, script: str, arguments: tuple[str, ...], **_: Any) -> int:
    return sandbox.run(read_script(script), argv=[script, *arguments]).exit_code


@snapshot.command("ls")
def list_snapshots() -> None:
    """List the user's snapshots, with what they take on the disk and need to run."""
    table = Table("snapshot", "size", "memory", "parent", "plugins")
    for place in sorted(_folder().glob("[!.]*")):
        try:
            table.add_row(place.name, *_described(open_snapshot(place, verify=False)))
        except (ConfigurationError, OSError) as error:
            table.add_row(place.name, "", "", "", str(error))
    Console().print(table)


def _described(found: SavedSnapshot) -> tuple[str, ...]:
    manifest = found.manifest
    size = 512 * sum(path.stat().st_blocks for path in found.path.iterdir())
    parent = manifest.parent.name if manifest.parent else ""
    return decimal(size), decimal(manifest.memory), parent, " ".join(manifest.plugins)


@snapshot.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def verify(names: tuple[str, ...]) -> None:
    """Compare the checksums of snapshots and of their parents."""
    for name in names:
        open_snapshot(_place(name))
        click.echo(f"{name}: good")


@snapshot.command("rm")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def remove(names: tuple[str, ...]) -> None:
    """Remove snapshots."""
    for name in names:
        place = _place(name)
        if not (place / "manifest.json").is_file() or place.is_symlink():
            raise click.UsageError(f"there is no snapshot {name!r}")
        shutil.rmtree(place)
        click.echo(name)
