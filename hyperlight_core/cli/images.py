"""`hyperlight image`: the packed files of guests, cached on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from hyperlight_core.cli.progress import progress_bar
from hyperlight_core.guests import find_guest
from hyperlight_core.image import image_directory

__all__ = ["image"]


@click.group()
def image() -> None:
    """Build, list and remove cached images."""


@image.command("build")
@click.option("--package", "packages", metavar="NAME", multiple=True, help="Pack a distribution.")
def build_image(packages: tuple[str, ...]) -> None:
    """Pack the python guest, so that the first run need not; print the image's name."""
    with progress_bar() as progress:
        guest = find_guest("python", {"packages": packages}, progress)
    click.echo(guest.image.stem if guest.image else guest.name)


@image.command("ls")
def list_images() -> None:
    """List the cached images with their sizes."""
    table = Table("image", "size")
    for path in _images():
        table.add_row(path.stem, decimal(path.stat().st_size))
    Console().print(table)


@image.command("rm")
@click.argument("names", nargs=-1, required=True, metavar="IMAGE...")
def remove_images(names: tuple[str, ...]) -> None:
    """Remove images, each named by its first characters; `all` removes every one."""
    for name in names:
        found = [path for path in _images() if name == "all" or path.stem.startswith(name)]
        if not found:
            raise click.UsageError(f"there is no image {name!r}")
        for path in found:
            path.unlink()
            click.echo(path.stem)


def _images() -> Iterator[Path]:
    yield from sorted(image_directory().glob("*.zip"))
