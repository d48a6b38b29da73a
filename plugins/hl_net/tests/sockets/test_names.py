"""Names in the guest: resolved on the host, only granted ones, and bound to what they led to."""

from __future__ import annotations

from typing import Any

import dns.flags
import dns.message
import dns.rcode
import pytest


@pytest.fixture
def resolving(make_guest: Any, dns_stub: Any) -> Any:
    """A guest that may use a.test and what lies under it, on loopback."""
    dns_stub.answer("a.test", ["127.0.0.1"])
    dns_stub.answer("a.test", ["::1"], kind="AAAA")
    return make_guest(
        allow=["http://a.test via 127.0.0.1/32,::1/128", "http://*.a.test"],
        nameservers=[dns_stub.server],
    )


def query(guest: Any, name: str, kind: str = "A") -> dns.message.Message:
    """Ask as a stub resolver does."""
    message = dns.message.make_query(name, kind)
    reply = guest.call("net.dns", message.to_wire())
    assert reply["size"] == len(reply.attachment)
    response = dns.message.from_wire(reply.attachment)
    assert response.id == message.id
    assert response.flags & dns.flags.QR
    return response


def addresses(response: dns.message.Message) -> list[str]:
    return [record.to_text() for rrset in response.answer for record in rrset]


def test_granted_name_is_resolved(resolving: Any) -> None:
    assert set(resolving.call("net.resolve", name="A.test.")["addresses"]) == {"127.0.0.1", "::1"}
    four = resolving.call("net.resolve", name="a.test", family="inet")["addresses"]
    six = resolving.call("net.resolve", name="a.test", family="inet6")["addresses"]
    assert (four, six) == (["127.0.0.1"], ["::1"])


def test_other_names_are_refused(resolving: Any) -> None:
    error = resolving.refused("net.resolve", name="b.test")
    assert (error.errno, error.rule) == ("EACCES", "https://b.test")


def test_address_stands_for_itself(resolving: Any) -> None:
    assert resolving.call("net.resolve", name="10.0.0.1")["addresses"] == ["10.0.0.1"]


def test_missing_name_is_not_found(resolving: Any) -> None:
    assert resolving.refused("net.resolve", name="x.a.test").errno == "ENOENT"


@pytest.mark.parametrize(("kind", "address"), [("A", "127.0.0.1"), ("AAAA", "::1")])
def test_dns_query_of_the_guest_is_answered(resolving: Any, kind: str, address: str) -> None:
    assert addresses(query(resolving, "a.test", kind)) == [address]


def test_dns_query_for_another_name_is_refused(resolving: Any, dns_stub: Any) -> None:
    assert query(resolving, "b.test").rcode() == dns.rcode.REFUSED
    assert dns_stub.queries == []


def test_dns_query_for_a_missing_name(resolving: Any) -> None:
    assert query(resolving, "x.a.test").rcode() == dns.rcode.NXDOMAIN


def test_dns_query_of_another_kind_has_an_empty_answer(resolving: Any) -> None:
    response = query(resolving, "a.test", "TXT")
    assert (response.rcode(), response.answer) == (dns.rcode.NOERROR, [])


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\0" * 11,
        b"\xff" * 40,
        b"\0" * 5000,
        dns.message.make_query("a.test", "A").to_wire()[:-1],
    ],
    ids=["empty", "short", "noise", "long", "cut"],
)
def test_malformed_dns_query_is_refused(resolving: Any, message: bytes) -> None:
    assert resolving.refused("net.dns", message).code == -32602


def test_dns_response_is_no_query(resolving: Any) -> None:
    response = dns.message.make_response(dns.message.make_query("a.test", "A"))
    assert resolving.refused("net.dns", response.to_wire()).code == -32602


def test_socket_to_a_name_needs_it_to_be_resolved(
    make_guest: Any, dns_stub: Any, echo: Any
) -> None:
    """An address nobody resolved belongs to no name; and only to the address that was seen."""
    dns_stub.answer("a.test", ["127.0.0.1"])
    guest = make_guest(
        allow=f"tcp://a.test:{echo.port} via 127.0.0.0/8", nameservers=[dns_stub.server]
    )
    target = {"address": "127.0.0.1", "port": echo.port}
    assert guest.refused("net.connect", handle=guest.socket(), **target).errno == "EACCES"
    guest.call("net.resolve", name="a.test")
    handle = guest.connect("127.0.0.1", echo.port)
    guest.call("net.send", b"x", handle=handle)
    assert guest.receive(handle) == b"x"
    other = {"address": "127.0.0.2", "port": echo.port}
    assert guest.refused("net.connect", handle=guest.socket(), **other).errno == "EACCES"


def test_lookups_by_the_system_know_localhost(make_guest: Any) -> None:
    guest = make_guest(allow="http://localhost")
    assert "127.0.0.1" in guest.call("net.resolve", name="localhost")["addresses"]


def test_killed_sandbox_does_not_wait_for_a_name(make_guest: Any, dns_stub: Any) -> None:
    guest = make_guest(allow="http://a.test", nameservers=[dns_stub.server])
    guest.kill()
    assert guest.refused("net.resolve", name="a.test").errno == "EINTR"
