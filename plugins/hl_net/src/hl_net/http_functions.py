"""The host functions for HTTP: `net.request` and those that carry its bodies."""

from __future__ import annotations

from hl_net.budgets import Ledger
from hl_net.exchange import Exchange
from hl_net.handles import Handles
from hl_net.http_client import HttpClient
from hl_net.models import (
    HandleRequest,
    HttpReply,
    HttpRequest,
    ReadReply,
    ReadRequest,
    SizeReply,
    WriteRequest,
)
from hl_net.response import Head
from hyperlight_core.errors import (
    CallLimitError,
    DeniedError,
    HostFunctionError,
    InvalidParamsError,
)
from hyperlight_core.functions import HostCall, host_function

__all__ = ["HttpFunctions"]

_FIRST_PART = 64 << 10  # of the body, sent along with the head
# Of a head that has a part of the body with it: the JSON, in which a byte may take two, has to end
# before the attachment begins.
_HEAD_LIMIT = 3 << 9
_ERRORS = (CallLimitError, DeniedError, HostFunctionError, InvalidParamsError)


class HttpFunctions:
    """HTTP for one sandbox."""

    def __init__(self, client: HttpClient, handles: Handles, ledger: Ledger) -> None:
        self._client, self._handles, self._ledger = client, handles, ledger

    @host_function("net.request", blocking=True, errors=_ERRORS)
    def request(self, request: HttpRequest, call: HostCall) -> HttpReply:
        """Send an HTTP request and wait for the head of its response."""
        self._ledger.enter(call.run)
        self._handles.check_room(request=True)
        hop = self._client.first_hop(request, call)
        if hop.streamed:
            exchange = self._client.start(hop, self._client.begin(), call)
            return HttpReply(handle=self._handles.add(exchange), url=exchange.url)
        exchange, response = self._client.fetch(hop, call, follow=request.follow_redirects)
        return self._reply(None, exchange, response, call)

    @host_function("net.request_write", blocking=True, errors=_ERRORS)
    def write(self, request: WriteRequest, call: HostCall) -> SizeReply:
        """Send the attachment as the next part of a streamed request's body."""
        exchange = self._exchange(request.handle, call)
        if exchange.sent_all:
            raise InvalidParamsError("the request has been sent to its end", errno="EPIPE")
        size = len(call.attachment)
        exchange.send_body(call.attachment, call)
        if request.end:
            exchange.end_body(call)
        return SizeReply(size=size)

    @host_function("net.response", blocking=True, errors=_ERRORS)
    def response(self, request: HandleRequest, call: HostCall) -> HttpReply:
        """Wait for the head of the response to a streamed request."""
        exchange = self._exchange(request.handle, call)
        if exchange.answered:
            raise InvalidParamsError("the response's head has been read", errno="EINVAL")
        return self._reply(request.handle, exchange, exchange.read_head(call), call)

    @host_function("net.response_read", blocking=True, errors=_ERRORS)
    def read(self, request: ReadRequest, call: HostCall) -> ReadReply:
        """Wait for the next part of a response's body, and attach it."""
        exchange = self._exchange(request.handle, call)
        if not exchange.answered:
            raise InvalidParamsError("the response's head has not been read", errno="EINVAL")
        buffer = call.reply_buffer(min(request.size, call.reply_limit))
        size = exchange.read_into(buffer, call, wait=True)
        call.reply_size(size)
        if exchange.ended:
            self._handles.close(request.handle)
        return ReadReply(size=size, end=exchange.ended)

    def _exchange(self, handle: int, call: HostCall) -> Exchange:
        self._ledger.enter(call.run)
        return self._handles.exchange(handle)

    def _reply(
        self, handle: int | None, exchange: Exchange, response: Head, call: HostCall
    ) -> HttpReply:
        """The response's head, and with it what has arrived of the body.

        Without a handle it gets one if there is more to come.
        """
        size, most = 0, exchange.left
        if response.size + len(exchange.url) <= _HEAD_LIMIT:
            # No more room than it takes: whatever is given out counts as written.
            room = _FIRST_PART if most is None else min(most or 1, _FIRST_PART)
            buffer = call.reply_buffer(min(room, call.reply_limit))
            size = exchange.read_into(buffer, call, wait=False)
            call.reply_size(size)
        if not exchange.ended:
            handle = self._handles.add(exchange) if handle is None else handle
        elif handle is not None:
            self._handles.close(handle)
        return HttpReply(
            handle=None if exchange.ended else handle,
            status=response.status,
            url=exchange.url,
            headers=response.headers,
            size=size,
            end=exchange.ended,
        )
