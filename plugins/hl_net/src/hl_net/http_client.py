"""HTTP requests: decided, resolved, connected, sent, and followed where they redirect to."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import NamedTuple
from urllib.parse import urljoin

from hl_net.audit import Audit
from hl_net.budgets import Deadlines, over_budget
from hl_net.configuration import NetConfiguration
from hl_net.connector import Connector
from hl_net.credentials import Credentials, Grant
from hl_net.exchange import Exchange, RequestHead
from hl_net.headers import check_headers, without
from hl_net.models import HttpRequest
from hl_net.policy import DECISIONS, Decision, Policy
from hl_net.pool import Pool
from hl_net.response import Head
from hl_net.stream import Place
from hl_net.urls import Url, parse_url
from hyperlight_core.errors import HostFunctionError, InvalidParamsError
from hyperlight_core.functions import HostCall

__all__ = ["Hop", "HttpClient", "Target"]

_REDIRECTS = {301, 302, 303, 307, 308}  # RFC 9110, section 15.4
_OF_BODY = ("content-encoding", "content-language", "content-location", "content-type")
_OF_ORIGIN = ("authorization", "cookie")
_WITH_BODY = ("POST", "PUT", "PATCH")
# RFC 9110, section 9.2.2: a request that may be sent twice.
_IDEMPOTENT = ("GET", "HEAD", "OPTIONS", "PUT", "DELETE")


class Target(NamedTuple):
    """What a request is for; made once for all requests of one sandbox that are for the same.

    Attributes:
        method: of the request.
        url: of the request.
        decision: whether the request may be tried.
        text: the URL.
        place: where it goes to without credentials.
        head: the request's where nothing is added to it.
    """

    method: str
    url: Url
    decision: Decision
    text: str
    place: Place
    head: bytes


def _target(policy: Policy, method: str, text: str) -> Target:
    url = parse_url(text)
    decision, place = policy.request(method, url), Place(url.origin, ())
    head = f"{method} {url.path}{url.query} HTTP/1.1\r\nHost: {url.authority}\r\n\r\n"
    return Target(method, url, decision, str(url), place, head.encode("ascii"))


class Hop(NamedTuple):
    """One request on the way that redirects lead.

    Attributes:
        target: of the request.
        headers: the guest's own.
        body: what to send at once; None if there is none or the guest streams it.
        size: of the body, in bytes; None if the guest streams it without saying.
        streamed: whether the guest streams the body.
        credential: name of the one the guest wants.
        at_home: whether every hop so far had the first one's origin.
    """

    target: Target
    headers: list[tuple[str, str]]
    body: memoryview | None = None
    size: int | None = 0
    streamed: bool = False
    credential: str | None = None
    at_home: bool = True

    def head(self, grant: Grant) -> RequestHead:
        """The request's head as it is sent."""
        target, size, framing = self.target, self.size, ""
        if size is None:
            framing = "Transfer-Encoding: chunked\r\n"
        # RFC 9110, section 8.6: a method that is expected to have a body says that it is empty.
        elif size or self.streamed or target.method in _WITH_BODY:
            framing = f"Content-Length: {size}\r\n"
        headers = grant.added_to(self.headers)
        if not headers and not framing:
            return RequestHead(target.method, target.head, size)
        added = "".join(f"{name}: {value}\r\n" for name, value in headers)
        text = target.head[:-2] + f"{added}{framing}\r\n".encode("ascii")
        return RequestHead(target.method, text, size)

    @property
    def repeatable(self) -> bool:
        """Whether it may be sent again when a kept connection turns out to be closed."""
        return self.target.method in _IDEMPOTENT and not self.streamed

    def method_after(self, status: int) -> str:
        """The method of the request to where a response with this status redirects."""
        method = self.target.method
        if status == 303 or (status in (301, 302) and method == "POST"):
            return "HEAD" if method == "HEAD" else "GET"
        return method

    def following(self, status: int, target: Target) -> Hop | None:
        """The request to where a response with this status redirects; None if there is none."""
        hop = self._replace(target=target)
        if status == 303 or target.method != self.target.method:
            headers = without(self.headers, *_OF_BODY)
            hop = hop._replace(headers=headers, body=None, size=0, streamed=False)
        elif self.streamed:
            return None
        if target.url.origin != self.target.url.origin:
            headers = without(hop.headers, *_OF_ORIGIN)
            hop = hop._replace(headers=headers, at_home=False)
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
        self._target = lru_cache(DECISIONS)(partial(_target, policy))

    def first_hop(self, request: HttpRequest, call: HostCall) -> Hop:
        """The guest's request, checked as far as no rule is needed.

        Raises:
            DeniedError: the URL is none that could be granted.
            InvalidParamsError: a header is not the guest's to set, or the body is contradictory.
        """
        body, size, attachment = request.body, request.body_size, call.attachment
        streamed, attached = body == "streamed", body == "attached"
        if (size is not None and not streamed) or (attachment and not attached):
            raise InvalidParamsError("the body is contradictory")
        return Hop(
            self._parsed(request.method, request.url, request.method),
            check_headers(request.headers),
            attachment if attached else None,
            size if streamed else len(attachment),
            streamed,
            request.credential,
        )

    def _parsed(self, method: str, text: str, action: str) -> Target:
        try:
            return self._target(method, text)
        except ValueError as error:
            target = f"{action} {text}"
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
        target = hop.target
        if not target.decision.allowed:
            self._audit.enforce(target.decision)
        if not hop.at_home:
            return Grant()
        return self._credentials.grant(hop.credential, target.method, target.url)

    def _send(
        self, hop: Hop, grant: Grant, deadlines: Deadlines, call: HostCall, *, fresh: bool = False
    ) -> Exchange:
        """Send it over a kept connection if there is one and it could be repeated."""
        stream, target = None, hop.target
        place = Place(target.url.origin, grant.names) if grant.names else target.place
        if hop.repeatable and not fresh:
            stream = self._connector.kept(target.method, target.url, place)
        if stream is None:
            stream = self._connector.open(target.method, target.url, place, deadlines, call)
        exchange = Exchange(target.text, stream, deadlines, self._budgets, self._pool)
        body = None if hop.streamed else hop.body or b""
        exchange.send_head(hop.head(grant), call, body)
        return exchange

    def begin(self) -> Deadlines:
        """The deadlines of a request that begins now."""
        return Deadlines(self._budgets)

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
            if not follow or response.status not in _REDIRECTS:
                return exchange, response
            following = self._following(hop, exchange, response)
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
        if not location:
            return None
        try:
            # urljoin only builds a text; what counts is how parse_url reads it.
            text, method = hop.target.text, hop.method_after(response.status)
            target = self._parsed(method, urljoin(text, location[-1].decode("latin-1")), "redirect")
            return hop.following(response.status, target)
        except BaseException:
            exchange.close()
            raise
