"""What the `hyperlight` command ends with.

The statuses are those of timeout(1) and of container tools, so that scripts know them:

| status | meaning |
|---|---|
| 124 | a limit of the sandbox was reached: time, memory, output, host calls |
| 125 | hyperlight itself failed: options, KVM, a plugin, a guest that crashed |
| 126 | the script or program cannot be read or executed |
| 127 | the script or program is not there |
| 130 | interrupted from the keyboard |
| 141 | nobody reads the output any more |
| any | otherwise the guest's own status |
"""

from __future__ import annotations

import click

from hyperlight_core.errors import GuestExitedError, LimitExceededError

__all__ = ["NotExecutableError", "NotFoundError", "status_of"]


class NotExecutableError(click.ClickException):
    """The script or program cannot be read or executed."""

    exit_code = 126


class NotFoundError(click.ClickException):
    """The script or program is not there."""

    exit_code = 127


_STATUSES: tuple[tuple[type[BaseException], int], ...] = (
    (LimitExceededError, 124),
    (click.Abort, 130),
    (KeyboardInterrupt, 130),
    (BrokenPipeError, 141),
)


def status_of(error: BaseException) -> int:
    """The exit status that stands for `error`."""
    if isinstance(error, GuestExitedError):
        return error.status
    if isinstance(error, NotExecutableError | NotFoundError):
        return error.exit_code
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 125)
