"""`hyperlight run` and `hyperlight exec`: a script or a program in a new sandbox."""

from __future__ import annotations

import io
import os
import shutil
import sys
import tokenize
from dataclasses import replace
from pathlib import Path

import click

from hyperlight_core.calls import Limits
from hyperlight_core.cli.debugging import (
    Debugging,
    core_option,
    gdb_option,
    tell_of_machine,
    tell_of_sandbox,
)
from hyperlight_core.cli.output import Output
from hyperlight_core.cli.plugin_options import PluginOptionsCommand, plugin_configurations
from hyperlight_core.cli.progress import progress_bar
from hyperlight_core.cli.status import NotExecutableError, NotFoundError
from hyperlight_core.cli.trace import print_call
from hyperlight_core.debug.last_calls import LastCalls
from hyperlight_core.errors import ConfigurationError, GuestExitedError
from hyperlight_core.guests import BootRequest, GuestImage, find_guest
from hyperlight_core.hookspecs import StateInfo
from hyperlight_core.image import pack_program
from hyperlight_core.machine import Machine, MachineSpec
from hyperlight_core.sandbox import Sandbox, parse_size
from hyperlight_core.vm import VmConfig

__all__ = ["execute", "read_script", "run"]

#: Options may stand on both sides of the script; what is unknown, or behind `--`, is its own.
_RUN_SETTINGS = {"ignore_unknown_options": True}
#: Options end at the program: what follows is the program's own.
_EXEC_SETTINGS = {"allow_interspersed_args": False}
#: What a program started by login(1) may expect; nothing of the host's environment.
_ENVIRONMENT = ("HOME=/tmp", "LANG=C.UTF-8", "PATH=/usr/local/bin:/usr/bin:/bin")
#: Asks the library OS for the list.
_EXPLAIN = "HYPERLIGHT_EXPLAIN=1"

_memory = click.option("--memory", default="512MiB", show_default=True, help="Memory of the guest.")
_timeout = click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), help="Wall-clock limit in seconds."
)
_output = click.option(
    "--output-limit", default="16MiB", show_default=True, help="Most it may print, in all."
)
_explain = click.option(
    "--explain",
    is_flag=True,
    help="List on stderr what is granted, and the system calls that were asked for in vain.",
)
_trace = click.option("--trace", is_flag=True, help="Print each host call with its time on stderr.")
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")


def _not_an_option(ctx: click.Context, _parameter: click.Parameter, value: str) -> str:
    if value.startswith("-") and value != "-":
        raise click.NoSuchOption(value, ctx=ctx)
    return value


@click.command(cls=PluginOptionsCommand, context_settings=_RUN_SETTINGS)
@click.argument("script", callback=_not_an_option)
@click.argument("arguments", metavar="[ARG]...", nargs=-1, type=click.UNPROCESSED)
@click.option("--package", "packages", metavar="NAME", multiple=True, help="Pack a distribution.")
@_memory
@_timeout
@_output
@_explain
@_trace
@gdb_option
@core_option
@_json
@click.pass_context
def run(
    ctx: click.Context,
    *,
    script: str,
    arguments: tuple[str, ...],
    packages: tuple[str, ...],
    memory: str,
    timeout: float | None,
    output_limit: str,
    explain: bool,
    trace: bool,
    gdb_port: int | None,
    core: str | None,
    as_json: bool,
) -> int:
    """Run the Python SCRIPT, or standard input if it is -, in a sandbox."""
    output = Output(as_json=as_json)

    def job() -> int:
        code = read_script(script)
        plugins = plugin_configurations(ctx)
        with progress_bar() as progress:
            image = find_guest("python", {"packages": packages}, progress)
        with Debugging.of(image, gdb_port) as debugging:
            sandbox = Sandbox(
                _explained(image) if explain else image,
                plugins=plugins,
                memory=memory,
                timeout=timeout,
                output_limit=parse_size(output_limit),
                stream=output,
                after_host_call=LastCalls(print_call if trace else None),
                cache=not explain,
                vm=debugging.vm,
            )
            with sandbox:
                if explain:
                    _print_granted(sandbox.explain())
                debugging.stop_next()
                try:
                    status = sandbox.run(code, argv=[script, *arguments]).exit_code
                finally:
                    tell_of_sandbox(sandbox, core)
                if explain:
                    sandbox.run("import os; os._exit(0)")
                return status

    return output.report(job)


def _explained(image: GuestImage) -> GuestImage:
    """The same guest, which lists unsupported system calls when it ends."""
    if image.boot is None:
        return image
    boot = replace(image.boot, env=(*image.boot.env, _EXPLAIN))
    return replace(image, boot=boot)


def _print_granted(lines: list[str]) -> None:
    for line in lines or ["nothing is granted"]:
        click.echo(line, err=True)


def read_script(script: str) -> str:
    """The source, decoded as Python does it."""
    try:
        source = sys.stdin.buffer.read() if script == "-" else Path(script).read_bytes()
        encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
        return io.TextIOWrapper(io.BytesIO(source), encoding).read()
    except FileNotFoundError:
        raise NotFoundError(f"{script}: no such file") from None
    except OSError as error:
        raise NotExecutableError(f"{script}: {error.strerror}") from error
    except (SyntaxError, UnicodeError) as error:
        raise NotExecutableError(f"{script}: not a Python script: {error}") from error


@click.command("exec", cls=PluginOptionsCommand, context_settings=_EXEC_SETTINGS)
@click.argument("program")
@click.argument("arguments", metavar="[ARG]...", nargs=-1, type=click.UNPROCESSED)
@_memory
@_timeout
@_output
@_explain
@_trace
@gdb_option
@core_option
@_json
@click.pass_context
def execute(
    ctx: click.Context,
    *,
    program: str,
    arguments: tuple[str, ...],
    memory: str,
    timeout: float | None,
    output_limit: str,
    explain: bool,
    trace: bool,
    gdb_port: int | None,
    core: str | None,
    as_json: bool,
) -> int:
    """Run a Linux PROGRAM of this machine, with the libraries it needs, in a sandbox."""
    output = Output(as_json=as_json)

    def job() -> int:
        with progress_bar() as progress:
            packed = pack_program(_find_program(program), progress=progress)
        boot = BootRequest((packed.path, *arguments), _ENVIRONMENT)
        image = GuestImage(program, packed.key, image=packed.image, boot=boot)
        with Debugging.of(image, gdb_port) as debugging:
            debugging.stop_next()
            spec = MachineSpec(
                _explained(image) if explain else image,
                VmConfig(parse_size(memory)),
                plugin_configurations(ctx),
                boot_limits=Limits(timeout, output=parse_size(output_limit)),
                stream=output,
                observe=LastCalls(print_call if trace else None),
                vm=debugging.vm,
            )
            return _run_to_end(spec, core, explain=explain)

    return output.report(job)


def _find_program(program: str) -> Path:
    found = shutil.which(program)
    if found:
        return Path(found)
    if shutil.which(program, os.F_OK):
        raise NotExecutableError(f"{program}: not an executable file")
    raise NotFoundError(f"{program}: no such program")


def _run_to_end(spec: MachineSpec, core: str | None, *, explain: bool) -> int:
    """Start the guest with everything its plugins grant; its exit status."""
    with Machine(spec) as machine, machine.using() as calls:
        if explain:
            _print_granted(machine.plugins.explain())
        table = machine.plugins.table
        machine.grant(table)
        machine.plugins.state_entered(StateInfo("exec", frozenset(table)))
        try:
            calls.boot(spec.guest.boot)
        except GuestExitedError as end:
            return end.status
        finally:
            tell_of_machine(machine, core)
    raise ConfigurationError(f"{spec.guest.name} waits for requests instead of running to an end")
