"""Reads an HTTP response from a connection: its head, and its body by the way it is framed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import httptools

from hl_net.budgets import Deadline, Deadlines
from hl_net.stream import Stream
from hyperlight_core.errors import HostFunctionError
from hyperlight_core.functions import HostCall

__all__ = ["Body", "Head", "ResponseReader"]

#: Bytes that a head may have, and what is received between two parts of a chunked body.
_HEAD_LIMIT = 64 << 10
_PART = 64 << 10  # bytes received at once for the parser
_SWITCHING = 101


@dataclass
class Head:
    """The head of a response, as httptools tells it.

    Attributes:
        status: such as 200.
        headers: names as they were written, and values.
        size: of its text, in bytes.
        persistent: whether the connection may carry another request afterwards.
    """

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    size: int = 0
    persistent: bool = False
    _values: dict[bytes, list[bytes]] = field(default_factory=dict)

    def on_header(self, name: bytes, value: bytes) -> None:
        """The parser has read a header."""
        self.headers.append((name, value))
        self._values.setdefault(name.lower(), []).append(value)

    def values(self, name: bytes) -> list[bytes]:
        """The values of every header with this lower-case name."""
        return self._values.get(name, [])


class Body(Protocol):
    """Where the bytes of a body come from.

    Attributes:
        whole: whether it has ended where it said, with nothing behind it.
    """

    whole: bool

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

    def __init__(self, method: str, stream: Stream, deadlines: Deadlines) -> None:
        self._method, self._stream, self._deadlines = method, stream, deadlines
        self._arrived = bytearray()
        self.heard = False

    def head(self, deadline: Deadline, call: HostCall) -> Head:
        """Wait for the head of the response; those of interim responses are left out.

        Raises:
            CallLimitError: a budget is used up or a deadline passed.
            HostFunctionError: the connection failed, or the answer is no HTTP.
        """
        head = _parse_head(self._head_text(deadline, call))
        while head.status < 200:
            head = _parse_head(self._head_text(self._deadlines.begin("idle_seconds"), call))
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
        if size:
            return _SizedBody(int(size[0]), self._arrived, self._stream)
        return _SizedBody(None, self._arrived, self._stream)

    def _head_text(self, deadline: Deadline, call: HostCall) -> bytes:
        """Everything up to the empty line; what follows stays in `_arrived`."""
        looked_at, arrived = 0, self._arrived
        while (end := arrived.find(b"\r\n\r\n", max(0, looked_at - 3))) < 0:
            looked_at = len(arrived)
            if looked_at > _HEAD_LIMIT:
                break
            arrived += _receive(self._stream, deadline, call)
            if len(arrived) == looked_at:
                message = "the server closed the connection without an answer"
                raise HostFunctionError(message, errno="ECONNRESET")
            self.heard, deadline = True, self._deadlines.begin("idle_seconds")
        if not 0 <= end <= _HEAD_LIMIT:
            raise _no_http("its head is too long")
        text = bytes(arrived[: end + 4])
        del arrived[: end + 4]
        return text


def _parse_head(text: bytes) -> Head:
    head = Head(size=len(text))
    parser = httptools.HttpResponseParser(head)
    _feed(parser, text)
    version, head.status = parser.get_http_version(), parser.get_status_code()
    if version not in ("1.0", "1.1") or head.status == _SWITCHING or not _is_one_head(text):
        raise _no_http("not the head of a response")
    options = b",".join(head.values(b"connection")).lower().split(b",")
    head.persistent = version == "1.1" and b"close" not in map(bytes.strip, options)
    return head


def _is_one_head(text: bytes) -> bool:
    # Lines that end otherwise would be read in several ways.
    return text.count(b"\n") == text.count(b"\r\n")


def _feed(parser: httptools.HttpResponseParser, text: bytes | memoryview) -> None:
    try:
        if text:
            parser.feed_data(text)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
        raise _no_http(str(error)) from error


def _receive(stream: Stream, deadline: Deadline | None, call: HostCall) -> memoryview:
    part = memoryview(bytearray(_PART))
    return part[: stream.receive_into(part, deadline, call)]


class _SizedBody:
    """What came along with the head, then straight from the connection, which may be its end."""

    def __init__(self, size: int | None, arrived: bytearray, stream: Stream) -> None:
        self._rest, self._stream = memoryview(bytes(arrived))[:size], stream
        self._left = None if size is None else size - len(self._rest)
        self.whole = size is not None and len(arrived) <= size

    def receive_into(self, buffer: memoryview, deadline: Deadline | None, call: HostCall) -> int:
        """As a body."""
        if self._rest:
            part, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
            buffer[: len(part)] = part
            return len(part)
        if self._left == 0:
            return 0
        size = self._stream.receive_into(buffer[: self._left], deadline, call)
        if self._left is not None:
            if not size:
                raise _no_http(f"the body ends {self._left} bytes early")
            self._left -= size
        return size


class _ChunkedBody:
    """Chunks as httptools reads them; trailers are left out."""

    def __init__(self, arrived: bytearray, stream: Stream, deadlines: Deadlines) -> None:
        self._stream, self._deadlines = stream, deadlines
        self._parts, self._rest = bytearray(), memoryview(b"")
        self._between = 0  # bytes since the last part
        self._ended, self.whole = False, True
        self._parser = httptools.HttpResponseParser(self)
        # Another head than the server's: that one has been read, and refused if it was unclear.
        _feed(self._parser, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        self._take(memoryview(bytes(arrived)))

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
            part = _receive(self._stream, deadline, call)
            if not part:
                raise _no_http("the body ends in the middle of a chunk")
            self._take(part)
            deadline = deadline and self._deadlines.begin("idle_seconds")
        part, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)

    def _take(self, text: memoryview) -> None:
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
