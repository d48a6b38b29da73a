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
import re
import sys
import traceback
from _thread import RLock
from collections.abc import Callable, Mapping
from types import ModuleType, TracebackType
from typing import Any

from . import _idle, _reseed, _servers
from ._channel import Receiver, frame

#: What scripts import most: there before the first run, so that no run pays for it.
_USUAL = (
    *("base64", "collections", "contextlib", "copy", "csv", "dataclasses", "datetime", "enum"),
    *("functools", "io", "itertools", "json", "math", "operator", "os", "pathlib", "re", "string"),
    *("struct", "textwrap", "time", "types", "typing", "warnings"),
)
_DESCRIPTORS = "--descriptors"
_WARM_UP_ROUNDS = 32
_NO_KEYWORDS: Mapping[str, Any] = {}
_FAILED = -32000
_METHOD_NOT_FOUND = -32601
_INTERNAL_ERROR = -32603
#: Of CPython's small-object allocator (Objects/obmalloc.c) since 3.10. Where they are otherwise, as
#: in a free-threaded build, nothing is found and `_FREE_AT_MOST` bytes are spent on each size.
_POOL_SIZE = 16384
_POOL_HEADER_SIZE = 48
_FREE_AT_MOST = 65536
#: A frame is too large for its buffer, or for the memory that is left.
_NO_ROOM = (errno.EMSGSIZE, errno.ENOMEM)
#: The status of a shell's command that SIGINT ended.
_INTERRUPTED = 130

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode
_MANY_DIGITS = re.compile(r"\d{19}")
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
        #: Held by the thread that answers within a host call, and while the guest is parked: the
        #: host waits for the answer to its last request only.
        self.turn = RLock()
        self._methods: dict[str, Callable[..., bytes]] = {"run": self.run, "call": self.call}

    def answer(self, text: str) -> bytes:
        """The JSON of the response to the JSON-RPC request in `text`."""
        request = _scan(text, 0)[0]
        identifier, params = request["id"], request["params"]
        method = self._methods.get(request["method"])
        if method is None:
            return _error(identifier, _METHOD_NOT_FOUND, f"no method {request['method']!r}", {})
        try:
            if params.get("reseed"):
                _reseed.reseed()
            reply = method(identifier, params)
        except Exception as error:  # noqa: BLE001 - the host must get an answer
            reply = _error(identifier, _INTERNAL_ERROR, repr(error), {})
        _flush()
        return reply

    def answer_within(self, descriptor: int, text: str) -> None:
        """Answer a request that came in the middle of a host call over `descriptor`."""
        if self.turn.acquire(blocking=False):
            try:
                reply = self.answer(text)
            finally:
                self.turn.release()
        else:
            reply = _own_error(text, "RuntimeError", "another thread of the guest is at work")
        try:
            os.write(descriptor, frame(reply))
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            os.write(descriptor, frame(_too_large(text, len(reply))))

    def run(self, identifier: int, params: dict[str, Any]) -> bytes:
        """Run `code` as if it were a script called with `argv`; the result has its exit status."""
        try:
            status = self._execute(params["code"], params.get("argv"))
        except MemoryError as error:
            return _failure(identifier, error)
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
        except MemoryError as error:
            _report(error)
            raise
        except BaseException as error:  # noqa: BLE001 - the interpreter ends with it, this one not
            _report(error)
            return 1
        return 0

    def call(self, identifier: int, params: dict[str, Any]) -> bytes:
        """Call a `function` of `__main__` with `args` and `kwargs`; the result has its value."""
        name = params["function"]
        function = self.names.get(name)
        if not callable(function):
            message = f"the guest has no function {name!r}: an earlier run must define it"
            return _error(identifier, _FAILED, message, {"type": "NameError", "traceback": ""})
        try:
            value = function(*params.get("args", ()), **params.get("kwargs", {}))
        except BaseException as error:  # noqa: BLE001 - it belongs to the caller
            return _failure(identifier, error)
        try:
            text = _wire_text(value)
        except Exception as error:  # noqa: BLE001 - objects of the program, with hooks of their own
            return _failure(identifier, error, f"the value of {name!r} is not JSON: {error}")
        return b'{"jsonrpc":"2.0","id":%d,"result":{"value":%b}}' % (identifier, text)

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
    with contextlib.suppress(Exception):  # the program may have closed its stderr
        print(code, file=sys.stderr)  # noqa: T201 - what sys.exit() does with a text
    return 1


def _report(error: BaseException) -> None:
    """Show an exception as the interpreter would, without the driver's frame."""
    own = error.__traceback__
    trace = own.tb_next if own else None
    try:
        sys.excepthook(type(error), error, trace)
    except BaseException as failure:  # noqa: BLE001 - a hook of the program's, or its own stderr
        with contextlib.suppress(Exception):
            sys.stderr.write("Error in sys.excepthook:\n")
            _print_exception(type(failure), failure, failure.__traceback__)
            sys.stderr.write("\nOriginal exception was:\n")
            _print_exception(type(error), error, trace)


def _print_exception(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None, /
) -> None:
    """Like sys.__excepthook__, which reads source lines from files only."""
    sys.stderr.write("".join(traceback.format_exception(kind, error, trace)))


def _failure(identifier: int, error: BaseException, message: str | None = None) -> bytes:
    """The response for an exception; with a `message` of our own, its traceback says nothing."""
    own = error.__traceback__
    shown = own.tb_next if own and message is None else None
    lines = traceback.format_exception(type(error), error, shown)
    data = {"type": type(error).__name__, "traceback": "".join(lines)}
    return _error(identifier, _FAILED, str(error) if message is None else message, data)


def _wire_text(value: object) -> bytes:
    """The value as JSON that the host accepts, whose numbers have 64 bits."""
    text = _encode(value)
    if _MANY_DIGITS.search(text):
        json.loads(text, parse_int=_checked_integer)
    return text.encode()


def _checked_integer(digits: str) -> int:
    number = int(digits)
    if not -(1 << 63) <= number < 1 << 64:
        raise OverflowError("an integer of more than 64 bits")
    return number


def _error(identifier: int, code: int, message: str, data: dict[str, str]) -> bytes:
    error = {"code": code, "message": message, "data": data}
    # The host refuses lone surrogates; a message may contain some.
    return _encode({"jsonrpc": "2.0", "id": identifier, "error": error}).encode(errors="replace")


def _flush() -> None:
    """Write what is left. A program that closed or replaced a stream has to know what it does."""
    try:  # noqa: SIM105 - contextlib's way costs every run
        sys.stdout.flush()
    except Exception:  # noqa: BLE001, S110
        pass
    try:  # noqa: SIM105
        sys.stderr.flush()
    except Exception:  # noqa: BLE001, S110
        pass


def serve(server: Server, receiver: Receiver) -> None:
    """Answer requests until there are no more. Reading one parks the guest."""
    text = receiver.receive()[0]
    while text:
        reply = server.answer(text)
        with server.turn:
            try:
                text = _exchange(receiver, reply)
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                text = _exchange(receiver, _too_large(text, len(reply)))


def _exchange(receiver: Receiver, reply: bytes) -> str:
    os.write(receiver.descriptor, frame(reply))
    return receiver.receive()[0]


def _too_large(text: str, size: int) -> bytes:
    message = f"the value is too large for a reply: {size} bytes of JSON"
    return _own_error(text, "OverflowError", message)


def _own_error(text: str, kind: str, message: str) -> bytes:
    """The response to the request in `text` when no code of the program has failed."""
    return _error(_scan(text, 0)[0]["id"], _FAILED, message, {"type": kind, "traceback": ""})


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


def _fill_pools() -> list[object]:
    """Objects that take every free place in the allocator's pools that are in use.

    What a run allocates then comes from one new pool for each size, not from all over the memory:
    the fewer pages a run writes to, the fewer must be copied back by a reset.
    """
    filling: list[object] = []
    # Sizes go by 16 up to 512 bytes; the smallest bytes object has 33 and the allocator gives 48.
    for size in range(48, 513, 16):
        for _ in range(_FREE_AT_MOST // size):
            filling.append(bytes(size - sys.getsizeof(b"")))
            if id(filling[-1]) % _POOL_SIZE == _POOL_HEADER_SIZE:  # the first of a new pool
                break
    return filling


def main(arguments: list[str]) -> None:
    """Import the modules named, park, and serve; see start.py for the arguments."""
    if arguments[:1] == [_DESCRIPTORS]:
        descriptor = int(arguments[1])
        _idle.append(Receiver(int(arguments[2])))
        del arguments[:3]
    else:
        descriptor = os.open("/dev/hl-serve", os.O_RDWR)
    server = Server()
    _servers.append(server.answer_within)
    sys.argv, sys.excepthook = [""], _print_exception
    sys.path.insert(0, "")
    for name in (*_USUAL, *arguments):
        importlib.import_module(name)
    _warm_up(server)
    gc.collect()
    gc.freeze()  # collections of a run look at what the run has made, not at all pages before it
    gc.enable()
    receiver, filling = Receiver(descriptor), _fill_pools()
    serve(server, receiver)
    filling.clear()
