"""Reads an HTTP response from a connection: its head, and its body by the way it is framed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import httptools

from hl_net.budgets import Deadline, Deadlines
from hl_net.headers import HOP_BY_HOP
from hl_net.stream import Stream
from hyperlight_core.errors import HostFunctionError
from hyperlight_core.functions import HostCall

__all__ = ["Body", "Head", "ResponseReader"]

#: Bytes that a head may have, and what is received between two parts of a chunked body.
_HEAD_LIMIT = 64 << 10
_PART = 64 << 10  # bytes received at once for the parser
_SWITCHING = 101
_PERSISTENT = b"HTTP/1.1 "
_VERSIONS = (_PERSISTENT, b"HTTP/1.0 ")
_NOTED = HOP_BY_HOP | {b"content-length", b"location"}


class Head:
    """The head of a response, as httptools tells it.

    Attributes:
        status: such as 200.
        headers: those for the guest: all but those of the connection, names as they were written.
        size: of its text, in bytes.
        persistent: whether the connection may carry another request afterwards.
    """

    __slots__ = ("_values", "headers", "persistent", "size", "status")

    def __init__(self, size: int) -> None:
        self.size, self.status, self.persistent = size, 0, False
        self.headers: list[list[str]] = []
        self._values: dict[bytes, list[bytes]] = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        """The parser has read a header."""
        known = name.lower()
        if known in _NOTED:
            self._values.setdefault(known, []).append(value)
            if known in HOP_BY_HOP:
                return
        self.headers.append([name.decode("latin-1"), value.decode("latin-1")])

    def values(self, name: bytes) -> Sequence[bytes]:
        """The values of every header with this name, one of those that say something here."""
        return self._values.get(name, ())


class Body(Protocol):
    """Where the bytes of a body come from.

    Attributes:
        whole: whether it has ended where it said, with nothing behind it.
        left: bytes to come at most, as far as that is known; 0 once it has ended.
    """

    @property
    def whole(self) -> bool:
        """As above."""

    @property
    def left(self) -> int | None:
        """As above."""

    def receive_into(self, buffer: memoryview, deadline: Deadline | None, call: HostCall) -> int:
        """Receive what fits, at least one byte; 0 at the end.

        Raises:
            BlockingIOError: there is no deadline, and nothing has arrived.
            CallLimitError: a budget is used up or the deadline passed.
            HostFunctionError: the connection failed, or what arrives is no HTTP.
        """


class ResponseReader:
    """Reads the response to one request.

    Attributes:
        heard: whether any byte of it has arrived.
    """

    __slots__ = ("_arrived", "_deadlines", "_method", "_stream", "heard")

    def __init__(self, method: str, stream: Stream, deadlines: Deadlines) -> None:
        self._method, self._stream, self._deadlines = method, stream, deadlines
        self._arrived = b""
        self.heard = False

    def head(self, call: HostCall) -> Head:
        """Wait for the head of the response; those of interim responses are left out.

        Raises:
            CallLimitError: a budget is used up or a deadline passed.
            HostFunctionError: the connection failed, or the answer is no HTTP.
        """
        deadline = self._deadlines.begin("first_byte_seconds")
        self._stream.expect(deadline, call)
        head = _parse_head(self._head_text(deadline, call))
        while head.status < 200:
            head = _parse_head(self._head_text(None, call))
        return head

    def body(self, head: Head) -> Body:
        """The body behind the head: RFC 9112, section 6.3."""
        size, coded = head.values(b"content-length"), head.values(b"transfer-encoding")
        if self._method == "HEAD" or head.status in (204, 304):
            return _SizedBody(0, self._arrived, self._stream)
        if coded:
            if [value.lower() for value in coded] != [b"chunked"]:
                raise _no_http("an unknown transfer coding")
            return _ChunkedBody(self._arrived, self._stream, self._deadlines)
        return _SizedBody(int(size[0]) if size else None, self._arrived, self._stream)

    def _head_text(self, first: Deadline | None, call: HostCall) -> bytes:
        """Everything up to the empty line; what follows stays in `_arrived`.

        Args:
            first: when its first part has to be there, if that was decided before.
            call: the one in progress.
        """
        arrived, looked_at = self._arrived, 0
        while (end := arrived.find(b"\r\n\r\n", looked_at)) < 0 and len(arrived) <= _HEAD_LIMIT:
            looked_at = max(0, len(arrived) - 3)
            deadline = first or self._deadlines.begin("idle_seconds")
            part = self._stream.receive(_PART, deadline, call)
            if not part:
                message = "the server closed the connection without an answer"
                raise HostFunctionError(message, errno="ECONNRESET")
            arrived = arrived + part if arrived else part
            self.heard, first = True, None
        if not 0 <= end <= _HEAD_LIMIT:
            raise _no_http("its head is too long")
        self._arrived = arrived[end + 4 :]
        return arrived[: end + 4]


def _parse_head(text: bytes) -> Head:
    head = Head(len(text))
    parser = httptools.HttpResponseParser(head)
    _feed(parser, text)
    head.status, version = parser.get_status_code(), text[:9]
    # Lines that end otherwise would be read in several ways.
    one_head = text.count(b"\n") == text.count(b"\r\n")
    if version not in _VERSIONS or head.status == _SWITCHING or not one_head:
        raise _no_http("not the head of a response")
    # Whatever looks like the option "close" counts as it.
    closing = b"close" in b",".join(head.values(b"connection")).lower()
    head.persistent = version == _PERSISTENT and not closing
    return head


def _feed(parser: httptools.HttpResponseParser, text: bytes) -> None:
    try:
        if text:
            parser.feed_data(text)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
        raise _no_http(str(error)) from error


class _SizedBody:
    """What came along with the head, then straight from the connection, which may be its end."""

    __slots__ = ("_rest", "_stream", "left", "whole")

    def __init__(self, size: int | None, arrived: bytes, stream: Stream) -> None:
        self.left, self._stream = size, stream
        self.whole = size is not None and len(arrived) <= size
        self._rest: bytes | memoryview = arrived[:size]

    def receive_into(self, buffer: memoryview, deadline: Deadline | None, call: HostCall) -> int:
        """As a body."""
        rest, left = self._rest, self.left
        if rest:
            size = min(len(rest), len(buffer))
            buffer[:size] = rest[:size]
            self._rest = memoryview(rest)[size:] if size < len(rest) else b""
        elif left == 0:
            return 0
        else:
            size = self._stream.receive_into(buffer[:left], deadline, call)
            if not size and left is not None:
                raise _no_http(f"the body ends {left} bytes early")
        if left is not None:
            self.left = left - size
        return size


class _ChunkedBody:
    """Chunks as httptools reads them; trailers are left out."""

    def __init__(self, arrived: bytes, stream: Stream, deadlines: Deadlines) -> None:
        self._stream, self._deadlines = stream, deadlines
        self._parts, self._rest = bytearray(), memoryview(b"")
        self._between = 0  # bytes since the last part
        self._ended, self.whole = False, True
        self._parser = httptools.HttpResponseParser(self)
        # Another head than the server's: that one has been read, and refused if it was unclear.
        _feed(self._parser, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        self._take(arrived)

    @property
    def left(self) -> int | None:
        """As of a body."""
        return 0 if self._ended and not self._rest else None

    def on_message_begin(self) -> None:
        """The parser has found the beginning of a response: of another one, if this has ended."""
        self.whole = not self._ended

    def on_body(self, part: bytes) -> None:
        """The parser has found a part of the body, or of what comes behind it."""
        if not self._ended:
            self._parts += part
            self._between = 0

    def on_message_complete(self) -> None:
        """The parser has found the end of the body."""
        self._ended = True

    def receive_into(self, buffer: memoryview, deadline: Deadline | None, call: HostCall) -> int:
        """As a body."""
        while not self._rest and not self._ended:
            text = self._stream.receive(_PART, deadline, call)
            if not text:
                raise _no_http("the body ends in the middle of a chunk")
            self._take(text)
            deadline = deadline and self._deadlines.begin("idle_seconds")
        part, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)

    def _take(self, text: bytes) -> None:
        self._between += len(text)
        try:
            _feed(self._parser, text)
        except HostFunctionError:
            self.whole = False
            if not self._ended:
                raise
        if self._between > _HEAD_LIMIT:
            raise _no_http("too much between two chunks")
        self._rest, self._parts = memoryview(bytes(self._parts)), bytearray()


def _no_http(why: str) -> HostFunctionError:
    return HostFunctionError(f"the server's answer is not valid HTTP: {why}", errno="EPROTO")
