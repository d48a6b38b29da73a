"""The command group, and one clear line on stderr for every error."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

from hyperlight_core.cli.status import status_of
from hyperlight_core.errors import HyperlightError

__all__ = ["hyperlight", "run_command"]

#: Where each command is; imported when it is used.
_COMMANDS = {
    "run": "hyperlight_core.cli.guest:run",
    "exec": "hyperlight_core.cli.guest:execute",
    "plugins": "hyperlight_core.cli.inspection:plugins",
    "plugin": "hyperlight_core.cli.plugin_kit:plugin",
    "schema": "hyperlight_core.cli.schema:schema",
    "doctor": "hyperlight_core.cli.inspection:doctor",
    "image": "hyperlight_core.cli.images:image",
    "snapshot": "hyperlight_core.cli.snapshot:snapshot",
    "bench": "hyperlight_core.cli.bench:bench",
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's interface
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(
    cls=_LazyGroup,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="hyperlight-core", prog_name="hyperlight")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def hyperlight(*, debug: bool) -> None:
    """Run untrusted code in micro-VMs, with just the abilities you grant.

    The exit status is the guest's; 124 if a limit of the sandbox was reached, 125 if hyperlight
    itself failed, 126 or 127 if the script or program cannot be run or is not there.
    """


def run_command(arguments: Sequence[str]) -> int:
    """Run the command line without the program's name; the exit status."""
    try:
        # Not `main`, which has its own mind about closed pipes and usage errors.
        with hyperlight.make_context("hyperlight", list(arguments)) as ctx:
            result = hyperlight.invoke(ctx)
        sys.stdout.flush()
    except click.exceptions.Exit as end:
        return end.exit_code
    except (Exception, KeyboardInterrupt) as error:
        if "--debug" in arguments[:1]:
            raise
        _report(error)
        return status_of(error)
    return result if isinstance(result, int) else 0


def _report(error: BaseException) -> None:
    if isinstance(error, BrokenPipeError):
        # What is still buffered has nowhere to go, at the interpreter's end neither.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    elif not isinstance(error, KeyboardInterrupt | click.Abort):
        click.echo(f"hyperlight: {' '.join(_describe(error).split())}", err=True)


def _describe(error: BaseException) -> str:
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, HyperlightError | OSError):
        return str(error)
    return f"internal error, see `hyperlight --debug`: {type(error).__name__}: {error}"
