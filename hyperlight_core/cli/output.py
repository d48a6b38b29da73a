"""What a run prints: the guest's output as it comes, or all of it as one JSON object."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import click

from hyperlight_core.cli.status import status_of

__all__ = ["Output"]


class Output:
    """Takes the guest's output, and in the end reports the outcome.

    Args:
        as_json: whether to print one JSON object instead of the output itself.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._pieces: dict[str, list[bytes]] = {"stdout": [], "stderr": []}

    def __call__(self, stream: str, data: bytes) -> None:
        """Take a piece of "stdout" or "stderr"."""
        if self._as_json:
            self._pieces[stream].append(data)
            return
        target = sys.stdout.buffer if stream == "stdout" else sys.stderr.buffer
        target.write(data)
        target.flush()

    def report(self, job: Callable[[], int]) -> int:
        """Do the job, which gives an exit status; print the outcome if it is wanted as JSON."""
        if not self._as_json:
            return job()
        started, error = time.perf_counter(), None
        try:
            status = job()
        except Exception as raised:  # noqa: BLE001 - whatever it is becomes part of the report
            status, error = (
                status_of(raised),
                {"type": type(raised).__name__, "message": str(raised)},
            )
        click.echo(
            json.dumps(
                {
                    name: b"".join(data).decode(errors="replace")
                    for name, data in self._pieces.items()
                }
                | {"exit_code": status, "duration": time.perf_counter() - started, "error": error}
            )
        )
        return status
