"""Hyperlight: micro-VM sandboxes whose abilities are granted, one host function at a time."""

from hyperlight_core.errors import *  # noqa: F403 - the whole tree is public
from hyperlight_core.errors import __all__ as _errors
from hyperlight_core.sandbox import RunResult, Sandbox, Snapshot

__all__ = [*_errors, "RunResult", "Sandbox", "Snapshot"]  # noqa: PLE0604 - all of them are strings
