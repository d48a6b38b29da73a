"""The host-function table: everything a guest can reach on the host, and the way a call takes."""

from __future__ import annotations

import functools
import logging
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

from pydantic import BaseModel, RootModel, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from hyperlight_core import wire
from hyperlight_core.errors import (
    CallLimitError,
    ConfigurationError,
    HostFunctionError,
    InvalidParamsError,
    MethodNotFoundError,
    ProtocolError,
)
from hyperlight_core.functions import HostFunction, Model
from hyperlight_core.openrpc import DISCOVER, openrpc_document

__all__ = [
    "CallCheck",
    "CallObserver",
    "CallRecord",
    "HostFunctionTable",
    "RunContext",
    "Selection",
    "check_name",
]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

#: `namespace.verb`, or deeper; JSON-RPC 2.0 keeps names that begin with "rpc." for itself.
_NAME = re.compile(r"(?!rpc\.)[A-Za-z][A-Za-z0-9_-]*(\.[A-Za-z_][A-Za-z0-9_-]*)+")

#: Called with the function and the validated request before the handler; see `dispatch`.
CallCheck: TypeAlias = Callable[[HostFunction, BaseModel], None]


class CallRecord(NamedTuple):
    """One host call that has been answered.

    Attributes:
        method: what the guest asked for; if `function` is None, any text it likes.
        function: what answered, or None if there is no such host function.
        code: the JSON-RPC error code it answered with instead of a result, or None.
        message: the text of that error, or "".
        seconds: how long it took.
        received: bytes of the request's attachment.
        sent: bytes of the answer, JSON and attachment.
    """

    method: str
    function: HostFunction | None
    code: int | None
    message: str
    seconds: float
    received: int
    sent: int


#: A host function's name, a namespace such as "fs.*", or a rule.
Selection: TypeAlias = str | Callable[[HostFunction], bool]

#: Called with the record of each host call after it; what it raises stops the run.
CallObserver: TypeAlias = Callable[[CallRecord], None]


class RunContext(Protocol):
    """What a handler may ask about the run it is called from; the members are those of HostCall."""

    @property
    def run(self) -> int:
        """A number that differs for every run."""

    @property
    def deadline(self) -> float | None:
        """When the run times out."""

    @property
    def cancelled(self) -> bool:
        """Whether the sandbox was killed."""

    @property
    def wake_fd(self) -> int:
        """Polls readable once the sandbox is killed; -1 for never."""


class _NoRun:
    """A call that belongs to no run: it never ends early."""

    run = 0
    deadline = None
    cancelled = False
    wake_fd = -1


_NO_RUN = _NoRun()


def check_name(name: str) -> None:
    """Raise ConfigurationError unless `name` is a well-formed host-function name."""
    if len(name) > wire.TEXT_LIMIT or not _NAME.fullmatch(name):
        raise ConfigurationError(f"{name!r} is no host-function name such as 'fs.read'")


class _Call:
    """The HostCall of one dispatch."""

    __slots__ = ("_attachment", "_buffer", "_context", "_handed", "reach", "size")

    def __init__(self, attachment: memoryview, reply: memoryview, context: RunContext) -> None:
        self._attachment, self._buffer, self._context = attachment, reply, context
        self._handed = attachment
        self.size = 0
        self.reach = 0

    @property
    def attachment(self) -> memoryview:
        return self._attachment

    @property
    def reply_limit(self) -> int:
        return max(0, len(self._buffer) - wire.BULK_OFFSET)

    def reply_buffer(self, size: int) -> memoryview:
        if not 0 <= size <= self.reply_limit:
            raise CallLimitError(
                f"the guest's buffer takes {self.reply_limit} bytes, not {size}", errno="EMSGSIZE"
            )
        self.size, self.reach = size, max(self.reach, size)
        self._handed = self._buffer[wire.BULK_OFFSET : wire.BULK_OFFSET + size]
        return self._handed

    def reply_size(self, size: int) -> None:
        if not 0 <= size <= self.size:
            raise ValueError(f"{size} bytes of a reply buffer of {self.size}")
        self.size = size

    @property
    def run(self) -> int:
        return self._context.run

    @property
    def deadline(self) -> float | None:
        return self._context.deadline

    @property
    def cancelled(self) -> bool:
        return self._context.cancelled

    @property
    def wake_fd(self) -> int:
        return self._context.wake_fd

    def release(self) -> None:
        """Invalidate the views the handler was given, unless something still holds on to them."""
        for view in (self._attachment, self._handed):
            try:
                view.release()
            except BufferError:
                _log.warning("a handler keeps a view of guest memory")


class _InternalError(HostFunctionError):
    """All a guest learns of a handler's bug."""

    code = wire.INTERNAL_ERROR


class _Entry:
    """A host function made ready to be called."""

    __slots__ = ("function", "log", "parse", "serialize")

    def __init__(self, function: HostFunction) -> None:
        for model in (function.request, function.response):
            if not model.__pydantic_complete__:
                model.model_rebuild()
        self.function = function
        self.parse = function.request.__pydantic_validator__.validate_json
        self.serialize = function.response.__pydantic_serializer__.to_json
        self.log = logging.getLogger(f"hyperlight.plugin.{function.plugin or 'unnamed'}")

    def invoke(self, params: Any, call: _Call, check: CallCheck | None) -> bytes:
        """Validate, check, call, and return the result as JSON.

        Raises:
            HostFunctionError: the answer is an error.
        """
        function = self.function
        request = self._guarded(self._request, params)
        if check is not None:
            check(function, request)
        text = self._guarded(self._handle, request, call)
        if function.result_limit is not None and len(text) > function.result_limit:
            raise CallLimitError(f"the result is larger than {function.result_limit} bytes")
        return text

    def _guarded(self, step: Callable[..., _T], *arguments: Any) -> _T:
        """Turn what the plugin's code may raise into what the guest may know of it."""
        try:
            return step(*arguments)
        except HostFunctionError:
            raise
        except OSError as error:
            self.log.debug("%s failed", self.function.name, exc_info=True)
            raise HostFunctionError.from_os_error(error) from error
        except Exception as error:
            self.log.exception("%s failed", self.function.name)
            unsent = isinstance(error, PydanticSerializationError)
            reason = "internal error: the result is not JSON" if unsent else "internal error"
            raise _InternalError(reason) from error

    def _request(self, params: Any) -> BaseModel:
        if isinstance(params, list):
            raise InvalidParamsError("invalid params: they go by name, as an object")
        try:
            # Back to text, because only JSON mode is strict and yet knows enums, dates and tuples.
            request: BaseModel = self.parse(to_json(params), strict=True)
        except ValidationError as error:
            raise InvalidParamsError(f"invalid params: {wire.describe(error)}") from None
        return request

    def _handle(self, request: BaseModel, call: _Call) -> bytes:
        function = self.function
        if function.wants_call:
            result = function.handler(request, call)
        else:
            result = function.handler(request)
        if not isinstance(result, function.response):
            raise TypeError(f"{function.name} returned {type(result).__name__}")
        return self.serialize(result, by_alias=True)


class _DiscoverRequest(Model):
    """`rpc.discover` takes no parameters."""


class _Document(RootModel[dict[str, Any]]):
    """An OpenRPC document."""


class HostFunctionTable(Mapping[str, HostFunction]):
    """A frozen mapping from names to host functions that answers a guest's calls.

    Attributes:
        version: differs from that of every other table, those of other processes included: a guest
            may have been snapshotted under one of theirs.

    Args:
        functions: what the table grants.

    Raises:
        ConfigurationError: a name is malformed or given twice.
    """

    def __init__(self, functions: Iterable[HostFunction] = ()) -> None:
        self.version = secrets.randbits(63)
        self._entries: dict[str, _Entry] = {}
        for function in functions:
            check_name(function.name)
            other = self._entries.setdefault(function.name, _Entry(function)).function
            if other is not function:
                raise ConfigurationError(
                    f"both plugin {other.plugin!r} and plugin {function.plugin!r} offer"
                    f" {function.name!r}"
                )

    def __getitem__(self, name: str) -> HostFunction:
        return self._entries[name].function

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.version}: {', '.join(self)}>"

    def select(self, *wanted: Selection) -> HostFunctionTable:
        """A table with only the functions that at least one of `wanted` selects.

        Args:
            wanted: names, namespaces such as "fs.*", or predicates; none selects nothing.

        Returns:
            This table itself, with its version, if all of it is selected.

        Raises:
            ConfigurationError: a name or a namespace selects nothing.
        """
        kept = set().union(*map(self._selected, wanted))
        if len(kept) == len(self):
            return self
        return HostFunctionTable(function for name, function in self.items() if name in kept)

    def _selected(self, wanted: str | Callable[[HostFunction], bool]) -> set[str]:
        if callable(wanted):
            return {name for name, function in self.items() if wanted(function)}
        prefix = wanted.removesuffix("*") if wanted.endswith(".*") else None
        found = {name for name in self if name == wanted or (prefix and name.startswith(prefix))}
        if not found:
            offered = ", ".join(self) or "nothing"
            raise ConfigurationError(f"{wanted!r} selects no host function; there is {offered}")
        return found

    def dispatch(
        self,
        request: memoryview,
        reply: memoryview,
        context: RunContext = _NO_RUN,
        check: CallCheck | None = None,
        observe: CallObserver | None = None,
    ) -> int:
        """Answer the request frame in one buffer with a response frame in the other.

        Whatever the guest wrote gets an answer; a notification gets a frame without JSON.

        Args:
            request: the guest's out buffer.
            reply: the guest's in buffer, at least 4 KiB.
            context: the run this call belongs to.
            check: called before each handler. A HostFunctionError it raises is the answer; any
                other exception is passed on, as are KeyboardInterrupt and its like from handlers.
            observe: told of each call after it.

        Returns:
            How many bytes from the start of `reply` may have been written.
        """
        try:
            frame = wire.read_frame(request)
            message = wire.parse_json(frame.text)
        except ProtocolError as error:
            return wire.write_frame(reply, wire.error_text(None, wire.PARSE_ERROR, str(error)))
        call = _Call(frame.attachment, reply, context)
        try:
            if isinstance(message, list):
                text = self._batch(message, context, check, observe)
            else:
                text = self._answer(message, call, check, observe)
            end = _write(reply, text, call, message)
        finally:
            call.release()
        return max(end, wire.BULK_OFFSET + call.reach) if call.reach else end

    def _batch(
        self,
        messages: list[Any],
        context: RunContext,
        check: CallCheck | None,
        observe: CallObserver | None,
    ) -> bytes:
        if not 0 < len(messages) <= wire.BATCH_LIMIT:
            return wire.error_text(
                None, wire.INVALID_REQUEST, f"a batch has 1 to {wire.BATCH_LIMIT} calls"
            )
        nothing = memoryview(bytearray())
        answers = [
            self._answer(message, _Call(nothing, nothing, context), check, observe)
            for message in messages
        ]
        answers = [answer for answer in answers if answer]
        return b"[%b]" % b",".join(answers) if answers else b""

    def _answer(
        self, message: Any, call: _Call, check: CallCheck | None, observe: CallObserver | None
    ) -> bytes:
        """The response to one message, or nothing to a notification."""
        try:
            request = wire.parse_request(message)
        except ProtocolError as error:
            return wire.error_text(_id_of(message), wire.INVALID_REQUEST, str(error))
        entry, code, reason = self._entry(request.method), None, ""
        began = 0.0 if observe is None else time.perf_counter()
        try:
            if entry is None:
                raise MethodNotFoundError(f"no host function {request.method!r}")
            text = wire.result_text(request.id, entry.invoke(request.params, call, check))
        except HostFunctionError as error:
            # Not the exception itself: its frames may hold on to guest memory.
            call.size, code, reason = 0, error.code, error.message
            text = _failure(request.id, error, entry)
        if observe is not None:
            function = None if entry is None else entry.function
            seconds = time.perf_counter() - began
            received, sent = len(call.attachment), len(text) + call.size
            observe(CallRecord(request.method, function, code, reason, seconds, received, sent))
        return b"" if request.is_notification else text

    def _entry(self, method: str) -> _Entry | None:
        entry = self._entries.get(method)
        return self._discovery if entry is None and method == DISCOVER else entry

    @functools.cached_property
    def _discovery(self) -> _Entry:
        """What describes the table to the guest; most guests never ask."""
        document = _Document(openrpc_document(self.values()))
        doc = "The OpenRPC document of the host functions within reach."
        return _Entry(HostFunction(DISCOVER, lambda _: document, _DiscoverRequest, _Document, doc))


def _id_of(message: Any) -> wire.MessageId:
    """The id of a message that may not be a valid request; None where none can be made out."""
    found = message.get("id") if isinstance(message, dict) else None
    if isinstance(found, str):
        return found if len(found) <= wire.TEXT_LIMIT else None
    return found if type(found) is int else None


def _failure(request_id: wire.MessageId, error: HostFunctionError, entry: _Entry | None) -> bytes:
    data = dict(error.data)
    if entry is not None and entry.function.plugin:
        data["plugin"] = entry.function.plugin
    if error.errno_name is not None:
        data["errno"] = error.errno_name
    try:
        return wire.error_text(request_id, error.code, error.message, data)
    except PydanticSerializationError:
        _log.exception("the data of %r is not JSON", error)
        return wire.error_text(request_id, error.code, error.message)


def _write(reply: memoryview, text: bytes, call: _Call, message: Any) -> int:
    """Write the response, or the error that it does not fit."""
    try:
        return wire.write_frame(reply, text, placed=call.size)
    except ProtocolError:
        reason = "the response does not fit into the guest's buffer"
        text = wire.error_text(_id_of(message), CallLimitError.code, reason)
        return wire.write_frame(reply, text)
