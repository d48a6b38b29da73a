"""HTTP requests: decided, resolved, connected, sent, and followed where they redirect to."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import lru_cache
from urllib.parse import urljoin

from hl_net.audit import Audit
from hl_net.budgets import Deadlines, over_budget
from hl_net.configuration import NetConfiguration
from hl_net.connector import Connector
from hl_net.credentials import Credentials, Grant
from hl_net.exchange import Exchange, RequestHead
from hl_net.headers import check_headers, without
from hl_net.models import HttpRequest
from hl_net.policy import DECISIONS, Policy
from hl_net.pool import Pool
from hl_net.response import Head
from hl_net.urls import Url, parse_url
from hyperlight_core.errors import HostFunctionError, InvalidParamsError
from hyperlight_core.functions import HostCall

__all__ = ["Hop", "HttpClient"]

_REDIRECTS = {301, 302, 303, 307, 308}  # RFC 9110, section 15.4
_OF_BODY = ("content-encoding", "content-language", "content-location", "content-type")
_OF_ORIGIN = ("authorization", "cookie")
# RFC 9110, section 9.2.2: a request that may be sent twice.
_IDEMPOTENT = ("GET", "HEAD", "OPTIONS", "PUT", "DELETE")


@dataclass(frozen=True)
class Hop:
    """One request on the way that redirects lead.

    Attributes:
        method: of the request.
        url: of the request.
        headers: the guest's own.
        body: what to send at once; None if there is none or the guest streams it.
        size: of the body, in bytes; None if the guest streams it without saying.
        streamed: whether the guest streams the body.
        credential: name of the one the guest wants.
        at_home: whether every hop so far had the first one's origin.
    """

    method: str
    url: Url
    headers: list[tuple[str, str]]
    body: memoryview | None = None
    size: int | None = 0
    streamed: bool = False
    credential: str | None = None
    at_home: bool = True

    def head(self, grant: Grant) -> RequestHead:
        """The request's head as it is sent."""
        framing = [("Transfer-Encoding", "chunked")]
        if self.size is not None:
            framing = [("Content-Length", str(self.size))] if self.size or self._has_body else []
        headers = [("Host", self.url.authority), *grant.added_to(self.headers), *framing]
        lines = [f"{self.method} {self.url.path}{self.url.query} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers]
        return RequestHead(self.method, "\r\n".join([*lines, "", ""]).encode("ascii"), self.size)

    @property
    def repeatable(self) -> bool:
        """Whether it may be sent again when a kept connection turns out to be closed."""
        return self.method in _IDEMPOTENT and not self.streamed

    @property
    def _has_body(self) -> bool:
        # RFC 9110, section 8.6: a method that is expected to have a body says that it is empty.
        return self.streamed or self.method in ("POST", "PUT", "PATCH")

    def following(self, status: int, url: Url) -> Hop | None:
        """The request to where a response with this status redirects; None if there is none."""
        hop = replace(self, url=url)
        if status == 303 or (status in (301, 302) and self.method == "POST"):
            method = "HEAD" if self.method == "HEAD" else "GET"
            headers = without(self.headers, *_OF_BODY)
            hop = replace(hop, method=method, headers=headers, body=None, size=0, streamed=False)
        elif self.streamed:
            return None
        if url.origin != self.url.origin:
            headers = without(hop.headers, *_OF_ORIGIN)
            hop = replace(hop, headers=headers, at_home=False)
        return hop


class HttpClient:
    """Sends the requests of one sandbox."""

    def __init__(
        self,
        configuration: NetConfiguration,
        policy: Policy,
        connector: Connector,
        pool: Pool,
        audit: Audit,
    ) -> None:
        self._budgets, self._connector, self._pool = configuration.budgets, connector, pool
        self._audit = audit
        self._credentials = Credentials(configuration.credentials, audit)
        self._parse = lru_cache(DECISIONS)(parse_url)
        self._decide = lru_cache(DECISIONS)(policy.request)

    def first_hop(self, request: HttpRequest, call: HostCall) -> Hop:
        """The guest's request, checked as far as no rule is needed.

        Raises:
            DeniedError: the URL is none that could be granted.
            InvalidParamsError: a header is not the guest's to set, or the body is contradictory.
        """
        streamed, attached = request.body == "streamed", request.body == "attached"
        if (request.body_size is not None and not streamed) or (call.attachment and not attached):
            raise InvalidParamsError("the body is contradictory")
        return Hop(
            request.method,
            self._parsed(request.method, request.url),
            check_headers(request.headers),
            call.attachment if attached else None,
            request.body_size if streamed else len(call.attachment),
            streamed,
            request.credential,
        )

    def _parsed(self, method: str, text: str) -> Url:
        try:
            return self._parse(text)
        except ValueError as error:
            target = f"{method} {text}"
            raise self._audit.refuse_malformed("request", target, str(error)) from error

    def start(self, hop: Hop, deadlines: Deadlines, call: HostCall) -> Exchange:
        """Send a request, as far as it does not come from the guest in parts.

        Raises:
            DeniedError: the policy refuses it.
            CallLimitError: a budget is used up or a deadline passed.
            HostFunctionError: it could not be sent.
        """
        return self._send(hop, self._grant(hop), deadlines, call)

    def _grant(self, hop: Hop) -> Grant:
        """What goes with a request, if it may be sent at all."""
        if (hop.size or 0) > self._budgets.request_bytes:
            raise over_budget("request_bytes", self._budgets.request_bytes)
        decision = self._decide(hop.method, hop.url)
        if not decision.allowed:
            self._audit.enforce(decision)
        if not hop.at_home:
            return Grant()
        return self._credentials.grant(hop.credential, hop.method, hop.url)

    def _send(
        self, hop: Hop, grant: Grant, deadlines: Deadlines, call: HostCall, *, fresh: bool = False
    ) -> Exchange:
        """Send it over a kept connection if there is one and it could be repeated."""
        stream = None
        if hop.repeatable and not fresh:
            stream = self._connector.kept(hop.method, hop.url, grant.names)
        if stream is None:
            stream = self._connector.open(hop.method, hop.url, deadlines, call, grant.names)
        exchange = Exchange(str(hop.url), stream, deadlines, self._budgets, self._pool)
        body = None if hop.streamed else hop.body or memoryview(b"")
        exchange.send_head(hop.head(grant), call, body)
        return exchange

    def begin(self) -> Deadlines:
        """The deadlines of a request that begins now."""
        return Deadlines(self._budgets, time.monotonic())

    def fetch(self, hop: Hop, call: HostCall, *, follow: bool) -> tuple[Exchange, Head]:
        """Send a request whose body is there, follow its redirects, and read the last one's head.

        Raises:
            DeniedError: the policy refuses a hop.
            CallLimitError: a budget is used up, redirects among them, or a deadline passed.
            HostFunctionError: a hop failed.
        """
        deadlines = self.begin()
        for _ in range(self._budgets.redirects + 1):
            exchange, response = self._answered(hop, deadlines, call)
            following = self._following(hop, exchange, response) if follow else None
            if following is None:
                return exchange, response
            exchange.close()
            hop = following
        raise over_budget("redirects", self._budgets.redirects)

    def _answered(self, hop: Hop, deadlines: Deadlines, call: HostCall) -> tuple[Exchange, Head]:
        """Send a request; again, if the server closed a kept connection at that very moment."""
        grant = self._grant(hop)
        exchange = self._send(hop, grant, deadlines, call)
        try:
            return exchange, exchange.read_head(call)
        except HostFunctionError as error:
            if error.errno_name != "ECONNRESET" or not exchange.lost:
                raise
        exchange = self._send(hop, grant, deadlines, call, fresh=True)
        return exchange, exchange.read_head(call)

    def _following(self, hop: Hop, exchange: Exchange, response: Head) -> Hop | None:
        """Where the response redirects to, if it does and the request can be sent again."""
        location = response.values(b"location")
        if response.status not in _REDIRECTS or not location:
            return None
        try:
            # urljoin only builds a text; what counts is how parse_url reads it.
            text = urljoin(str(hop.url), location[-1].decode("latin-1"))
            return hop.following(response.status, self._parsed("redirect", text))
        except BaseException:
            exchange.close()
            raise
