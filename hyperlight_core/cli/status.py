"""What the `hyperlight` command ends with, and how it says what went wrong.

The statuses are those of timeout(1) and of container tools, so that scripts know them:

| status | meaning |
|---|---|
| 124 | a limit of the sandbox was reached: time, memory, output, host calls |
| 125 | hyperlight itself failed: options, KVM, a plugin, a guest that crashed |
| 126 | the script or program cannot be read or executed |
| 127 | the script or program is not there |
| 130 | interrupted from the keyboard |
| any | otherwise the guest's own status |
"""

from __future__ import annotations

from hyperlight_core.errors import GuestExitedError, LimitExceededError

__all__ = ["FAILED", "INTERRUPTED", "LIMIT_REACHED", "NOT_EXECUTABLE", "NOT_FOUND", "status_of"]

LIMIT_REACHED = 124
FAILED = 125
NOT_EXECUTABLE = 126
NOT_FOUND = 127
INTERRUPTED = 130


def status_of(error: BaseException) -> int:
    """The exit status that stands for `error`."""
    if isinstance(error, GuestExitedError):
        return error.status
    if isinstance(error, LimitExceededError):
        return LIMIT_REACHED
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    return FAILED
