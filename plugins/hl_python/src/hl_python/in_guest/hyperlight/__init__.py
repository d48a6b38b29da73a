"""Calls what the host has granted: `hyperlight.tools.lookup(sku="A1")`.

`hyperlight.<namespace>.<verb>(name=value, …)` is `hyperlight.call("<namespace>.<verb>", …)`.
`help(hyperlight.fs.stat)`, `inspect.signature` and `dir` ask the host what there is.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable
from itertools import count
from typing import Any

from ._channel import Receiver, frame
from ._errors import HostError, InvalidParamsError, MethodNotFoundError, from_reply

__all__ = ["HostError", "InvalidParamsError", "MethodNotFoundError", "call", "call_raw"]

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode
_scan: Callable[[str, int], tuple[dict[str, Any], int]]
_scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
_identifiers = count(1)
#: Channels no call is using. Taking one is atomic, so threads and finalizers never share a channel.
_idle: list[Receiver] = []


def call(method: str, /, **params: Any) -> Any:
    """The result of a host function.

    Args:
        method: its name, such as "fs.stat".
        **params: its parameters, values that JSON can express.

    Raises:
        HostError: the host function refused or failed; also an OSError where POSIX has a name.
        MethodNotFoundError: there is no such function, or it was not granted.
        TypeError: a parameter is not expressible in JSON.
    """
    return call_raw(method, params)[0]


def call_raw(
    method: str, params: dict[str, Any] | None = None, attachment: bytes = b""
) -> tuple[Any, bytes]:
    """The result and the binary attachment of a host function, given a binary attachment.

    Raises the same as `call`, and OSError with EMSGSIZE if the request is too large for a frame.
    """
    request = {"jsonrpc": "2.0", "id": next(_identifiers), "method": method, "params": params or {}}
    message = frame(_encode(request).encode(), attachment)
    channel = _idle.pop() if _idle else Receiver(os.open("/dev/hl-call", os.O_RDWR))
    try:
        os.write(channel.descriptor, message)
        text, data = channel.receive()
        response, _ = _scan(text, 0)
        while "method" in response:  # a request of the host's, before its response to ours
            _servers[-1](channel.descriptor, text)
            text, data = channel.receive()
            response, _ = _scan(text, 0)
    finally:
        _idle.append(channel)
    if "error" in response:
        raise from_reply(response["error"])
    return response["result"], data


def _refuse(descriptor: int, text: str) -> None:
    # What answers the host's requests is the driver, if this program is one.
    error = {"code": -32601, "message": "this program serves no requests"}
    response = {"jsonrpc": "2.0", "id": _scan(text, 0)[0]["id"], "error": error}
    os.write(descriptor, frame(_encode(response).encode()))


#: The last one answers.
_servers = [_refuse]


class _Function:
    # A host function, or a namespace of them, by its dotted name. What it says of itself is that
    # of the host function, so it has no docstring of its own.
    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> _Function:
        return _member(f"{self._name}.{name}", name)

    def __call__(self, **params: Any) -> Any:
        return call(self._name, **params)

    def __repr__(self) -> str:
        return f"<host function {self._name}>"

    def __dir__(self) -> list[str]:
        return _helper().members(f"{self._name}.")  # type: ignore[no-any-return]

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        return _helper().text(self._name)  # type: ignore[no-any-return]

    @property
    def __signature__(self) -> Any:
        return _helper().signature(self._name)


def _member(path: str, name: str) -> _Function:
    if name.startswith("_"):  # what Python itself looks for, and modules of this package
        raise AttributeError(name)
    return _Function(path)


def _helper() -> Any:
    # Most guests never ask, and `inspect` takes long to import.
    return importlib.import_module("._help", __name__)


def __getattr__(name: str) -> Any:
    if name == "http":  # what most guests never use
        return importlib.import_module(".http", __name__)
    return _member(name, name)


def __dir__() -> list[str]:
    return [*__all__, *_helper().members("")]
