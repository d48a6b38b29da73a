"""Frames and JSON-RPC 2.0: reads what a guest wrote and writes what it will read.

A frame (`struct hl_frame` in hl_abi.h) lies at the start of a buffer in guest memory: a header of
16 bytes, JSON behind it, and perhaps a binary attachment. The header is copied once and every size
in it is checked against the buffer before anything else is copied; the JSON is copied once and only
the copy is parsed; the attachment is not copied, because the guest stands still meanwhile.

What RFC 8259 leaves open is decided so that no two readers can see two things in one text:

| in a text from a guest | decision |
|---|---|
| a member name twice in one object | refused |
| NaN, Infinity, numbers too large for a double | refused |
| integers outside -2**63 ... 2**64 - 1 | refused |
| lone surrogates, bytes that are not UTF-8, a byte order mark | refused |
| NUL in a string | allowed: it marks the bytes of a file name that are not UTF-8 |
| nesting | up to `DEPTH_LIMIT` levels |
| members of all objects together | up to `MEMBER_LIMIT` |
| length of a string | up to the frame's; a request model may ask for less |

JSON-RPC 2.0 is followed to the letter, with these choices where it gives one: parameters go by
name; an id is an integer, a string of up to `TEXT_LIMIT` characters or null; a batch has up to
`BATCH_LIMIT` calls and no attachment. Where a notification must get no answer, the frame has no
JSON. Towards the guest, NaN and infinities become null.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple

import jiter
from pydantic import Field, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from hyperlight_core.errors import ProtocolError
from hyperlight_core.functions import Model

__all__ = [
    "ABI_VERSION",
    "BATCH_LIMIT",
    "BULK_OFFSET",
    "DEPTH_LIMIT",
    "HEADER_SIZE",
    "INTERNAL_ERROR",
    "INVALID_REQUEST",
    "MEMBER_LIMIT",
    "PARSE_ERROR",
    "TEXT_LIMIT",
    "Answer",
    "ErrorObject",
    "Frame",
    "Message",
    "MessageId",
    "Request",
    "Response",
    "describe",
    "error_text",
    "parse_json",
    "parse_request",
    "parse_response",
    "read_frame",
    "request_text",
    "result_text",
    "write_frame",
]

#: HL_ABI_VERSION and HL_FRAME_BULK_OFFSET of hl_abi.h.
ABI_VERSION: Final = 2
BULK_OFFSET: Final = 0x1000
HEADER: Final = struct.Struct("<4I")
HEADER_SIZE: Final = HEADER.size

#: What the parser itself refuses to go beyond.
DEPTH_LIMIT: Final = 201
MEMBER_LIMIT: Final = 65_536
TEXT_LIMIT: Final = 256
BATCH_LIMIT: Final = 64

#: JSON-RPC 2.0, section 5.1; the other codes are those of the exceptions in `errors`.
PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
INTERNAL_ERROR: Final = -32603

MessageId = int | Annotated[str, Field(max_length=TEXT_LIMIT)] | None

_USUAL_MEMBERS: Final = 4
_DIGITS = bytes.maketrans(b"123456789E+", b"000000000ee")  # so that 1E+400 has "e000" in it, too
_LONG_NUMBER = b"0" * 19


# ---- frames ------------------------------------------------------------------------------------


class Frame(NamedTuple):
    """A frame as read: `text` is a copy, `attachment` a read-only view of guest memory."""

    text: bytes
    attachment: memoryview


def read_frame(buffer: memoryview) -> Frame:
    """The frame at the start of `buffer`.

    Raises:
        ProtocolError: it has another ABI version or reaches out of the buffer.
    """
    room = len(buffer)
    if room < HEADER_SIZE:
        raise ProtocolError(f"a buffer of {room} bytes has no room for a frame")
    version, json_size, offset, size = HEADER.unpack_from(buffer)
    if version != ABI_VERSION:
        raise ProtocolError(f"the frame has ABI version {version}, the host has {ABI_VERSION}")
    json_end = HEADER_SIZE + json_size
    if json_end > room:
        raise ProtocolError(f"{json_size} bytes of JSON reach out of the buffer")
    if size and (offset < json_end or offset + size > room):
        raise ProtocolError(f"an attachment of {size} bytes at {offset} is not behind the JSON")
    text = bytes(buffer[HEADER_SIZE:json_end])
    attachment = buffer[offset : offset + size].toreadonly() if size else memoryview(b"")
    return Frame(text, attachment)


def write_frame(
    buffer: memoryview, text: bytes, attachment: bytes | memoryview = b"", *, placed: int = 0
) -> int:
    """Write a frame to the start of `buffer`; return the bytes from its start to the frame's end.

    Args:
        buffer: where to.
        text: the JSON; may be empty.
        attachment: copied behind the JSON.
        placed: size in bytes of an attachment that lies at BULK_OFFSET already; instead of
            `attachment`.

    Raises:
        ProtocolError: the buffer is too small.
    """
    json_end = HEADER_SIZE + len(text)
    size = placed or len(attachment)
    offset = BULK_OFFSET if size and (placed or json_end <= BULK_OFFSET) else json_end
    end = offset + size
    if end > len(buffer) or json_end > offset:
        raise ProtocolError(f"a frame of {json_end + size} bytes does not fit into the buffer")
    buffer[:json_end] = HEADER.pack(ABI_VERSION, len(text), offset if size else 0, size) + text
    if attachment:
        buffer[offset:end] = attachment
    return end


# ---- JSON --------------------------------------------------------------------------------------


def parse_json(text: bytes) -> Any:
    """The value of a JSON text from a guest, under the rules of this module.

    Raises:
        ProtocolError: it breaks one of them.
    """
    if text.count(b":") > MEMBER_LIMIT and _members(text) > MEMBER_LIMIT:
        raise ProtocolError(f"the JSON has more than {MEMBER_LIMIT} members")
    try:
        value = jiter.from_json(
            text, allow_inf_nan=False, cache_mode="keys", catch_duplicate_keys=True
        )
    except ValueError as error:
        raise ProtocolError(f"malformed JSON: {error}") from None
    # A number outside 64 bits has at least 19 digits; one outside a double has as many, or an
    # exponent of three. Only texts with such a thing are looked through value by value.
    if len(text) >= len(_LONG_NUMBER) or b"e" in text or b"E" in text:
        digits = text.translate(_DIGITS)
        if _LONG_NUMBER in digits or b"e000" in digits:
            _check_numbers(value)
    return value


def _members(text: bytes) -> int:
    """The number of colons outside strings: without escapes, quotes delimit the strings."""
    plain = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    return sum(part.count(b":") for part in plain.split(b'"')[::2])


def _check_numbers(value: Any) -> None:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
        elif isinstance(item, int) and not -(2**63) <= item < 2**64:
            raise ProtocolError("an integer does not fit into 64 bits")
        elif isinstance(item, float) and item - item != 0:
            raise ProtocolError("a number does not fit into a double")


# ---- JSON-RPC 2.0 ------------------------------------------------------------------------------


class Message(NamedTuple):
    """What a request asks for; `is_notification` says that the caller must get no answer."""

    method: str
    params: dict[str, Any] | list[Any]
    id: MessageId
    is_notification: bool


class Request(Model):
    """A request as it is sent."""

    jsonrpc: Literal["2.0"]
    method: Annotated[str, Field(max_length=TEXT_LIMIT)]
    params: dict[str, Any] | list[Any] = Field(default_factory=dict)
    id: MessageId = None


class ErrorObject(Model):
    """The `error` member of a response."""

    code: int
    message: str
    data: Any = None


class Response(Model):
    """A response as it is sent."""

    jsonrpc: Literal["2.0"]
    id: MessageId
    result: Any = None
    error: ErrorObject | None = None


class Answer(NamedTuple):
    """What a response says: `error` is None, or `result` means nothing."""

    result: Any
    error: ErrorObject | None


_validate_request = Request.__pydantic_validator__.validate_python
_validate_response = Response.__pydantic_validator__.validate_python


def parse_request(message: Any) -> Message:
    """The request that a parsed JSON value is.

    Raises:
        ProtocolError: it is none.
    """
    if type(message) is dict and len(message) == _USUAL_MEMBERS:
        # The usual request needs no model: these four members, and nothing to convert.
        method, params = message.get("method"), message.get("params")
        identifier = message.get("id")
        if (
            type(params) is dict
            and type(identifier) is int
            and type(method) is str
            and len(method) <= TEXT_LIMIT
            and message.get("jsonrpc") == "2.0"
        ):
            return Message(method, params, identifier, is_notification=False)
    try:
        request: Request = _validate_request(message)
    except ValidationError as error:
        raise ProtocolError(f"not a JSON-RPC 2.0 request: {describe(error)}") from None
    return Message(request.method, request.params, request.id, "id" not in request.model_fields_set)


def parse_response(text: bytes, expected_id: int) -> Answer:
    """The guest's answer to the request with the id `expected_id`.

    Raises:
        ProtocolError: the text is no such answer.
    """
    # The usual answer needs no model: with this beginning, all it can have is a result.
    usual = b'{"jsonrpc":"2.0","id":%d,"result":' % expected_id
    if text.startswith(usual) and text.endswith(b"}"):
        return Answer(parse_json(text[len(usual) : -1]), None)
    message = parse_json(text)
    try:
        response: Response = _validate_response(message)
    except ValidationError as error:
        raise ProtocolError(f"not a JSON-RPC 2.0 response: {describe(error)}") from None
    if ("result" in response.model_fields_set) == ("error" in response.model_fields_set):
        raise ProtocolError("a response has either a result or an error")
    if response.error is None and "error" in response.model_fields_set:
        raise ProtocolError("the error of a response is an object")
    if response.id != expected_id and not (response.id is None and response.error):
        raise ProtocolError(f"the response answers {response.id!r}, not {expected_id}")
    return Answer(response.result, response.error)


def describe(error: ValidationError) -> str:
    """The first faults that `error` lists, each with the path of the field, in one line."""
    return "; ".join(
        f"{'.'.join(map(str, fault['loc'])) or 'value'}: {fault['msg']}"
        for fault in error.errors(include_url=False, include_context=False, include_input=False)[:4]
    )


def request_text(method: str, params: Mapping[str, Any], request_id: int) -> bytes:
    """A request to the guest.

    Raises:
        ValueError: the parameters cannot be expressed in JSON.
    """
    message = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
    try:
        return to_json(message, inf_nan_mode="null")
    except PydanticSerializationError as error:
        raise ValueError(f"not JSON: {error}") from None


def result_text(request_id: MessageId, result: bytes) -> bytes:
    """A response with `result`, which is JSON text already."""
    identifier = b"%d" % request_id if type(request_id) is int else to_json(request_id)
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (identifier, result)


def error_text(
    request_id: MessageId, code: int, message: str, data: dict[str, Any] | None = None
) -> bytes:
    """An error response; a lone surrogate in `message` becomes a question mark.

    Raises:
        PydanticSerializationError: `data` cannot be expressed in JSON.
    """
    printable = message.encode(errors="replace").decode()
    error = {"code": code, "message": printable} | ({"data": data} if data else {})
    return to_json({"jsonrpc": "2.0", "id": request_id, "error": error}, inf_nan_mode="null")
