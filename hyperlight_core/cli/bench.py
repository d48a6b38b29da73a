"""`hyperlight bench`: what starting, resetting and running cost on this machine."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import click
from rich.console import Console
from rich.table import Table

from hyperlight_core.cli.progress import progress_bar
from hyperlight_core.sandbox import Sandbox

__all__ = ["Measure", "bench", "measure", "show"]

_CODE = "print('hello', 1 + 1)"


class Measure(NamedTuple):
    """One measurement.

    Attributes:
        name: what was done.
        seconds: how long it took, the median of `times`.
        times: how often it was done.
    """

    name: str
    seconds: float
    times: int


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def bench(*, as_json: bool) -> None:
    """Measure starts and resets of the python guest, beside the interpreter itself."""
    with progress_bar() as progress:
        Sandbox("python", progress=progress).close()
    measures = measure()
    if as_json:
        click.echo(json.dumps([found._asdict() for found in measures], indent=2))
    else:
        show(measures)


def measure() -> list[Measure]:
    """Each way to run one `print`, slowest first; the guest's image is packed already."""
    native = [sys.executable, "-c", _CODE]
    with Sandbox("python") as sandbox:
        return [
            _median("first start, no snapshot", 5, lambda: _start_and_run(cache=False)),
            _median(
                "python3 -c on the host",
                20,
                lambda: subprocess.run(native, stdout=subprocess.DEVNULL, check=True),
            ),
            _median("start from the snapshot", 20, lambda: _start_and_run(cache=True)),
            _median("reset and run", 500, lambda: _reset_and_run(sandbox)),
        ]


def _start_and_run(*, cache: bool) -> None:
    with Sandbox("python", cache=cache) as sandbox:
        sandbox.run(_CODE)


def _reset_and_run(sandbox: Sandbox) -> None:
    sandbox.reset()
    sandbox.run(_CODE)


def _median(name: str, times: int, job: Callable[[], object]) -> Measure:
    job()
    return Measure(name, statistics.median(_time(job) for _ in range(times)), times)


def _time(job: Callable[[], object]) -> float:
    started = time.perf_counter()
    job()
    return time.perf_counter() - started


def show(measures: list[Measure]) -> None:
    """Print the measurements as a table."""
    table = Table("printing one line", "median of", "milliseconds")
    table.columns[1].justify = table.columns[2].justify = "right"
    for found in measures:
        table.add_row(found.name, str(found.times), f"{found.seconds * 1000:.3f}")
    Console().print(table)
