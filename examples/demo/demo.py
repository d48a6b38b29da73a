"""Runs an untrusted script in a micro-VM: what it may do, what it may not, and what that costs."""

from __future__ import annotations

import ast
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text
from stage import DENIED, REPORT, Stage

from hyperlight_core import Sandbox, SandboxTimeoutError
from hyperlight_core.cli.bench import measure, show
from hyperlight_core.cli.progress import progress_bar

console = Console()


def main() -> int:
    """Run all of it; 1 if the script fails or something it must not do works."""
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage.build(Path(folder))
        with progress_bar() as progress:
            sandbox = Sandbox("python", plugins=stage.plugins(), timeout=30.0, progress=progress)
        with sandbox:
            fine = show_report(sandbox, stage)
        fine &= show_denials(stage)
    console.print("\n[bold]What it costs here[/bold]")
    show(measure())
    return 0 if fine else 1


def show_report(sandbox: Sandbox, stage: Stage) -> bool:
    """The script at work; whether it did it."""
    console.print("[bold]What the script does with what it was granted[/bold]")
    result = sandbox.run(REPORT, argv=["report.py", "/data", "/out"])
    print(result.stdout + result.stderr, end="")
    for path in sorted(stage.out.iterdir()):
        print(f"wrote {path.name}, {path.stat().st_size} bytes, beginning:")
        print("".join(f"    {line}\n" for line in path.read_text().splitlines()[:6]), end="")
    print(f"in {result.duration * 1000:.0f} ms")
    return result.exit_code == 0


def show_denials(stage: Stage) -> bool:
    """What is forbidden, tried in earnest; whether none of it worked."""
    console.print("\n[bold]What it may not do, and what it is told[/bold]")
    table = Table("it tries to", Column("it is told", overflow="fold"))
    denied = True
    with listener() as port, Sandbox("python", plugins=stage.plugins(), timeout=0.5) as sandbox:
        for script in DENIED:
            told = try_denied(sandbox, script, port)
            denied &= told is not None
            outcome = Text("NOT DENIED", "bold red") if told is None else Text(told)
            table.add_row(purpose(script), outcome)
            sandbox.reset()
    console.print(table)
    return denied


def try_denied(sandbox: Sandbox, script: Path, port: int) -> str | None:
    """Run the script in the sandbox; what it was told, or None if it worked."""
    try:
        result = sandbox.run(script, argv=[script.name, "/data", str(port)])
    except SandboxTimeoutError as error:
        return f"(stopped) {error}"
    return result.stderr.strip().splitlines()[-1] if result.exit_code else None


def purpose(script: Path) -> str:
    """What a script tries, from its docstring."""
    text = ast.get_docstring(ast.parse(script.read_text())) or script.stem
    return text[0].lower() + text[1:].rstrip(".")


@contextmanager
def listener() -> Iterator[int]:
    """A port of the host on which connections would be accepted."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main())
