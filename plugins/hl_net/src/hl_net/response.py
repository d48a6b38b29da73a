"""Reads an HTTP response from a connection: its head, and its body by the way it is framed."""

from __future__ import annotations

from typing import Protocol

import h11

from hl_net.budgets import Deadline, Deadlines
from hl_net.stream import Stream
from hyperlight_core.errors import HostFunctionError
from hyperlight_core.functions import HostCall

__all__ = ["HEAD_LIMIT", "Body", "ResponseParser"]

#: Bytes that a head, or the line before a chunk, may have.
HEAD_LIMIT = 64 << 10
_PART = 16 << 10  # bytes received at once for the parser


class Body(Protocol):
    """Where the bytes of a body come from."""

    def receive_into(self, buffer: memoryview, deadline: Deadline | None, call: HostCall) -> int:
        """Receive what fits, at least one byte; 0 at the end.

        Raises:
            BlockingIOError: there is no deadline, and nothing has arrived.
            CallLimitError: a budget is used up or the deadline passed.
            HostFunctionError: the connection failed, or what arrives is no HTTP.
        """


class ResponseParser:
    """Gives all bytes to h11; is itself the body of a response whose size is not known."""

    def __init__(
        self, http: h11.Connection, method: bytes, stream: Stream, deadlines: Deadlines
    ) -> None:
        self._http, self._method = http, method
        self._stream, self._deadlines = stream, deadlines
        self._rest = memoryview(b"")  # of the body: parsed, and not taken yet

    def head(self, deadline: Deadline, call: HostCall) -> h11.Response:
        """Wait for the head of the response; those of interim responses are left out.

        Raises:
            CallLimitError: a budget is used up or a deadline passed.
            HostFunctionError: the connection failed, or the answer is no HTTP.
        """
        event = self._next(deadline, call)
        while isinstance(event, h11.InformationalResponse):
            event = self._next(self._deadlines.begin("idle_seconds"), call)
        if isinstance(event, h11.Response):
            return event
        message = "the server closed the connection without an answer"
        raise HostFunctionError(message, errno="ECONNRESET")

    def body(self, response: h11.Response) -> Body:
        """The body behind the head: one of known size goes past h11, which would copy it twice."""
        headers = dict(response.headers)
        # RFC 9112, section 6.3: what comes before Content-Length in telling a body's size.
        bodiless = self._method == b"HEAD" or response.status_code in (204, 304)
        if bodiless or b"transfer-encoding" in headers or b"content-length" not in headers:
            return self
        arrived, _ = self._http.trailing_data
        return _SizedBody(int(headers[b"content-length"]), arrived, self._stream)

    def receive_into(self, buffer: memoryview, deadline: Deadline | None, call: HostCall) -> int:
        """As a body."""
        if not self._rest:
            event = self._next(deadline, call)
            if not isinstance(event, h11.Data):
                return 0  # its end; everything else is an error that the parser raised
            self._rest = memoryview(event.data)
        part = self._rest[: len(buffer)]
        buffer[: len(part)] = part
        self._rest = self._rest[len(part) :]
        return len(part)

    def _next(self, deadline: Deadline | None, call: HostCall) -> object:
        while (event := self._parse()) is h11.NEED_DATA:
            part = memoryview(bytearray(_PART))
            size = self._stream.receive_into(part, deadline, call)
            self._http.receive_data(bytes(part[:size]))
            deadline = deadline and self._deadlines.begin("idle_seconds")
        return event

    def _parse(self) -> object:
        try:
            return self._http.next_event()
        except h11.RemoteProtocolError as error:
            raise _no_http(str(error)) from error


class _SizedBody:
    """A body of known size: what came along with the head, then straight from the connection."""

    def __init__(self, size: int, arrived: bytes, stream: Stream) -> None:
        self._rest, self._stream = memoryview(arrived)[:size], stream
        self._left = size - len(self._rest)

    def receive_into(self, buffer: memoryview, deadline: Deadline | None, call: HostCall) -> int:
        """As a body."""
        if self._rest:
            part = self._rest[: len(buffer)]
            buffer[: len(part)] = part
            self._rest = self._rest[len(part) :]
            return len(part)
        if not self._left:
            return 0
        size = self._stream.receive_into(buffer[: self._left], deadline, call)
        if not size:
            raise _no_http(f"the body ends {self._left} bytes early")
        self._left -= size
        return size


def _no_http(why: str) -> HostFunctionError:
    return HostFunctionError(f"the server's answer is not valid HTTP: {why}", errno="EPROTO")
