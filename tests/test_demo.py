"""The demo: its report is right, and what its sandbox denies works without a sandbox."""

from __future__ import annotations

import csv
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import demo
import pytest
from orders import CATALOGUE, ROWS, write_orders
from stage import DENIED, REPORT, Stage

from hyperlight_core import Sandbox

#: What the guest is told; a sandbox that denies by accident would say something else.
TOLD = {
    "call_function.py": "hyperlight.",
    "climb_out.py": "FileNotFoundError",
    "follow_link.py": "Error",
    "open_socket.py": "Error",
    "run_long.py": "(stopped)",
    "write_read_only.py": "OSError: [Errno 30] Read-only file system",
}


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage.build(tmp_path)


@contextmanager
def greeter() -> Iterator[int]:
    """A port of the host that greets one caller."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"hello from the host")

        thread = threading.Thread(target=greet, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(10)


def run_outside(script: Path, stage: Stage, port: int) -> str:
    """What the script prints in a plain process of this user."""
    command = [sys.executable, str(script), str(stage.data), str(port)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_the_orders_are_the_same_every_time(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_orders(tmp_path / name)
    lines = (tmp_path / "first").read_text().splitlines()
    assert len(lines) == 1 + ROWS
    assert (tmp_path / "second").read_text().splitlines() == lines


@pytest.mark.kvm
def test_the_report_agrees_with_the_orders(stage: Stage) -> None:
    """Computed here once more, on the host."""
    with Sandbox("python", plugins=stage.plugins()) as sandbox:
        result = sandbox.run(REPORT, argv=["report.py", "/data", "/out"])
    assert (result.stderr, result.exit_code) == ("", 0)
    report = json.loads((stage.out / "report.json").read_text())
    with (stage.data / "orders.csv").open(newline="") as file:
        orders = list(csv.DictReader(file))
    revenue = sum(int(row["quantity"]) * CATALOGUE[row["sku"]]["price"] for row in orders)
    assert (report["orders"], report["revenue_cents"]) == (len(orders), revenue)
    assert (stage.out / "report.md").read_text().startswith(f"# {len(orders)} orders\n")


def test_every_denied_script_says_what_it_tries() -> None:
    assert {script.name for script in DENIED} == set(TOLD)
    assert len({demo.purpose(script) for script in DENIED}) == len(DENIED)


@pytest.mark.kvm
@pytest.mark.parametrize("script", DENIED, ids=lambda script: script.stem)
def test_the_sandbox_denies_it(script: Path, stage: Stage) -> None:
    """And says why, in the guest's own terms; the secret is not in what it says."""
    orders = (stage.data / "orders.csv").read_bytes()
    plugins = stage.plugins()
    with demo.listener() as port, Sandbox("python", plugins=plugins, timeout=1.0) as sandbox:
        told = demo.try_denied(sandbox, script, port)
    assert told is not None
    assert TOLD[script.name] in told
    assert "secret" not in told.replace("secret.txt", "")
    assert (stage.data / "orders.csv").read_bytes() == orders


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("write_read_only.py", "wrote"),
        ("climb_out.py", "the host's secret"),
        ("follow_link.py", "the host's secret"),
        ("open_socket.py", "hello from the host"),
        ("run_long.py", "ran to its end"),
    ],
)
def test_the_same_script_works_outside(name: str, expected: str, stage: Stage) -> None:
    """So it is the sandbox that denies it."""
    script = next(path for path in DENIED if path.name == name)
    if name == "open_socket.py":
        with greeter() as port:
            assert run_outside(script, stage, port).strip() == expected
    else:
        assert run_outside(script, stage, 0).strip() == expected


@pytest.mark.kvm
def test_the_denied_function_works_where_it_is_granted() -> None:
    """Outside of a sandbox there is nothing to call, so this one runs with the grant."""
    script = next(path for path in DENIED if path.name == "call_function.py")
    granted = {"tools": {"functions": {"refund": refund}}}
    with Sandbox("python", plugins=granted) as sandbox:
        assert sandbox.run(script).stdout == "refunded order 1\n"


def refund(order: int) -> str:
    """Give the money back."""
    return f"refunded order {order}"


@pytest.mark.kvm
def test_the_whole_demo_runs() -> None:
    """As `make demo` runs it; nothing in it comes out as not denied."""
    script = Path(demo.__file__)
    result = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "5000 orders, 40 articles" in result.stdout
    assert "reset and run" in result.stdout
