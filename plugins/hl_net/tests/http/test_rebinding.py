"""Hostile names: what was checked is what is connected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Servers = Callable[..., Any]


@pytest.fixture
def victim(http_server: Servers) -> Any:
    """A server on an address nothing grants."""
    return http_server("127.0.0.1")


def test_rebinding_name_gains_nothing(make_guest: Any, dns_stub: Any, http_server: Servers) -> None:
    """Between check and connection there is no second lookup, and a later one is checked anew."""
    granted = http_server("127.0.0.2")
    dns_stub.answer("rebind.test", ["127.0.0.2"], ["127.0.0.1"])
    guest = make_guest(
        allow=f"http://rebind.test:{granted.port} via 127.0.0.2/32", nameservers=[dns_stub.server]
    )
    url = f"http://rebind.test:{granted.port}/"
    assert guest.fetch(url)[0] == 200
    assert dns_stub.queries.count("rebind.test A") == 1
    error = guest.refused("net.request", method="GET", url=url)
    assert error.data["reason"] == "special address"
    assert error.rule.endswith(" via 127.0.0.2/32,127.0.0.1/32")
    assert len(granted.seen) == 1


@pytest.mark.parametrize(
    ("kind", "address"),
    [
        ("A", "127.0.0.1"),
        ("A", "0.0.0.0"),  # noqa: S104 (that is the point)
        ("A", "10.0.0.1"),
        ("A", "169.254.169.254"),
        ("AAAA", "::1"),
        ("AAAA", "::ffff:127.0.0.1"),
        ("AAAA", "fd00:ec2::254"),
        ("AAAA", "fe80::1"),
        ("AAAA", "64:ff9b::7f00:1"),
    ],
)
def test_granted_name_leads_to_no_special_address(
    make_guest: Any, dns_stub: Any, victim: Any, kind: str, address: str
) -> None:
    dns_stub.answer("evil.test", [address], kind=kind)
    guest = make_guest(allow=f"http://evil.test:{victim.port}", nameservers=[dns_stub.server])
    error = guest.refused("net.request", method="GET", url=f"http://evil.test:{victim.port}/")
    assert error.data["reason"] == "special address"
    assert guest.refused("net.resolve", name="evil.test").errno == "EACCES"
    assert victim.seen == []


def test_only_the_granted_ones_of_several_addresses_are_tried(
    make_guest: Any, dns_stub: Any, http_server: Servers, victim: Any
) -> None:
    dns_stub.answer("mixed.test", ["127.0.0.1", "127.0.0.3"])
    guest = make_guest(
        allow=f"http://mixed.test:{victim.port} via 127.0.0.3/32", nameservers=[dns_stub.server]
    )
    error = guest.refused("net.request", method="GET", url=f"http://mixed.test:{victim.port}/")
    assert error.errno == "ECONNREFUSED"
    assert victim.seen == []


def test_second_address_is_tried_when_the_first_does_not_answer(
    make_guest: Any, dns_stub: Any, http_server: Servers
) -> None:
    server = http_server("127.0.0.4")
    dns_stub.answer("two.test", ["127.0.0.5", "127.0.0.4"])
    guest = make_guest(
        allow=f"http://two.test:{server.port} via 127.0.0.0/8", nameservers=[dns_stub.server]
    )
    assert guest.fetch(f"http://two.test:{server.port}/")[0] == 200


def test_name_that_is_not_granted_is_never_looked_up(make_guest: Any, dns_stub: Any) -> None:
    """A lookup would tell its labels to whoever runs the name's server."""
    guest = make_guest(allow="http://a.test", nameservers=[dns_stub.server])
    guest.refused("net.request", method="GET", url="http://secret.evil.test/")
    guest.refused("net.resolve", name="secret.evil.test")
    assert dns_stub.queries == []


def test_unknown_name_is_not_found(make_guest: Any, dns_stub: Any) -> None:
    guest = make_guest(allow="http://a.test", nameservers=[dns_stub.server])
    error = guest.refused("net.request", method="GET", url="http://a.test/")
    assert (error.errno, error.message) == ("ENOENT", "a.test has no address")


def test_host_header_names_what_was_granted(
    make_guest: Any, dns_stub: Any, http_server: Servers
) -> None:
    server = http_server("127.0.0.2")
    dns_stub.answer("named.test", ["127.0.0.2"])
    guest = make_guest(
        allow=f"http://*.test:{server.port} via 127.0.0.2/32", nameservers=[dns_stub.server]
    )
    guest.fetch(f"HTTP://NAMED.test.:{server.port}/x")
    assert server.seen[0].header("host") == f"named.test:{server.port}"
