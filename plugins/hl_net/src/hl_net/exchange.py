"""One HTTP/1.1 request and its response over one connection."""

from __future__ import annotations

from typing import NamedTuple

from hl_net.budgets import Deadline, Deadlines, over_budget
from hl_net.configuration import Budgets
from hl_net.pool import Pool
from hl_net.response import Body, Head, ResponseReader
from hl_net.stream import Stream
from hyperlight_core.errors import HostFunctionError, InvalidParamsError
from hyperlight_core.functions import HostCall

__all__ = ["Exchange", "RequestHead"]

_CONNECTION_LOST = ("EPIPE", "ECONNRESET")


class RequestHead(NamedTuple):
    """How a request begins.

    Attributes:
        method: of the request.
        text: the request line and the headers, up to the empty line.
        size: of the body, in bytes; None if it goes in chunks.
    """

    method: str
    text: bytes
    size: int | None


class Exchange:
    """Sends a request part by part, then receives the response part by part.

    All methods that take a call may raise CallLimitError, when a budget is used up or a deadline
    passed, and HostFunctionError, when the connection failed or the answer is no HTTP. The
    connection is closed then.

    Attributes:
        url: what was asked for.
        sent_all: whether the request has been sent to its end.
        answered: whether the head of the response has been read.
        ended: whether the response has been read to its end; the connection is given up then, to
            the pool if it can carry another request.
    """

    sent_all = answered = ended = False
    _cut = False  # the server stopped listening; it may have answered all the same
    _persistent = False
    _sent = _received = 0
    _failure: HostFunctionError | None = None  # that comes after what was received
    _size: int | None
    _reader: ResponseReader  # once the request's head is sent
    _body: Body  # once the response's head is read

    def __init__(
        self, url: str, stream: Stream, deadlines: Deadlines, budgets: Budgets, pool: Pool
    ) -> None:
        self.url = url
        self._stream, self._deadlines, self._budgets = stream, deadlines, budgets
        self._pool = pool

    def close(self) -> None:
        """Close the connection, at once."""
        if not self.ended:
            self._stream.close()

    @property
    def left(self) -> int | None:
        """Bytes of the response's body to come at most, as far as that is known."""
        return self._body.left

    @property
    def lost(self) -> bool:
        """Whether a kept connection turned out to have been closed before any answer came."""
        return self._stream.reused and not self._reader.heard

    def send_head(self, head: RequestHead, call: HostCall, body: bytes | memoryview | None) -> None:
        """Send the request's method, target and headers; with a body, all of the request."""
        self._size = head.size
        if body:
            self._count(len(body))
        self._send(b"".join((head.text, body)) if body else head.text, call)
        # What the answer needs is made while the server works.
        self._reader = ResponseReader(head.method, self._stream, self._deadlines)
        self.sent_all = body is not None

    def send_body(self, data: memoryview, call: HostCall) -> None:
        """Send a part of the request's body."""
        self._count(len(data))
        if len(data) and self._size is None:
            # RFC 9112, section 7.1.
            self._send(b"".join((b"%x\r\n" % len(data), data, b"\r\n")), call)
        elif len(data):
            self._send(data, call)

    def end_body(self, call: HostCall) -> None:
        """Send the end of the request."""
        if self._size is None:
            self._send(b"0\r\n\r\n", call)
        elif self._sent != self._size:
            self._refuse_size()
        self.sent_all = True

    def read_head(self, call: HostCall) -> Head:
        """Wait for the status and headers of the response."""
        try:
            head = self._reader.head(call)
            self._body = self._reader.body(head)
        except HostFunctionError:
            self.close()
            raise
        self.answered, self._persistent = True, head.persistent
        return head

    def read_into(self, buffer: memoryview, call: HostCall, *, wait: bool) -> int:
        """Fill the buffer with what has arrived of the body; return how many bytes.

        With `wait`, there is at least one unless the response has ended. Without, it only gives the
        first bytes a moment to follow the head, and never raises: an error comes once what arrived
        before it has been read.
        """
        size, hoped = 0, wait
        while size < len(buffer) and not self.ended and self._failure is None:
            deadline = self._deadlines.begin("idle_seconds") if wait and not size else None
            try:
                size += self._receive_into(buffer[size:] if size else buffer, deadline, call)
            except BlockingIOError:
                if size or hoped or not self._stream.stirs():
                    break
                hoped = True
            except HostFunctionError as error:
                self._failure = error
                self.close()
        if self._failure is not None and wait and not size:
            raise self._failure
        return size

    def _receive_into(self, buffer: memoryview, deadline: Deadline | None, call: HostCall) -> int:
        limit = self._budgets.response_bytes
        left = limit - self._received
        target = buffer
        if left < len(buffer):
            target = buffer[:left] if left else memoryview(bytearray(1))
        size = self._body.receive_into(target, deadline, call)
        if size and not left:
            raise over_budget("response_bytes", limit)
        self._received += size
        if not size or self._body.left == 0:
            self._end()
        return size

    def _end(self) -> None:
        if self._persistent and self._body.whole and self.sent_all and not self._cut:
            self._pool.put(self._stream)
        else:
            self.close()
        self.ended = True

    def _count(self, size: int) -> None:
        self._sent += size
        if self._sent > self._budgets.request_bytes:
            self.close()
            raise over_budget("request_bytes", self._budgets.request_bytes)
        if self._size is not None and self._sent > self._size:
            self._refuse_size()

    def _refuse_size(self) -> None:
        self.close()
        raise InvalidParamsError("the request's body does not have the size that was announced")

    def _send(self, data: bytes | memoryview, call: HostCall) -> None:
        if self._cut:
            return
        try:
            self._stream.send(data, self._deadlines, call)
        except HostFunctionError as error:
            if error.errno_name not in _CONNECTION_LOST:
                self.close()
                raise
            self._cut = True
