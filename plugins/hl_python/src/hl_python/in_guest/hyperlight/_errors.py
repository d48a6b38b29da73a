"""Errors that host functions answer with, as Python exceptions."""

from __future__ import annotations

import errno
from functools import cache
from typing import Any

_METHOD_NOT_FOUND = -32601
_INVALID_PARAMS = -32602
_DENIED = -32001


class HostError(Exception):
    """A host function refused or failed.

    Where the host names a POSIX error, the exception is also the matching OSError, so that
    `except FileNotFoundError` and `except PermissionError` work as for any file.

    Attributes:
        message: what the host says.
        code: the JSON-RPC error code.
        data: further facts the host gives, a dict.
    """

    def __init__(
        self, message: str, code: int = -32000, data: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.message, self.code, self.data = message, code, data or {}


class MethodNotFoundError(HostError, LookupError):
    """There is no such host function, or it was not granted."""


class InvalidParamsError(HostError, ValueError):
    """The host function does not take these parameters."""


def from_reply(error: dict[str, Any]) -> HostError:
    """The exception for the error object of a JSON-RPC response."""
    message, code, data = error["message"], error["code"], error.get("data") or {}
    number = getattr(errno, str(data.get("errno")), errno.EACCES if code == _DENIED else None)
    if code == _METHOD_NOT_FOUND:
        return MethodNotFoundError(message, code, data)
    if number is not None:
        refusal: Any = _os_error(number)(message, code, data)
        refusal.errno, refusal.strerror = number, message
        return refusal  # type: ignore[no-any-return]
    return (InvalidParamsError if code == _INVALID_PARAMS else HostError)(message, code, data)


@cache
def _os_error(number: int) -> type[HostError]:
    nearest = type(OSError(number, ""))  # such as FileNotFoundError
    name = f"Host{nearest.__name__}"
    return type(name, (HostError, nearest), {"__doc__": HostError.__doc__, "__module__": __name__})
