"""HTTP headers: those a guest may send, and those it gets to see."""

from __future__ import annotations

import re
from collections.abc import Iterable

from hyperlight_core.errors import InvalidParamsError

__all__ = ["HEADERS_LIMIT", "HOP_BY_HOP", "check_headers", "is_header_value", "without"]

#: Names and values of one request together, in bytes.
HEADERS_LIMIT = 32 << 10

# RFC 9110, section 7.6.1, and its older relatives: these concern a single connection.
#: Nothing of them goes from the guest to the server or back.
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"http2-settings",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_SET_BY_HOST = {name.decode() for name in HOP_BY_HOP} | {"content-length", "expect", "host"}
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
_VALUE = re.compile(r"(?:[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?)?")


def is_header_value(text: str) -> bool:
    """Whether the text is printable ASCII without blanks at its ends."""
    return _VALUE.fullmatch(text) is not None


def check_headers(headers: Iterable[list[str]]) -> list[tuple[str, str]]:
    """The guest's headers, if it may send them.

    Raises:
        InvalidParamsError: one is malformed, or is not the guest's to set.
    """
    checked = [(name, value) for name, value in headers]
    if not checked:
        return checked
    for name, value in checked:
        if not _NAME.fullmatch(name) or not is_header_value(value):
            raise InvalidParamsError(f"malformed header {name[:64]!a}")
        if name.lower() in _SET_BY_HOST:
            raise InvalidParamsError(f"the header {name} is set by the host")
    if sum(len(name) + len(value) for name, value in checked) > HEADERS_LIMIT:
        raise InvalidParamsError(f"the headers have more than {HEADERS_LIMIT} bytes")
    return checked


def without(headers: Iterable[tuple[str, str]], *names: str) -> list[tuple[str, str]]:
    """The headers except those with one of the given lower-case names."""
    return [(name, value) for name, value in headers if name.lower() not in names]
