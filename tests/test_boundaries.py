"""What may import what: plugins use core's public names alone, and never each other."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORE = "hyperlight_core"
PLUGINS = sorted(path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml"))
FRAMES = ("sandbox.py", "states.py", "async_sandbox.py")


def imported(path: Path) -> Iterator[tuple[str, str]]:
    """Each module imported in a file, with the name taken from it or ""."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((name.name, "") for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((node.module, name.name) for name in node.names)


def private(module: str, name: str) -> bool:
    return any(part.startswith("_") for part in (*module.split("."), name) if part != "__init__")


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_plugin_imports_nothing_private_from_core(plugin: str) -> None:
    for path in (ROOT / "plugins" / plugin / "src").rglob("*.py"):
        for module, name in imported(path):
            if module.split(".")[0] == CORE:
                assert not private(module, name), f"{path}: {module}.{name}"


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_plugin_imports_no_other_plugin(plugin: str) -> None:
    others = set(PLUGINS) - {plugin}
    for path in (ROOT / "plugins" / plugin / "src").rglob("*.py"):
        assert not {module.split(".")[0] for module, _ in imported(path)} & others, path


def test_core_imports_no_plugin() -> None:
    for path in (ROOT / CORE).rglob("*.py"):
        assert not {module.split(".")[0] for module, _ in imported(path)} & set(PLUGINS), path


def test_importing_core_imports_no_plugin_and_starts_nothing() -> None:
    code = f"import {CORE}, sys, threading; print(sorted(sys.modules), threading.active_count())"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not [plugin for plugin in PLUGINS if f"'{plugin}" in found.stdout]
    assert found.stdout.split()[-1] == "1"


@pytest.mark.parametrize("file", FRAMES)
def test_the_sandbox_is_written_with_public_building_blocks(file: str) -> None:
    for module, name in imported(ROOT / CORE / file):
        if module.split(".")[0] == CORE:
            assert not private(module, name), f"{module}.{name}"
