"""Names to addresses for the guest: only granted names, only checked addresses, remembered.

What a name led to is remembered so that a plain socket to one of those addresses counts as one to
that name.
"""

from __future__ import annotations

from collections.abc import Mapping

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from hl_net.addresses import Address, canonical
from hl_net.audit import Audit
from hl_net.budgets import Deadlines
from hl_net.configuration import Budgets
from hl_net.policy import Policy
from hl_net.resolver import NameNotFoundError, Resolver
from hl_net.urls import parse_host
from hyperlight_core.errors import DeniedError, HostFunctionError, InvalidParamsError
from hyperlight_core.functions import HostCall

__all__ = ["Names"]

_ADDRESSES = 4096  # remembered at most, the oldest forgotten first
_NAMES = 64  # per address
_TTL = 5  # seconds a guest may keep an answer
_MESSAGE_LIMIT = 4096
_VERSIONS = {dns.rdatatype.A: 4, dns.rdatatype.AAAA: 6}


class Names:
    """The names that one sandbox has resolved."""

    def __init__(self, policy: Policy, resolver: Resolver, budgets: Budgets, audit: Audit) -> None:
        self._audit = audit
        self._policy, self._resolver, self._budgets = policy, resolver, budgets
        self._names: dict[Address, tuple[str, ...]] = {}

    def of(self, address: Address) -> tuple[str, ...]:
        """The names that led to `address`."""
        return self._names.get(canonical(address), ())

    def remembered(self) -> Mapping[Address, tuple[str, ...]]:
        """All of them, for a snapshot."""
        return dict(self._names)

    def restore(self, names: Mapping[Address, tuple[str, ...]]) -> None:
        """Go back to those of a snapshot."""
        self._names = dict(names)

    def resolve(self, text: str, call: HostCall) -> list[Address]:
        """The addresses that the guest may see of a name; an address stands for itself.

        Raises:
            DeniedError: the name, or every address of it, is refused.
            NameNotFoundError: it has no address.
            CallLimitError: the deadline passed, or too many names are being looked up.
            HostFunctionError: the lookup failed.
        """
        try:
            name = parse_host(text)
        except ValueError as error:
            raise self._audit.refuse_malformed("resolve", text, str(error)) from error
        if not isinstance(name, str):
            return [name]
        decision = self._policy.resolve(name)
        self._audit.enforce(decision)
        deadline = Deadlines(self._budgets).begin("connect_seconds")
        addresses = self._resolver.lookup(name, deadline, call)
        return self._granted(name, addresses)

    def _granted(self, name: str, addresses: list[Address]) -> list[Address]:
        decisions = [self._policy.resolved_address(name, address) for address in addresses]
        granted = [
            address
            for address, decision in zip(addresses, decisions, strict=True)
            if decision.allowed
        ]
        if not granted:
            self._audit.enforce(decisions[0])
        for address in granted:
            self._remember(canonical(address), name)
        return granted

    def _remember(self, address: Address, name: str) -> None:
        known = [other for other in self._names.pop(address, ()) if other != name]
        if len(self._names) >= _ADDRESSES:
            del self._names[next(iter(self._names))]
        self._names[address] = (name, *known[: _NAMES - 1])

    def answer(self, query: bytes, call: HostCall) -> bytes:
        """Answer a DNS message (RFC 1035) as a server would that knows only granted names.

        Raises:
            InvalidParamsError: it is no query for one name.
        """
        message = _parse_query(query)
        response = dns.message.make_response(message, recursion_available=True)
        question = message.question[0]
        version = _VERSIONS.get(question.rdtype)
        try:
            addresses = self.resolve(question.name.to_text(omit_final_dot=True), call)
        except DeniedError:
            response.set_rcode(dns.rcode.REFUSED)
        except NameNotFoundError:
            response.set_rcode(dns.rcode.NXDOMAIN)
        except HostFunctionError as error:
            if error.errno_name == "EINTR":
                raise
            response.set_rcode(dns.rcode.SERVFAIL)
        else:
            texts = [str(address) for address in addresses if address.version == version]
            if texts:
                answer = dns.rrset.from_text_list(
                    question.name, _TTL, dns.rdataclass.IN, question.rdtype, texts
                )
                response.answer.append(answer)
        return response.to_wire(max_size=_MESSAGE_LIMIT)


def _parse_query(query: bytes) -> dns.message.Message:
    if len(query) > _MESSAGE_LIMIT:
        raise InvalidParamsError("the DNS query is too long")
    try:
        message = dns.message.from_wire(query)
    except (dns.exception.DNSException, ValueError) as error:
        raise InvalidParamsError("malformed DNS query") from error
    if message.flags & dns.flags.QR or message.opcode() != 0 or len(message.question) != 1:
        raise InvalidParamsError("not a DNS query for one name")
    return message
