"""URLs and host names, read in one strict way: what is checked is what is connected.

Where two programs could read a text differently (userinfo, backslashes, numbers that older
resolvers take for addresses, control characters), it is refused rather than repaired.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

import idna

from hl_net.addresses import Address, canonical, parse_address

__all__ = ["DEFAULT_PORTS", "Url", "parse_host", "parse_port", "parse_url"]

DEFAULT_PORTS = {"http": 80, "https": 443}
_URL_LIMIT = 8192
_NAME_LIMIT = 253  # RFC 1035, section 2.3.4, without the root's dot

# RFC 3986, section 3, without userinfo. The path and query take only characters the RFC allows.
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]+\]|[^\s\[\]:/?#@\\%]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*)?"
    r"(?P<query>\?(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?"
    r"(?:#[^\s]*)?",
    re.IGNORECASE | re.ASCII,
)
# RFC 1123, section 2.1, and the underscore that some real names have.
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
# What inet_aton and browsers take for a part of an IPv4 address.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


@dataclass(frozen=True)
class Url:
    """An http or https URL in normal form.

    Attributes:
        scheme: "http" or "https".
        host: a lower-case ASCII name without trailing dot, or an address.
        port: 1 to 65535.
        path: begins with "/", percent-encoded as it was given.
        query: with its "?", or "".
    """

    scheme: str
    host: str | Address
    port: int
    path: str = "/"
    query: str = ""

    @cached_property
    def authority(self) -> str:
        """The value of the Host header (RFC 9110, section 7.2)."""
        host = f"[{self.host}]" if ":" in str(self.host) else str(self.host)
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @cached_property
    def origin(self) -> tuple[str, str | Address, int]:
        """What two URLs must share for credentials to go to both (RFC 6454)."""
        return self.scheme, self.host, self.port

    @cached_property
    def without_query(self) -> str:
        """The URL for rules, messages and logs, which a secret in the query must not reach."""
        return f"{self.scheme}://{self.authority}{self.path}"

    def __str__(self) -> str:
        return self.without_query + self.query


def parse_url(text: str) -> Url:
    """Read an absolute http or https URL; the fragment is dropped.

    Raises:
        ValueError: it is not one, or could be read in several ways.
    """
    match = _URL.fullmatch(text) if len(text) <= _URL_LIMIT else None
    if match is None:
        raise ValueError("not an absolute http or https URL in plain form")
    scheme = match["scheme"].lower()
    port = parse_port(match["port"]) if match["port"] else DEFAULT_PORTS[scheme]
    return Url(scheme, parse_host(match["host"]), port, match["path"] or "/", match["query"] or "")


def parse_port(text: str) -> int:
    """A port number from 1 to 65535.

    Raises:
        ValueError: it is anything else.
    """
    if not re.fullmatch(r"[0-9]{1,5}", text, re.ASCII) or not 1 <= int(text) <= 0xFFFF:
        raise ValueError(f"not a port: {text[:16]!r}")
    return int(text)


def parse_host(text: str) -> str | Address:
    """A host name in lower-case ASCII without trailing dot, or an address.

    An IPv6 address may stand in brackets; a mapped IPv4 address is that IPv4 address.

    Raises:
        ValueError: it is neither, or looks like an address without being one in its usual form.
    """
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
        if ":" not in text:
            raise ValueError("brackets are for IPv6 addresses")
    if ":" in text:
        return canonical(parse_address(text))
    name = _ascii_name(text)
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return parse_address(name)
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("not a host name")
    return name


def _ascii_name(text: str) -> str:
    if not 0 < len(text) <= _NAME_LIMIT + 1:
        raise ValueError("not a host name: empty or too long")
    try:
        name = text.lower() if text.isascii() else idna.encode(text, uts46=True).decode()
    except UnicodeError as error:  # idna.IDNAError is one
        raise ValueError("not an internationalised host name") from error
    return name.removesuffix(".")
