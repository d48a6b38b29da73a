"""One HTTP/1.1 request and its response over one connection of their own."""

from __future__ import annotations

from typing import cast

import h11

from hl_net.budgets import Deadline, DeadlineName, Deadlines, over_budget
from hl_net.configuration import Budgets
from hl_net.stream import Stream
from hyperlight_core.errors import HostFunctionError, InvalidParamsError
from hyperlight_core.functions import HostCall

__all__ = ["Exchange"]

_HEAD_LIMIT = 64 << 10
_HEAD_PART, _BODY_PART = 16 << 10, 256 << 10  # bytes received at once


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
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_LIMIT)
        self._cut = False  # the server stopped listening; it may have answered all the same
        self._answering = False  # it has sent something
        self._sent = self._received = 0
        self._rest = memoryview(b"")  # of the body: received, and not read yet
        self._failure: HostFunctionError | None = None  # that comes after it
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
        while True:
            event = self._next(call)
            if isinstance(event, h11.Response):
                self.answered = True
                return event
            if not isinstance(event, h11.InformationalResponse):
                self.close()
                message = "the server closed the connection without an answer"
                raise HostFunctionError(message, errno="ECONNRESET")

    def read_into(self, buffer: memoryview, call: HostCall, *, wait: bool) -> int:
        """Fill the buffer with what has arrived of the body; return how many bytes.

        With `wait`, there is at least one unless the response has ended. Without, it never raises:
        an error comes once what arrived before it has been read.
        """
        size = 0
        while size < len(buffer) and not self.ended:
            if not self._rest and not self._next_part(call, wait=wait and not size):
                break
            part = self._rest[: len(buffer) - size]
            buffer[size : size + len(part)] = part
            self._rest, size = self._rest[len(part) :], size + len(part)
        return size

    def _next_part(self, call: HostCall, *, wait: bool) -> bool:
        """Get the next bytes of the body, if `wait` or they are there; False if there are none."""
        if self._failure is None:
            try:
                self._take(self._next(call) if wait else self._next_ready())
            except HostFunctionError as error:
                self._failure = error
        if self._failure is not None and not self._rest and wait:
            raise self._failure
        return bool(self._rest)

    def _take(self, event: object) -> None:
        if isinstance(event, h11.EndOfMessage):
            self.ended = True
            self.close()
        elif isinstance(event, h11.Data):
            left = self._budgets.response_bytes - self._received
            self._rest = memoryview(event.data)[:left]
            self._received += len(self._rest)
            if len(event.data) > left:
                self.close()
                raise over_budget("response_bytes", self._budgets.response_bytes)

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
            self._stream.send(data, self._begin("idle_seconds"), call)
        except HostFunctionError as error:
            if error.errno_name not in ("EPIPE", "ECONNRESET"):
                self.close()
                raise
            self._cut = True

    def _next(self, call: HostCall) -> object:
        """The next event of the response, waiting for it."""
        deadline = self._begin("idle_seconds" if self._answering else "first_byte_seconds")
        while (event := self._parse()) is h11.NEED_DATA:
            try:
                size = _BODY_PART if self.answered else _HEAD_PART
                data = self._stream.receive(size, deadline, call)
            except HostFunctionError:
                self.close()
                raise
            self._answering = True
            deadline = self._begin("idle_seconds")
            self._http.receive_data(data)
        return event

    def _next_ready(self) -> object:
        """The next event of the response as far as it has arrived, or NEED_DATA."""
        while (event := self._parse()) is h11.NEED_DATA:
            try:
                data = self._stream.receive_ready(_BODY_PART)
            except HostFunctionError:
                self.close()
                raise
            if data is None:
                break
            self._http.receive_data(data)
        return event

    def _parse(self) -> object:
        try:
            return self._http.next_event()
        except h11.RemoteProtocolError as error:
            self.close()
            message = f"the server's answer is not valid HTTP: {error}"
            raise HostFunctionError(message, errno="EPROTO") from error

    def _begin(self, budget: DeadlineName) -> Deadline:
        return self._deadlines.begin(budget)
