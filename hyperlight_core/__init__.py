"""Hyperlight: micro-VM sandboxes whose abilities are granted, one host function at a time."""

from typing import TYPE_CHECKING, Any

from hyperlight_core.errors import *  # noqa: F403 - the whole tree is public
from hyperlight_core.errors import __all__ as _errors
from hyperlight_core.sandbox import RunResult, Sandbox, Snapshot

if TYPE_CHECKING:
    from hyperlight_core.async_sandbox import AsyncSandbox

__all__ = [  # noqa: PLE0604 - all of them are strings
    *_errors,
    "AsyncSandbox",
    "RunResult",
    "Sandbox",
    "Snapshot",
]


def __getattr__(name: str) -> Any:
    """AsyncSandbox on first use: what it is built on takes long to import."""
    if name != "AsyncSandbox":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from hyperlight_core.async_sandbox import AsyncSandbox  # noqa: PLC0415 - see above

    return AsyncSandbox
