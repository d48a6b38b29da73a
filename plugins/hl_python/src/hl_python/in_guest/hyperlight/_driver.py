"""Serves the host's requests in the guest's interpreter: `run` some code, `call` a function.

The host resets the guest to the moment before it reads a request, so what happens between two
reads is what every run costs: few system calls, no imports, no needless objects.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib
import io
import json
import linecache
import os
import sys
import traceback
from collections.abc import Callable
from types import ModuleType, TracebackType
from typing import Any

from . import _idle, _reseed
from ._channel import Receiver, frame

#: What scripts import most: there before the first run, so that no run pays for it.
_USUAL = (
    *("base64", "collections", "contextlib", "copy", "csv", "dataclasses", "datetime", "enum"),
    *("functools", "io", "itertools", "json", "math", "operator", "os", "pathlib", "re", "string"),
    *("struct", "textwrap", "time", "types", "typing", "warnings"),
)
_DESCRIPTORS = "--descriptors"
_WARM_UP_ROUNDS = 32
_FAILED = -32000
_METHOD_NOT_FOUND = -32601
_INTERNAL_ERROR = -32603
#: The status of a shell's command that SIGINT ended.
_INTERRUPTED = 130

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode
_scan: Callable[[str, int], tuple[dict[str, Any], int]]
_scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]


class Server:
    """The `__main__` module that runs share, and what the host may ask of it."""

    def __init__(self) -> None:
        module = ModuleType("__main__")
        sys.modules["__main__"] = module
        self.names = vars(module)
        self.names["__builtins__"] = sys.modules["builtins"]
        self._runs = 0
        self._methods: dict[str, Callable[..., bytes]] = {"run": self.run, "call": self.call}

    def answer(self, text: str) -> bytes:
        """The JSON of the response to the JSON-RPC request in `text`."""
        request = _scan(text, 0)[0]
        identifier = request["id"]
        try:
            method = self._methods[request["method"]]
        except KeyError:
            return _error(identifier, _METHOD_NOT_FOUND, f"no method {request['method']!r}", {})
        try:
            return method(identifier, **request["params"])
        except Exception as error:  # noqa: BLE001 - the host must get an answer
            return _error(identifier, _INTERNAL_ERROR, repr(error), {})
        finally:
            _flush()

    def run(
        self, identifier: int, code: str, *, reseed: bool = False, argv: list[str] | None = None
    ) -> bytes:
        """Run code as if it were a script; the result has its exit status."""
        if reseed:
            _reseed.reseed()
        status = self._execute(code, argv)
        return b'{"jsonrpc":"2.0","id":%d,"result":{"exit_code":%d}}' % (identifier, status)

    def _execute(self, code: str, argv: list[str] | None) -> int:
        self._runs += 1
        name = f"<run {self._runs}>"
        if argv:
            sys.argv = argv
            name = self.names["__file__"] = argv[0]
        # Without a time of change the entry stays: later runs may fail in this one's functions.
        linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
        try:
            exec(compile(code, name, "exec", dont_inherit=True), self.names)  # noqa: S102
        except SystemExit as error:
            return _exit_status(error.code)
        except KeyboardInterrupt as error:
            _report(error)
            return _INTERRUPTED
        except BaseException as error:  # noqa: BLE001 - the interpreter ends with it, this one not
            _report(error)
            return 1
        return 0

    def call(
        self,
        identifier: int,
        function: str,
        args: list[Any],
        kwargs: dict[str, Any],
        *,
        reseed: bool = False,
    ) -> bytes:
        """Call a function of `__main__`; the result has its value."""
        if reseed:
            _reseed.reseed()
        if not callable(self.names.get(function)):
            message = f"the guest has no function {function!r}: an earlier run must define it"
            return _error(identifier, _FAILED, message, {"type": "NameError", "traceback": ""})
        try:
            value = _encode(self.names[function](*args, **kwargs)).encode()
        except BaseException as error:  # noqa: BLE001 - it belongs to the caller
            return _failure(identifier, error)
        return b'{"jsonrpc":"2.0","id":%d,"result":{"value":%b}}' % (identifier, value)

    def forget(self) -> None:
        """Forget the runs so far, except for what they have defined."""
        self._runs = 0
        linecache.clearcache()


def _exit_status(code: object) -> int:
    """What the interpreter makes of the argument of sys.exit()."""
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)  # noqa: T201 - what sys.exit() does with a text
    return 1


def _report(error: BaseException) -> None:
    """Show an exception as the interpreter would, without the driver's frame."""
    own = error.__traceback__
    sys.excepthook(type(error), error, own.tb_next if own else None)


def _print_exception(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None, /
) -> None:
    """Like sys.__excepthook__, which reads source lines from files only."""
    if sys.stderr is not None:
        sys.stderr.write("".join(traceback.format_exception(kind, error, trace)))


def _failure(identifier: int, error: BaseException) -> bytes:
    own = error.__traceback__
    lines = traceback.format_exception(type(error), error, own.tb_next if own else None)
    data = {"type": type(error).__name__, "traceback": "".join(lines)}
    return _error(identifier, _FAILED, str(error), data)


def _error(identifier: int, code: int, message: str, data: dict[str, str]) -> bytes:
    error = {"code": code, "message": message, "data": data}
    # The host refuses lone surrogates; a message may contain some.
    return _encode({"jsonrpc": "2.0", "id": identifier, "error": error}).encode(errors="replace")


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # closed or replaced by the program: its own affair
            stream.flush()


def serve(server: Server, receiver: Receiver) -> None:
    """Answer requests until there are no more. Reading one parks the guest."""
    while True:
        try:
            text, _ = receiver.receive()
        except EOFError:
            return
        reply = server.answer(text)
        try:
            os.write(receiver.descriptor, frame(reply))
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            identifier = _scan(text, 0)[0]["id"]
            os.write(receiver.descriptor, frame(_too_large(identifier, len(reply))))


def _too_large(identifier: int, size: int) -> bytes:
    message = f"the value is too large for a reply: {size} bytes of JSON"
    return _error(identifier, _FAILED, message, {"type": "OverflowError", "traceback": ""})


def _warm_up(server: Server) -> None:
    """Take every path a few times, so that later runs find caches filled and change few pages."""
    streams = sys.stdout, sys.stderr
    run = '{"id":1,"method":"run","params":{"code":%s,"reseed":false}}'
    try:
        for code in ["print('hello')"] * _WARM_UP_ROUNDS + ["1/0", "("]:
            sys.stdout = io.TextIOWrapper(io.BytesIO())
            sys.stderr = io.TextIOWrapper(io.BytesIO(), line_buffering=True)
            server.answer(run % _encode(code))
    finally:
        sys.stdout, sys.stderr = streams
    server.forget()


def main(arguments: list[str]) -> None:
    """Import the modules named, park, and serve; see start.py for the arguments."""
    if arguments[:1] == [_DESCRIPTORS]:
        descriptor = int(arguments[1])
        _idle.append(Receiver(int(arguments[2])))
        del arguments[:3]
    else:
        descriptor = os.open("/dev/hl-serve", os.O_RDWR)
    server = Server()
    sys.argv, sys.excepthook = [""], _print_exception
    sys.path.insert(0, "")
    for name in (*_USUAL, *arguments):
        importlib.import_module(name)
    _warm_up(server)
    gc.collect()
    gc.freeze()  # collections of a run look at what the run has made, not at all pages before it
    serve(server, Receiver(descriptor))
