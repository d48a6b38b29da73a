"""Measures everything, prints the table and writes results.json; `run.py NAME…` measures some."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import pkgutil
import platform
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import rich
from measure import Result
from rich.table import Table

HERE = Path(__file__).parent


def main(names: list[str]) -> None:
    """Run the named families, or all."""
    known = [module.name for module in pkgutil.iter_modules([str(HERE / "suite")])]
    results: list[Result] = []
    for name in names or known:
        # In a process of its own, in which no other family has left a thousand VMs behind.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            results += process.submit(_measure, name).result()
    rich.print(_table(results))
    if not names:
        (HERE / "results.json").write_text(_document(results), encoding="utf-8")


def _measure(name: str) -> list[Result]:
    results = []
    for result in importlib.import_module(f"suite.{name}").measure():
        print(f"{result.name}: {result.value:.4g} {result.unit}", file=sys.stderr, flush=True)
        results.append(result)
    return results


def _document(results: list[Result]) -> str:
    machine = {"kernel": platform.release(), "python": platform.python_version()}
    rows = [result.row() for result in results]
    return json.dumps({"machine": machine, "results": rows}, indent=2) + "\n"


def _table(results: list[Result]) -> Table:
    table = Table("measure", "value", "beside", "ratio", "target", title="hyperlight for Python")
    for result in results:
        beside = f"{result.floor:.4g} {result.floor_name}" if result.floor else ""
        ratio = f"{result.ratio:.2f}" if result.ratio else ""
        mark = {True: "reached", False: "missed", None: ""}[result.reached]
        target = f"{result.target:g} {mark}" if result.target is not None else ""
        table.add_row(result.name, f"{result.value:.4g} {result.unit}", beside, ratio, target)
    return table


if __name__ == "__main__":
    main(sys.argv[1:])
