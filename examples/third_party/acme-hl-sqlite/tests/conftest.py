"""A database, with something in it that nobody may read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hyperlight_core.plugins import PluginSet, load_plugins


def make(folder: Path) -> Path:
    """Write the database."""
    path = folder / "shop.db"
    if not path.exists():
        with closing(sqlite3.connect(path)) as database:
            database.executescript(
                "create table orders (id integer, price real, picture blob);"
                "insert into orders values (1, 2.5, null), (2, 7.5, x'00ff');"
                "create table customers (name text); insert into customers values ('secret');"
                "create view names as select name from customers;"
            )
    return path


def pytest_hyperlight_configuration(plugin: str, tmp_path: Path) -> dict[str, Any] | None:
    """What the conformance tests query."""
    return {"file": make(tmp_path), "seconds": 0.05} if plugin == "sqlite" else None


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return make(tmp_path)


@pytest.fixture
def configuration(database: Path) -> dict[str, Any]:
    return {"file": database, "tables": ["orders", "names"], "rows": 100, "seconds": 0.2}


@pytest.fixture
def plugins(configuration: dict[str, Any]) -> Iterator[PluginSet]:
    plugins = load_plugins({"sqlite": configuration})
    yield plugins
    plugins.closed()
