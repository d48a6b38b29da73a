"""From a granted request to a connection: resolve, check every address, connect to one of them."""

from __future__ import annotations

import select
import socket
import ssl
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from hl_net.addresses import Address
from hl_net.audit import Audit
from hl_net.budgets import Deadline, Deadlines, Ledger
from hl_net.policy import DECISIONS, Decision, Policy
from hl_net.pool import Pool
from hl_net.resolver import Resolver
from hl_net.stream import Place, Stream
from hl_net.urls import Url
from hyperlight_core.errors import CallLimitError, HostFunctionError
from hyperlight_core.functions import HostCall

__all__ = ["Connector", "tls_context"]


@lru_cache
def tls_context(authorities: tuple[Path, ...]) -> ssl.SSLContext:
    """TLS as a client, trusting the system's authorities and those in the given PEM files."""
    # Reading the system's authorities takes milliseconds: once in a process, and not before HTTPS.
    context = ssl.create_default_context()
    for file in authorities:
        context.load_verify_locations(file)
    context.set_alpn_protocols(["http/1.1"])
    return context


class Connector:
    """Opens connections for requests, or takes one that was kept."""

    def __init__(
        self,
        policy: Policy,
        resolver: Resolver,
        ledger: Ledger,
        authorities: tuple[Path, ...],
        pool: Pool,
        audit: Audit,
    ) -> None:
        self._resolver, self._ledger = resolver, ledger
        self._decide = lru_cache(DECISIONS)(policy.request_address)
        self._last: tuple[str, Url, Address, Decision] | None = None
        self._authorities, self._pool, self._audit = authorities, pool, audit
        if authorities:
            tls_context(authorities)  # a faulty file shows at once

    def kept(self, method: str, url: Url, place: Place) -> Stream | None:
        """A connection that an earlier request left, if this one may go to its address."""
        stream = self._pool.take(place)
        if stream is None:
            return None
        decision = self._decide_again(method, url, stream.address)
        if decision.allowed:
            self._audit.record(decision, place.credentials)
            return stream
        stream.close()
        return None

    def _decide_again(self, method: str, url: Url, address: Address) -> Decision:
        """As `_decide`, which has to compute what an address and a URL are known by."""
        last = self._last
        if last and last[0] == method and last[1] is url and last[2] is address:
            return last[3]
        decision = self._decide(method, url, address)
        self._last = method, url, address, decision
        return decision

    def open(
        self,
        method: str,
        url: Url,
        place: Place,
        deadlines: Deadlines,
        call: HostCall,
    ) -> Stream:
        """A new connection for a request whose URL is granted, with TLS if its scheme says so.

        Raises:
            DeniedError: every address of the host is refused.
            CallLimitError: a budget is used up or the deadline passed.
            HostFunctionError: the name does not resolve, or nobody answers, or TLS fails.
        """
        deadline = deadlines.begin("connect_seconds")
        addresses = self._addresses(url, deadline, call)
        decisions = [self._decide(method, url, address) for address in addresses]
        granted = [
            address
            for address, decision in zip(addresses, decisions, strict=True)
            if decision.allowed
        ]
        self._audit.enforce(_summary(decisions), credentials=place.credentials)
        stream = self._connect_any(granted, url.port, place, deadline, call)
        try:
            if url.scheme == "https":
                stream.start_tls(tls_context(self._authorities), str(url.host), deadline, call)
        except HostFunctionError:
            stream.close()
            raise
        return stream

    def _addresses(self, url: Url, deadline: Deadline, call: HostCall) -> list[Address]:
        if isinstance(url.host, str):
            return self._resolver.lookup(url.host, deadline, call)
        return [url.host]

    def _connect_any(
        self,
        addresses: list[Address],
        port: int,
        place: Place,
        deadline: Deadline,
        call: HostCall,
    ) -> Stream:
        """Try one address after another; the last one's error counts."""
        self._ledger.connect()
        failure: HostFunctionError = HostFunctionError("no address", errno="EADDRNOTAVAIL")
        for address in addresses:
            try:
                connection = _connect(address, port, deadline, call)
                return Stream(connection, self._ledger, place, address)
            except CallLimitError:
                raise
            except OSError as error:
                failure = HostFunctionError.from_os_error(error)
        raise failure


def _summary(decisions: list[Decision]) -> Decision:
    """One decision for a host's addresses: it counts which of them are granted, if any is."""
    granted = [decision for decision in decisions if decision.allowed]
    chosen = granted or decisions
    return replace(chosen[0], address=" ".join(decision.address for decision in chosen))


def _connect(address: Address, port: int, deadline: Deadline, call: HostCall) -> socket.socket:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            connection.connect((str(address), port))
        except BlockingIOError:
            deadline.wait(connection.fileno(), select.POLLOUT, call)
            error = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise OSError(error, "connect") from None
    except BaseException:
        connection.close()
        raise
    return connection
