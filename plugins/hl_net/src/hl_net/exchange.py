"""One HTTP/1.1 request and its response over one connection of their own."""

from __future__ import annotations

from typing import cast

import h11

from hl_net.budgets import Deadline, Deadlines, over_budget
from hl_net.configuration import Budgets
from hl_net.response import HEAD_LIMIT, Body, ResponseParser
from hl_net.stream import Stream
from hyperlight_core.errors import HostFunctionError, InvalidParamsError
from hyperlight_core.functions import HostCall

__all__ = ["Exchange"]


class Exchange:
    """Sends a request part by part, then receives the response part by part.

    All methods that take a call may raise CallLimitError, when a budget is used up or a deadline
    passed, and HostFunctionError, when the connection failed or the answer is no HTTP. The
    connection is closed then.

    Attributes:
        url: what was asked for.
        answered: whether the head of the response has been read.
        ended: whether the response has been read to its end; the connection is closed then.
    """

    def __init__(self, url: str, stream: Stream, deadlines: Deadlines, budgets: Budgets) -> None:
        self.url = url
        self._stream, self._deadlines, self._budgets = stream, deadlines, budgets
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_LIMIT)
        self._cut = False  # the server stopped listening; it may have answered all the same
        self._sent = self._received = 0
        self._parser: ResponseParser  # once the request's head is sent
        self._body: Body  # once the response's head is read
        self._failure: HostFunctionError | None = None  # that comes after what was received
        self.answered = self.ended = False

    def close(self) -> None:
        """Close the connection, at once."""
        self._stream.close()

    @property
    def sent_all(self) -> bool:
        """Whether the request has been sent to its end."""
        return self._http.our_state is not h11.SEND_BODY

    def send_head(self, request: h11.Request, call: HostCall) -> None:
        """Send the request's method, target and headers."""
        self._parser = ResponseParser(self._http, request.method, self._stream, self._deadlines)
        self._send(request, call)

    def send_body(self, data: bytes | memoryview, call: HostCall) -> None:
        """Send a part of the request's body."""
        self._sent += len(data)
        if self._sent > self._budgets.request_bytes:
            self.close()
            raise over_budget("request_bytes", self._budgets.request_bytes)
        if len(data):
            self._send(h11.Data(data=cast("bytes", data)), call)

    def end_body(self, call: HostCall) -> None:
        """Send the end of the request."""
        self._send(h11.EndOfMessage(), call)

    def read_head(self, call: HostCall) -> h11.Response:
        """Wait for the status and headers of the response."""
        deadline = self._deadlines.begin("first_byte_seconds")
        try:
            response = self._parser.head(deadline, call)
        except HostFunctionError:
            self.close()
            raise
        self.answered = True
        self._body = self._parser.body(response)
        return response

    def read_into(self, buffer: memoryview, call: HostCall, *, wait: bool) -> int:
        """Fill the buffer with what has arrived of the body; return how many bytes.

        With `wait`, there is at least one unless the response has ended. Without, it never raises:
        an error comes once what arrived before it has been read.
        """
        size = 0
        while size < len(buffer) and not self.ended and self._failure is None:
            deadline = self._deadlines.begin("idle_seconds") if wait and not size else None
            try:
                size += self._receive_into(buffer[size:], deadline, call)
            except BlockingIOError:
                break
            except HostFunctionError as error:
                self._failure = error
                self.close()
        if self._failure is not None and wait and not size:
            raise self._failure
        return size

    def _receive_into(self, buffer: memoryview, deadline: Deadline | None, call: HostCall) -> int:
        left = self._budgets.response_bytes - self._received
        target = buffer[:left] if left else memoryview(bytearray(1))
        size = self._body.receive_into(target, deadline, call)
        if not size:
            self.ended = True
            self.close()
        elif not left:
            raise over_budget("response_bytes", self._budgets.response_bytes)
        self._received += size
        return size

    def _send(self, event: h11.Event, call: HostCall) -> None:
        try:
            parts = self._http.send_with_data_passthrough(event) or []
        except h11.LocalProtocolError as error:
            self.close()
            message = "the request's body does not have the size that was announced"
            raise InvalidParamsError(message) from error
        if not isinstance(event, h11.Data):
            parts = [b"".join(parts)]  # a head comes line by line
        for part in parts:
            if part and not self._cut:
                self._send_bytes(part, call)

    def _send_bytes(self, data: bytes, call: HostCall) -> None:
        try:
            self._stream.send(data, self._deadlines.begin("idle_seconds"), call)
        except HostFunctionError as error:
            if error.errno_name not in ("EPIPE", "ECONNRESET"):
                self.close()
                raise
            self._cut = True
