"""The decision: whether a rule allows a request, a name, a connection or a port to listen on.

Pure functions of the configuration; nothing here touches the network. A name is decided first, then
each address it leads to; both decisions must allow.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from hl_net.addresses import Address, canonical, special_block
from hl_net.configuration import NetConfiguration
from hl_net.paths import reaches, stays_within
from hl_net.rules import FORBIDDEN_METHODS, ListenRule, Rule
from hl_net.urls import Url
from hyperlight_core.errors import DeniedError

__all__ = ["DECISIONS", "Decision", "Policy", "Protocol"]

#: How many decisions, which never change, are worth remembering for one sandbox. For that one only:
#: none shall tell by the time it takes what another one asks for.
DECISIONS = 64

Protocol = Literal["tcp", "udp"]


@dataclass(frozen=True)
class Decision:
    """What the policy says to one attempt.

    Attributes:
        allowed: whether it may happen.
        action: request, resolve, connect, send, listen or credential.
        target: what was attempted; never with a URL's query.
        rule: the rule that allows or denies it, or the one that would be needed.
        reason: "granted", "denied", "missing rule", "special address" or "malformed".
        address: the address decided upon, if one was.
    """

    allowed: bool
    action: str
    target: str
    rule: str
    reason: str
    address: str = ""

    def error(self) -> DeniedError:
        """The refusal, as the guest gets it."""
        text = {
            "denied": "the rule {rule} denies it",
            "missing rule": "no rule allows it; {rule} would",
            "special address": "it leads to {address}; {rule} would allow that",
        }.get(self.reason, self.reason)
        message = (
            f"{self.action} {self.target}: {text.format(rule=self.rule, address=self.address)}"
        )
        return DeniedError(message, data={"rule": self.rule, "reason": self.reason})


class Policy:
    """The decisions under one configuration."""

    def __init__(self, configuration: NetConfiguration) -> None:
        self._allow, self._deny = configuration.allow, configuration.deny
        self._listen = configuration.listen

    def request(self, method: str, url: Url) -> Decision:
        """Whether an HTTP request may be tried."""
        target = f"{method} {url.without_query}"
        for denial in self._deny:
            if _applies(denial, url) and _denies_within(denial, method, url.path):
                return Decision(False, "request", target, str(denial), "denied")
        for rule in self._for_request(method, url):
            return Decision(True, "request", target, str(rule), "granted")
        needed = f"{method} {url.scheme}://{url.authority}{url.path.rstrip('/')}"
        return Decision(False, "request", target, needed, "missing rule")

    def request_address(self, method: str, url: Url, address: Address) -> Decision:
        """Whether a request that is granted may go to `address`, one that its host leads to."""
        target = f"{method} {url.without_query}"
        for denial in self._deny:
            at_address = denial.network is not None and denial.covers(address)
            if (
                at_address
                and _web_port(denial, url.scheme, url.port)
                and _denies_within(denial, method, url.path)
            ):
                return Decision(False, "request", target, str(denial), "denied", str(address))
        needed = ""
        for rule in self._for_request(method, url):
            if _leads_to(rule, address):
                return Decision(True, "request", target, str(rule), "granted", str(address))
            needed = needed or _naming(rule, address)
        if needed and (plain := self._plain_rule("tcp", address, url.port)):
            return Decision(True, "request", target, str(plain), "granted", str(address))
        return Decision(False, "request", target, needed, "special address", str(address))

    def resolve(self, name: str) -> Decision:
        """Whether the guest may learn the addresses of `name`."""
        denials = [denial for denial in self._deny if denial.whole_origin and denial.names(name)]
        denied = ""
        for rule in self._allow:
            if rule.names(name):
                denied = next((str(denial) for denial in denials if _includes(denial, rule)), "")
                if not denied:
                    return Decision(True, "resolve", name, str(rule), "granted")
        if denied:
            return Decision(False, "resolve", name, denied, "denied")
        return Decision(False, "resolve", name, f"https://{name}", "missing rule")

    def resolved_address(self, name: str, address: Address) -> Decision:
        """Whether some rule lets `name`, which may be resolved, lead to `address`."""
        rules = [rule for rule in self._allow if rule.names(name)]
        for rule in rules:
            if _leads_to(rule, address):
                return Decision(True, "resolve", name, str(rule), "granted", str(address))
        for rule in self._allow:
            if rule.whole_origin and rule.holds(address):
                return Decision(True, "resolve", name, str(rule), "granted", str(address))
        needed = _naming(rules[0], address) if rules else f"https://{name}"
        return Decision(False, "resolve", name, needed, "special address", str(address))

    def socket(
        self, protocol: Protocol, address: Address, port: int, names: Iterable[str]
    ) -> Decision:
        """Whether a socket may connect or send to `address`, which resolved from `names`."""
        address, action = canonical(address), "connect" if protocol == "tcp" else "send"
        host = f"[{address}]" if address.version == 6 else str(address)
        target, names = f"{protocol}://{host}:{port}", tuple(names)
        for denial in _for_sockets(self._deny, protocol, port):
            if denial.covers(address) or any(map(denial.names, names)):
                return Decision(False, action, target, str(denial), "denied", str(address))
        rule = self._plain_rule(protocol, address, port)
        if rule is None:
            rule = self._named_rule(protocol, address, port, names)
        if rule is not None:
            return Decision(True, action, target, str(rule), "granted", str(address))
        needed = f"{protocol}://{names[0]}:{port}" if names else target
        if names and special_block(address):
            needed += f" via {ipaddress.ip_network(address)}"
        reason = "special address" if special_block(address) else "missing rule"
        return Decision(False, action, target, needed, reason, str(address))

    def listen(
        self, protocol: Protocol, address: Address, port: int
    ) -> tuple[Decision, ListenRule | None]:
        """Whether the guest may listen on `port` of `address`, and the rule by which.

        The unspecified address stands for whichever one the rule says.
        """
        host = f"[{address}]" if address.version == 6 else str(address)
        target = f"{protocol}://{host}:{port}"
        for rule in self._listen:
            if rule.protocol == protocol and port in rule.ports and _listens(rule, address):
                return Decision(True, "listen", target, str(rule), "granted"), rule
        needed = f"{protocol}://{port}" if address.is_unspecified else target
        return Decision(False, "listen", target, needed, "missing rule"), None

    def _for_request(self, method: str, url: Url) -> Iterator[Rule]:
        """The rules that grant the request, as far as its URL goes."""
        if method not in FORBIDDEN_METHODS:
            for rule in self._allow:
                if _applies(rule, url) and _allows_within(rule, method, url.path):
                    yield rule

    def _plain_rule(self, protocol: Protocol, address: Address, port: int) -> Rule | None:
        """The rule that grants a plain socket to `address` itself."""
        rules = _for_sockets(self._allow, protocol, port)
        return next((rule for rule in rules if rule.whole_origin and rule.holds(address)), None)

    def _named_rule(
        self, protocol: Protocol, address: Address, port: int, names: tuple[str, ...]
    ) -> Rule | None:
        """The rule that grants a plain socket to a name that leads to `address`."""
        for rule in _for_sockets(self._allow, protocol, port):
            named = rule.whole_origin and any(map(rule.names, names))
            if named and _leads_to(rule, address):
                return rule
        return None


def _for_sockets(rules: Iterable[Rule], protocol: Protocol, port: int) -> Iterator[Rule]:
    schemes = ("udp",) if protocol == "udp" else ("http", "https", "tcp")
    return (rule for rule in rules if rule.scheme in schemes and port in rule.ports)


def _web_port(rule: Rule, scheme: str, port: int) -> bool:
    return rule.scheme in (scheme, "tcp") and port in rule.ports


def _applies(rule: Rule, url: Url) -> bool:
    if not _web_port(rule, url.scheme, url.port):
        return False
    if isinstance(url.host, str):
        return rule.names(url.host)
    return rule.covers(url.host)


def _allows_within(rule: Rule, method: str, path: str) -> bool:
    return (rule.methods is None or method in rule.methods) and stays_within(path, rule.path)


def _denies_within(rule: Rule, method: str, path: str) -> bool:
    return (rule.methods is None or method in rule.methods) and reaches(path, rule.path)


def _leads_to(rule: Rule, address: Address) -> bool:
    """Whether a name granted by `rule` may lead to `address`."""
    return special_block(address) is None or rule.may_lead_to(address) or rule.holds(address)


def _naming(rule: Rule, address: Address) -> str:
    """The rule that would be needed to lead to `address` too."""
    networks = (*rule.addresses, ipaddress.ip_network(address))
    return str(Rule.model_validate(rule.model_dump() | {"addresses": networks}))


def _includes(denial: Rule, rule: Rule) -> bool:
    """Whether `denial`, for the same name, leaves nothing of `rule`."""
    schemes = (rule.scheme,) if rule.scheme == "udp" else (rule.scheme, "tcp")
    return denial.scheme in schemes and denial.ports.include(rule.ports)


def _listens(rule: ListenRule, address: Address) -> bool:
    if address.is_unspecified:
        return rule.address is None or ipaddress.ip_address(rule.address).version == address.version
    if rule.address is None:
        return address.is_loopback
    granted = ipaddress.ip_address(rule.address)
    return granted == address or (granted.is_unspecified and granted.version == address.version)
