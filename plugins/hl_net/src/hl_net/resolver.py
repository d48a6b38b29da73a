"""Names to addresses, on the host, without ever keeping a sandbox from being killed."""

from __future__ import annotations

import ipaddress
import logging
import select
import socket
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial

import dns.exception
import dns.nameserver
import dns.resolver

from hl_net.addresses import Address
from hl_net.budgets import Deadline
from hl_net.configuration import split_nameserver
from hyperlight_core.errors import CallLimitError, HostFunctionError
from hyperlight_core.functions import HostCall

__all__ = ["NameNotFoundError", "Resolver"]

_LOOKUPS = 8  # that may be under way at once, those nobody waits for any more included
_ADDRESSES = 64  # of one name; a DNS answer may have thousands
_log = logging.getLogger(__name__)

#: A name, and the seconds after which nobody waits for its addresses any more.
_Find = Callable[[str, float], list[Address]]
_LOOPBACK: list[Address] = [ipaddress.IPv4Address("127.0.0.1"), ipaddress.IPv6Address("::1")]


class NameNotFoundError(HostFunctionError):
    """The name exists nowhere, or has no address."""


class Resolver:
    """Looks names up with the host's own resolver, or at given DNS servers."""

    def __init__(self, nameservers: Iterable[str] = ()) -> None:
        servers = [
            dns.nameserver.Do53Nameserver(*split_nameserver(server)) for server in nameservers
        ]
        self._find: _Find = _find_by_system
        if servers:
            self._dns = dns.resolver.Resolver(configure=False)
            self._dns.nameservers = servers
            self._find = self._find_by_dns
        self._slots = threading.Semaphore(_LOOKUPS)

    def lookup(self, name: str, deadline: Deadline, call: HostCall) -> list[Address]:
        """The addresses of `name`, in the order in which to try them.

        Raises:
            NameNotFoundError: there are none.
            CallLimitError: the deadline passed, or too many lookups are under way.
            HostFunctionError: the lookup failed, or the sandbox was killed.
        """
        if name == "localhost" or name.endswith(".localhost"):  # RFC 6761, section 6.3
            return _LOOPBACK
        if not self._slots.acquire(blocking=False):
            raise CallLimitError("too many names are being looked up", errno="EAGAIN")
        # A little longer than anybody waits, so that it is the deadline that is told.
        lifetime = max(0.0, deadline.at - time.monotonic()) + 1.0
        try:
            lookup = _Lookup(name, partial(self._find, name, lifetime), self._slots)
        except BaseException:
            self._slots.release()
            raise
        return lookup.result(deadline, call)[:_ADDRESSES]

    def _find_by_dns(self, name: str, lifetime: float) -> list[Address]:
        try:
            answers = self._dns.resolve_name(name, lifetime=lifetime)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        return [ipaddress.ip_address(address) for address in answers.addresses()]


class _Lookup:
    """One lookup in a thread of its own: getaddrinfo cannot be interrupted, only left behind."""

    def __init__(
        self, name: str, find: Callable[[], list[Address]], slots: threading.Semaphore
    ) -> None:
        self._name, self._find, self._slots = name, find, slots
        self._addresses: list[Address] | None = None
        self._done, self._working = socket.socketpair()
        threading.Thread(target=self._run, name="hl-net-resolver", daemon=True).start()

    def _run(self) -> None:
        # Closing this end makes the other one readable.
        with self._working:
            try:
                self._addresses = self._find()
            except (OSError, ValueError, dns.exception.DNSException):
                _log.debug("looking up %s failed", self._name, exc_info=True)
            finally:
                self._slots.release()

    def result(self, deadline: Deadline, call: HostCall) -> list[Address]:
        with self._done:
            deadline.wait(self._done.fileno(), select.POLLIN, call)
        if self._addresses is None:
            raise HostFunctionError(f"{self._name} could not be resolved", errno="EIO")
        if not self._addresses:
            raise NameNotFoundError(f"{self._name} has no address", errno="ENOENT")
        return self._addresses


def _find_by_system(name: str, _lifetime: float) -> list[Address]:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno in (socket.EAI_NONAME, socket.EAI_NODATA):
            return []
        raise
    # A link-local address comes with a zone, which is the host's own matter: leave those out.
    return [ipaddress.ip_address(info[4][0]) for info in found if "%" not in str(info[4][0])]
