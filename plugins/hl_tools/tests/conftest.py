"""What the conformance tests of the core are to call; case names that stay the same."""

from __future__ import annotations

import re
from typing import Any, Literal


def pytest_make_parametrize_id(val: object) -> str:
    """The value as text, without the addresses of objects."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(val))


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
