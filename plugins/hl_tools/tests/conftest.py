"""What the conformance tests of the core are to call."""

from __future__ import annotations

from typing import Any, Literal


def repeat(text: str, times: Literal[1, 2, 3] = 1) -> str:
    """Say it again."""
    return text * times


async def add(numbers: list[int], start: int | None = None) -> int:
    """Add numbers up."""
    return sum(numbers, start or 0)


def pytest_hyperlight_configuration(plugin: str) -> dict[str, Any] | None:
    """Some tools, under limits."""
    limits = {"add": {"timeout": 5.0, "calls_per_run": 100}}
    return {"functions": [repeat, add], "limits": limits} if plugin == "tools" else None
