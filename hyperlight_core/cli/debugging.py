"""`--gdb` and `--core`: what `hyperlight run` and `hyperlight exec` have for debugging."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import click

from hyperlight_core.errors import GuestExitedError
from hyperlight_core.guests import GuestImage
from hyperlight_core.machine import Machine
from hyperlight_core.sandbox import Sandbox
from hyperlight_core.vm import Vm, VmFactory

if TYPE_CHECKING:
    from hyperlight_core.debug.crash_report import CrashReport
    from hyperlight_core.debug.gdb_stub import Debugger

__all__ = ["Debugging", "core_option", "gdb_option", "tell_of_machine", "tell_of_sandbox"]

#: Exit statuses above are of programs that died of a signal.
_SIGNALLED = 128

gdb_option = click.option(
    "--gdb",
    "gdb_port",
    metavar="PORT",
    type=click.IntRange(0, 65535),
    help="Stop at the start and wait for gdb on this port; 0 takes a free one.",
)
core_option = click.option(
    "--core", metavar="FILE", help="Write an ELF core file if the guest crashes."
)


@dataclass
class Debugging:
    """The debugger of one run, if it has one.

    Attributes:
        vm: makes the micro-VM.
    """

    vm: VmFactory = Vm
    _debugger: Debugger | None = None

    @classmethod
    @contextlib.contextmanager
    def of(cls, guest: GuestImage, port: int | None) -> Iterator[Debugging]:
        """What a run with `--gdb` of that port needs, or without it."""
        if port is None:
            yield cls()
            return
        from hyperlight_core.debug.gdb_stub import Debugger  # noqa: PLC0415 - few runs need it

        with contextlib.closing(Debugger(guest, port, waiting=lambda: _tell(debugger))) as debugger:
            yield cls(debugger, debugger)

    def stop_next(self) -> None:
        """Have the guest that runs next wait for gdb."""
        if self._debugger is not None:
            self._debugger.stop_next()


def _tell(debugger: Debugger) -> None:
    click.echo(f"hyperlight: waiting for gdb: target remote localhost:{debugger.port}", err=True)


def tell_of_sandbox(sandbox: Sandbox, core: str | None) -> None:
    """Print the report of a guest that has crashed, and write its core file if one is wanted."""
    if sandbox.status == "poisoned":
        _tell_of_crash(sandbox.crash_report(), sandbox.write_core, core)


def tell_of_machine(machine: Machine, core: str | None) -> None:
    """The same for a machine that is in use by the caller."""
    failure = machine.failure
    if failure is None or (isinstance(failure, GuestExitedError) and failure.status <= _SIGNALLED):
        return
    from hyperlight_core.debug.core_file import write_core  # noqa: PLC0415 - few runs need them
    from hyperlight_core.debug.crash_report import crash_report  # noqa: PLC0415

    _tell_of_crash(crash_report(machine), partial(write_core, machine), core)


def _tell_of_crash(report: CrashReport, write: Callable[[str], None], core: str | None) -> None:
    if not report.crashed:
        return
    click.echo(report, err=True)
    if core is not None:
        write(core)
