"""`--trace`: a line on stderr for each host call."""

from __future__ import annotations

import click

from hyperlight_core.table import CallRecord

__all__ = ["print_call"]


def print_call(record: CallRecord) -> None:
    """Print the name of a host call, its time, and how it ended."""
    # What a guest asks for in vain, and the text of errors, may hold anything.
    name = record.method if record.function else ascii(record.method)
    ended = "ok" if record.code is None else f"{record.code} {record.message!a}"
    size = f"{record.received} B in, {record.sent} B out"
    click.echo(f"{name}  {record.seconds * 1e3:.3f} ms  {size}  {ended}", err=True)
