"""Hyperlight: micro-VM sandboxes whose abilities are granted, one host function at a time."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hyperlight_core.errors import *  # noqa: F403 - the whole tree is public
from hyperlight_core.errors import __all__ as _errors
from hyperlight_core.sandbox import RunResult, Sandbox, Snapshot, load_snapshot

if TYPE_CHECKING:
    from hyperlight_core.async_sandbox import AsyncSandbox, AsyncSandboxPool
    from hyperlight_core.executor import SandboxExecutor
    from hyperlight_core.pool import SandboxPool

__all__ = [  # noqa: PLE0604 - all of them are strings
    *_errors,
    "AsyncSandbox",
    "AsyncSandboxPool",
    "RunResult",
    "Sandbox",
    "SandboxExecutor",
    "SandboxPool",
    "Snapshot",
    "load_snapshot",
]

#: What is imported on first use, because what it is built on takes long, and where it is.
_LATE = {
    "AsyncSandbox": "async_sandbox",
    "AsyncSandboxPool": "async_sandbox",
    "SandboxExecutor": "executor",
    "SandboxPool": "pool",
}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
