"""Which IP addresses are not simply a host on the public internet, and why."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

__all__ = ["Address", "Block", "Network", "canonical", "parse_address", "special_block"]

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


@dataclass(frozen=True)
class Block:
    """A range of addresses that is refused unless a rule names it, or a part of it.

    Attributes:
        network: the range.
        kind: what it is for, such as "loopback".
    """

    network: Network
    kind: str


# Services that hand out a cloud machine's credentials; each must be named exactly.
_METADATA = (
    "169.254.169.254",  # AWS, Azure, Google Cloud, OpenStack and others
    "169.254.169.253",  # AWS: DNS
    "169.254.170.2",  # AWS: credentials of containers
    "169.254.170.23",  # AWS: credentials of pods
    "100.100.100.200",  # Alibaba Cloud
    "168.63.129.16",  # Azure: WireServer, a public address
    "192.0.0.192",  # Oracle Cloud, classic
    "fd00:ec2::254",  # AWS over IPv6
    "fd00:ec2::253",
    "fd00:ec2::23",
    "fd20:ce::254",  # Google Cloud over IPv6
)

# IANA's registries of special-purpose addresses (RFC 6890 and its successors), with the deprecated
# ranges left in. The first match counts.
_BLOCKS = tuple(
    Block(ipaddress.ip_network(network), kind)
    for network, kind in (
        *((address, "metadata") for address in _METADATA),
        ("0.0.0.0/8", "this network"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by a carrier"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "protocol assignments"),
        ("192.0.2.0/24", "documentation"),
        ("192.88.99.0/24", "6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("64:ff9b:1::/48", "translation to IPv4"),
        ("100::/64", "discard only"),
        ("2001::/23", "protocol assignments"),  # among them Teredo
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4"),
        ("3fff::/20", "documentation"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
)

_TRANSLATED = IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address
_GLOBAL_UNICAST = IPv6Network("2000::/3")


def parse_address(text: str) -> Address:
    """The address written in its usual form: no octal, no short form, no zone.

    Raises:
        ValueError: it is anything else.
    """
    if "%" in text:
        raise ValueError("an address with a zone")
    return ipaddress.ip_address(text)


def canonical(address: Address) -> Address:
    """The address a packet would go to: ::ffff:a.b.c.d is a.b.c.d (RFC 4291, section 2.5.5.2)."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


@lru_cache(maxsize=4096)
def special_block(address: Address) -> Block | None:
    """The special-purpose range that `address` belongs to; None for a public unicast address."""
    address = canonical(address)
    for block in _BLOCKS:
        if address in block.network:
            return block
    if isinstance(address, IPv4Address) or address in _GLOBAL_UNICAST:
        return None
    if address in _TRANSLATED:
        inner = special_block(IPv4Address(int(address) & 0xFFFFFFFF))
        return inner and Block(_TRANSLATED, f"{inner.kind}, through NAT64")
    return Block(ipaddress.ip_network(address), "not global unicast")
