"""Spellings of loopback, private and metadata targets: with everything allowed, none gets through.

Every name that is looked up leads to a server on loopback, which must not see a connection.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

SPELLINGS = [
    # loopback, as it is
    "127.0.0.1",
    "127.0.0.2",
    "127.255.255.254",
    "0.0.0.0",  # noqa: S104 (a target)
    "0.1.2.3",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "x.localhost",
    "localhost.localdomain",
    "ip6-localhost",
    "127.0.0.1.",
    # numbers as inet_aton and browsers read them
    "2130706433",
    "017700000001",
    "0x7f000001",
    "0x7F000001",
    "0X7f000001",
    "127.1",
    "127.0.1",
    "0177.0.0.1",
    "0177.0000.0000.0001",
    "0x7f.0.0.1",
    "0x7f.1",
    "127.0.0.0x1",
    "0",
    "0x0",
    "00000000.0",
    "4294967297",
    "127.0.0.1.0x0",
    "0000127.0.0.1",
    "127.000.000.001",
    "127.65537",
    # IPv6
    "[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[0000::0001]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:127.0.0.1]",
    "[::127.0.0.1]",
    "[::7f00:1]",
    "[64:ff9b::127.0.0.1]",
    "[2002:7f00:1::]",
    "[::ffff:0:127.0.0.1]",
    "[::1%25lo]",
    "[fe80::1%25eth0]",
    "[fe80::1]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "::1",
    # userinfo and separators
    "public.test@127.0.0.1",
    "public.test:80@127.0.0.1",
    "127.0.0.1@public.test",
    "127.0.0.1#@public.test",
    "127.0.0.1?@public.test",
    "127.0.0.1\\@public.test",
    "public.test\\@127.0.0.1",
    "127.0.0.1%2f@public.test",
    "127.0.0.1%00.public.test",
    "127.0.0.1%0d%0a.public.test",
    "127.0.0.1\t",
    "127.0.0.1 ",
    "127%2e0%2e0%2e1",
    "%31%32%37.0.0.1",
    "127.0.0.1;public.test",
    "127.0.0.1&public.test",
    # names that lead there, and look-alikes that are the same once they are mapped
    "127.0.0.1.nip.test",
    "public.test",
    "\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3",
    "\uff11\uff12\uff17.0.0.1",
    "\u2460\u2461\u2466.0.0.1",
    "127\u30020\u30020\u30021",
    "127\uff0e0\uff0e0\uff0e1",
    "loc\u00adalhost",
    "lo\u200bcalhost",
    "xn--localhost-.test",
    # private networks and metadata services
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "100.64.0.1",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "169.254.169.254",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "0xa9.0xfe.0xa9.0xfe",
    "169.254.43518",
    "169.254.170.2",
    "100.100.100.200",
    "168.63.129.16",
    "metadata.google.internal",
    "metadata",
    "instance-data",
]


class Canary:
    """Listens on loopback, IPv4 and IPv6, on one port; notices every connection."""

    def __init__(self) -> None:
        # Others may have the port that is free for IPv4 on IPv6: the first that both give counts.
        for _ in range(20):
            first = socket.create_server(("127.0.0.1", 0))
            self.port = first.getsockname()[1]
            try:
                second = socket.create_server(("::1", self.port), family=socket.AF_INET6)
            except OSError:
                first.close()
                continue
            self.listeners = [first, second]
            return
        raise OSError("no port is free for both families")

    def connections(self) -> int:
        """How many connections wait to be accepted; the system has them at once."""
        found = 0
        for listener in self.listeners:
            listener.settimeout(0)
            try:
                while True:
                    listener.accept()[0].close()
                    found += 1
            except BlockingIOError:
                pass
        return found


@pytest.fixture
def canary() -> Iterator[Canary]:
    """A server that must not be reached."""
    made = Canary()
    yield made
    for listener in made.listeners:
        listener.close()


@pytest.fixture
def hostile_dns(dns_stub: Any) -> Any:
    """A DNS server under which every name is loopback."""
    dns_stub.default = {"A": ["127.0.0.1"], "AAAA": ["::1", "::ffff:127.0.0.1"]}
    return dns_stub


@pytest.mark.parametrize("with_port", [True, False], ids=["port", "default"])
@pytest.mark.parametrize("spelling", SPELLINGS, ids=ascii)
def test_request_reaches_no_special_address(
    make_guest: Any, canary: Canary, hostile_dns: Any, spelling: str, with_port: bool
) -> None:
    guest = make_guest(allow="all", nameservers=[hostile_dns.server])
    url = f"http://{spelling}:{canary.port}/" if with_port else f"http://{spelling}/"
    assert guest.refused("net.request", method="GET", url=url).errno == "EACCES"
    assert canary.connections() == 0


@pytest.mark.parametrize("spelling", SPELLINGS, ids=ascii)
def test_socket_reaches_no_special_address(
    make_guest: Any, canary: Canary, hostile_dns: Any, spelling: str
) -> None:
    """Whatever the resolver or the address parser make of it."""
    guest = make_guest(allow="all", nameservers=[hostile_dns.server])
    family = "inet6" if ":" in spelling else "inet"
    address = spelling.strip("[]").replace("%25", "%")
    target = {"address": address, "port": canary.port}
    refusal = guest.refused("net.connect", handle=guest.socket(family=family), **target)
    assert refusal.errno in ("EACCES", "EINVAL")
    for found in _resolved(guest, spelling):
        handle = guest.socket(family="inet6" if ":" in found else "inet")
        target = {"address": found, "port": canary.port}
        assert guest.refused("net.connect", handle=handle, **target).errno == "EACCES"
    assert canary.connections() == 0


def _resolved(guest: Any, name: str) -> list[str]:
    """An address stands for itself; every name is refused."""
    try:
        return list(guest.call("net.resolve", name=name)["addresses"])
    except Exception as error:
        if getattr(error, "errno", None) != "EACCES":
            raise
        return []


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost", "public.test"])
def test_rule_that_names_the_address_does_reach_it(
    make_guest: Any, canary: Canary, hostile_dns: Any, host: str
) -> None:
    """So it is the policy that kept the others away."""
    rule = f"http://{host}:{canary.port}" + (" via 127.0.0.0/8" if host == "public.test" else "")
    guest = make_guest(
        allow=rule, nameservers=[hostile_dns.server], budgets={"first_byte_seconds": 0.1}
    )
    error = guest.refused("net.request", method="GET", url=f"http://{host}:{canary.port}/")
    assert error.data["budget"] == "first_byte_seconds"
    assert canary.connections() == 1


def test_the_table_is_long_enough() -> None:
    assert len(set(SPELLINGS)) >= 60
