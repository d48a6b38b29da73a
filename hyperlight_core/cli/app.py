"""The command group, and one clear line on stderr for every error."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

import click

from hyperlight_core.cli.status import FAILED, INTERRUPTED, status_of
from hyperlight_core.errors import HyperlightError

__all__ = ["hyperlight", "run_command"]

#: Where each command is; imported when it is used.
_COMMANDS = {
    "bench": "hyperlight_core.cli.bench:bench",
    "doctor": "hyperlight_core.cli.inspection:doctor",
    "exec": "hyperlight_core.cli.guest:execute",
    "image": "hyperlight_core.cli.images:image",
    "plugins": "hyperlight_core.cli.inspection:plugins",
    "run": "hyperlight_core.cli.guest:run",
    "schema": "hyperlight_core.cli.inspection:schema",
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


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
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
        result = hyperlight.main(list(arguments), prog_name="hyperlight", standalone_mode=False)
    except click.ClickException as error:
        return _report(error.format_message(), FAILED)
    except click.Abort:
        return INTERRUPTED
    except Exception as error:
        if "--debug" in arguments[:1]:
            raise
        return _report(_describe(error), status_of(error))
    return result if isinstance(result, int) else 0


def _report(message: str, status: int) -> int:
    click.echo(f"hyperlight: {' '.join(message.split())}", err=True)
    return status


def _describe(error: Exception) -> str:
    if isinstance(error, HyperlightError | OSError):
        return str(error)
    return f"internal error, see `{sys.argv[0]} --debug`: {type(error).__name__}: {error}"
