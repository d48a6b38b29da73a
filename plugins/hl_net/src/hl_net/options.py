"""The socket options a guest may read or set, with the values it may give them."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["OPTIONS", "Option"]

_FLAG = range(2)
_BUFFER = range((4 << 20) + 1)
_SECONDS = range(1, 32768)  # tcp(7)


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes:
        level: as of setsockopt(2).
        name: likewise.
        values: that it may be set to; none if it may only be read.
    """

    level: int
    name: int
    values: range = range(0)

    @property
    def settable(self) -> bool:
        """Whether a guest may set it."""
        return len(self.values) > 0


#: By the names of socket(7), tcp(7) and ipv6(7). Whatever reaches beyond the socket is left out.
OPTIONS: Mapping[str, Option] = {
    "SO_ACCEPTCONN": Option(socket.SOL_SOCKET, socket.SO_ACCEPTCONN),
    "SO_ERROR": Option(socket.SOL_SOCKET, socket.SO_ERROR),
    "SO_KEEPALIVE": Option(socket.SOL_SOCKET, socket.SO_KEEPALIVE, _FLAG),
    "SO_RCVBUF": Option(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER),
    "SO_REUSEADDR": Option(socket.SOL_SOCKET, socket.SO_REUSEADDR, _FLAG),
    "SO_SNDBUF": Option(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER),
    "SO_TYPE": Option(socket.SOL_SOCKET, socket.SO_TYPE),
    "TCP_KEEPCNT": Option(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, range(1, 128)),
    "TCP_KEEPIDLE": Option(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _SECONDS),
    "TCP_KEEPINTVL": Option(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _SECONDS),
    "TCP_MAXSEG": Option(socket.IPPROTO_TCP, socket.TCP_MAXSEG),
    "TCP_NODELAY": Option(socket.IPPROTO_TCP, socket.TCP_NODELAY, _FLAG),
    "IPV6_V6ONLY": Option(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, _FLAG),
}
