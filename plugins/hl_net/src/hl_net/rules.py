"""Rules: what may be reached, written as one line or as a mapping.

Examples:
https://api.example.com                        the whole origin, also through a plain socket
GET,HEAD https://*.example.com/v1              methods and a path: HTTP requests only
https://intranet.example via 10.1.0.0/16       a name that may lead to these special addresses
tcp://db.example.com:5432                      anything over TCP to that port
tcp://[10.1.2.0/24]:5432-5439                  addresses instead of a name, in CIDR form
tcp://8080, udp://127.0.0.1:5000-5010          what may be listened on
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)

from hl_net.addresses import Address, Network, canonical, parse_address, special_block
from hl_net.paths import normal_prefix
from hl_net.urls import DEFAULT_PORTS, parse_host

__all__ = ["FORBIDDEN_METHODS", "DenyRule", "ListenRule", "Ports", "Rule", "rules_from"]

_MAXIMUM_PORT = 0xFFFF
_LOOPBACKS = ("127.0.0.0/8", "::1/128")
_HOST = r"\[[^\]\s]+\]|[^\s\[\]:/@]+"
_RULE = re.compile(
    r"(?:(?P<methods>\S+) )?(?P<scheme>https?|tcp|udp)://"
    rf"(?P<host>{_HOST})(?::(?P<ports>[0-9,*-]+))?(?P<path>/\S*)?(?: via (?P<addresses>\S+))?"
)
_LISTEN = re.compile(rf"(?P<protocol>tcp|udp)://(?:(?P<address>{_HOST}):)?(?P<ports>[0-9,*-]+)")
_METHOD = re.compile(r"[A-Z][A-Z0-9-]{0,31}")
FORBIDDEN_METHODS = frozenset({"CONNECT", "TRACE"})  # a tunnel, and an echo of credentials


@dataclass(frozen=True)
class Ports:
    """Port numbers, as ranges that include both ends; written "80,8000-8010" or "*"."""

    ranges: tuple[tuple[int, int], ...]

    @classmethod
    def parse(cls, value: Any) -> Ports:
        """Read the text, or a single number.

        Raises:
            ValueError: it is malformed, or no port.
        """
        if isinstance(value, Ports):
            return value
        if value == "*":
            return cls(((0, _MAXIMUM_PORT),))
        return cls(tuple(_port_range(part) for part in str(value).split(",")))

    def __contains__(self, port: int) -> bool:
        return any(low <= port <= high for low, high in self.ranges)

    def include(self, other: Ports) -> bool:
        """Whether each range of `other` lies in one of these."""
        return all(
            any(outer_low <= low and high <= outer_high for outer_low, outer_high in self.ranges)
            for low, high in other.ranges
        )

    def __str__(self) -> str:
        if self == EVERY_PORT:
            return "*"
        return ",".join(f"{low}-{high}" if low != high else f"{low}" for low, high in self.ranges)


def _port_range(text: str) -> tuple[int, int]:
    low, _, high = text.partition("-")
    high = high or low
    if not (re.fullmatch(r"[0-9]{1,5} [0-9]{1,5}", f"{low} {high}", re.ASCII)):
        raise ValueError(f"not a port or range of ports: {text!r}")
    if not int(low) <= int(high) <= _MAXIMUM_PORT:
        raise ValueError(f"not a port or range of ports: {text!r}")
    return int(low), int(high)


def _networks(value: Any) -> tuple[Network, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    return tuple(ipaddress.ip_network(part) for part in parts)


EVERY_PORT = Ports.parse("*")
PortsField = Annotated[
    Ports,
    BeforeValidator(Ports.parse),
    PlainSerializer(str),
    WithJsonSchema({"type": ["string", "integer"]}),
]
NetworksField = Annotated[
    tuple[Network, ...],
    BeforeValidator(_networks),
    PlainSerializer(lambda networks: [str(network) for network in networks]),
    WithJsonSchema({"type": "array", "items": {"type": "string"}}),
]


class Rule(BaseModel):
    """One way out, or one destination denied.

    Attributes:
        scheme: http and https for requests (and for sockets, where neither methods nor a path are
            given); tcp and udp for sockets, where tcp includes requests.
        host: an exact name, "*.example.com" for its subdomains only, an address, a network in CIDR
            form, or "*" for every name and every address that is not special.
        ports: by default the scheme's port; tcp and udp have none.
        methods: by default every method but CONNECT and TRACE.
        path: a prefix that ends at a segment's end.
        addresses: special addresses (private, loopback and so on) that the name may lead to.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)
    default_ports: ClassVar[Mapping[str, Ports]] = {
        scheme: Ports.parse(port) for scheme, port in DEFAULT_PORTS.items()
    }

    scheme: Literal["http", "https", "tcp", "udp"]
    host: str
    ports: PortsField
    methods: tuple[str, ...] | None = None
    path: str = ""
    addresses: NetworksField = ()

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        fields = _fields_of(_RULE, value, "a rule such as https://api.example.com/v1")
        if isinstance(fields, dict):
            _fill_in(fields, cls.default_ports)
        return fields

    @model_validator(mode="after")
    def _check(self) -> Rule:
        if self.scheme in ("tcp", "udp") and (self.methods is not None or self.path):
            raise ValueError("methods and a path only make sense for http and https")
        for method in self.methods or ():
            if not _METHOD.fullmatch(method) or method in FORBIDDEN_METHODS:
                raise ValueError(f"not a method that can be granted: {method!r}")
        return self

    @cached_property
    def network(self) -> Network | None:
        """The addresses that `host` stands for, or None if it is a name or a pattern."""
        # No name has a colon, a slash or a last label of digits.
        address_like = ":" in self.host or self.host.rpartition(".")[2].partition("/")[0].isdigit()
        return ipaddress.ip_network(self.host) if address_like else None

    @property
    def whole_origin(self) -> bool:
        """Whether nothing inside the connection matters, so that a plain socket may be had."""
        return self.methods is None and not self.path

    def names(self, host: str) -> bool:
        """Whether the rule is for the host name `host`."""
        if self.host.startswith("*."):
            return host.endswith(self.host[1:])
        return self.host in ("*", host)

    def holds(self, address: Address) -> bool:
        """Whether the rule is for `address` itself, special addresses only if it names them."""
        if self.host == "*":
            return special_block(address) is None
        return self.network is not None and self.may_lead_to(address, within=(self.network,))

    def may_lead_to(self, address: Address, within: tuple[Network, ...] | None = None) -> bool:
        """Whether one of the networks (by default `addresses`) names `address`.

        A network names a special address only if it lies within that special range: 0.0.0.0/0
        names no private address, and 10.0.0.0/8 does.
        """
        address, block = canonical(address), special_block(address)
        return any(
            address in network and (block is None or _lies_in(network, block.network))
            for network in (self.addresses if within is None else within)
        )

    def covers(self, address: Address) -> bool:
        """Whether `address` belongs to the rule's host, special or not; for deny rules."""
        return self.host == "*" or (self.network is not None and canonical(address) in self.network)

    def __str__(self) -> str:
        return self._text

    @cached_property
    def _text(self) -> str:
        methods = f"{','.join(self.methods)} " if self.methods is not None else ""
        host = f"[{self.host}]" if re.search(r"[:/]", self.host) else self.host
        ports = f":{self.ports}" if self.ports != self.default_ports.get(self.scheme) else ""
        via = f" via {','.join(map(str, self.addresses))}" if self.addresses else ""
        return f"{methods}{self.scheme}://{host}{ports}{self.path}{via}"


class DenyRule(Rule):
    """A destination denied: by default at every port."""

    default_ports = dict.fromkeys(("http", "https", "tcp", "udp"), EVERY_PORT)


class ListenRule(BaseModel):
    """Ports that the guest may listen on.

    Attributes:
        protocol: tcp or udp.
        ports: may include 0, for whichever port the host has free.
        address: the host's address to listen on; by default its loopback.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    protocol: Literal["tcp", "udp"] = "tcp"
    ports: PortsField
    address: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if isinstance(value, int):
            return {"ports": value}
        fields = _fields_of(_LISTEN, value, "a port, or a rule such as tcp://127.0.0.1:8080")
        if isinstance(fields, dict) and fields.get("address"):
            fields["address"] = str(parse_address(fields["address"].strip("[]")))
        return fields

    def __str__(self) -> str:
        host = f"[{self.address}]:" if ":" in (self.address or "") else f"{self.address}:"
        return f"{self.protocol}://{host if self.address else ''}{self.ports}"


def rules_from(value: Any) -> Any:
    """The list of rules that `value` stands for: one may be left out of its list, "all" is four."""
    items = value if isinstance(value, (list, tuple)) else [value]
    everything = ("http://*:*", "https://*:*", "tcp://*:*", "udp://*:*")
    return [rule for item in items for rule in (everything if item == "all" else (item,))]


def _fields_of(pattern: re.Pattern[str], value: Any, expected: str) -> Any:
    if not isinstance(value, str):
        return dict(value) if isinstance(value, dict) else value
    match = pattern.fullmatch(value)
    if match is None:
        raise ValueError(f"not {expected}: {value!r}")
    return {name: text for name, text in match.groupdict().items() if text is not None}


def _fill_in(fields: dict[str, Any], default_ports: Mapping[str, Ports]) -> None:
    """Bring a rule's fields into normal form, and give those left out."""
    if isinstance(fields.get("host"), str):
        fields["host"] = _normal_host(fields["host"])
    if isinstance(fields.get("methods"), str):
        fields["methods"] = fields["methods"].split(",")
    if isinstance(fields.get("path"), str) and fields["path"]:
        fields["path"] = normal_prefix(fields["path"])
    if fields.get("ports") is None:
        fields["ports"] = default_ports.get(fields.get("scheme", ""))
    if fields.get("host") == "localhost":  # RFC 6761, section 6.3: it means nothing else
        fields.setdefault("addresses", _LOOPBACKS)


def _normal_host(host: str) -> str:
    if host == "*":
        return host
    if "/" in host:
        network = ipaddress.ip_network(host.strip("[]"))
        return str(network[0]) if network.num_addresses == 1 else str(network)
    if not host.startswith("*."):
        return str(parse_host(host))
    if not isinstance(parsed := parse_host(host[2:]), str):
        raise ValueError(f"an address has no subdomains: {host!r}")
    return f"*.{parsed}"


def _lies_in(network: Network, block: Network) -> bool:
    return network.version == block.version and network.subnet_of(block)  # type: ignore[arg-type]
