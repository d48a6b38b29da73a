"""The decision function, rule by rule."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hl_net import NetConfiguration, Policy, parse_url


def policy(*allow: str, deny: tuple[str, ...] = (), listen: tuple[Any, ...] = ()) -> Policy:
    return Policy(NetConfiguration.model_validate({"allow": allow, "deny": deny, "listen": listen}))


def allows(rules: Policy, method: str, url: str) -> bool:
    return rules.request(method, parse_url(url)).allowed


def test_nothing_is_allowed_without_a_rule() -> None:
    empty = policy()
    address = ipaddress.ip_address("8.8.8.8")
    assert not allows(empty, "GET", "https://a.example/")
    assert not empty.resolve("a.example").allowed
    assert not empty.socket("tcp", address, 443, ()).allowed
    assert not empty.socket("udp", address, 53, ()).allowed
    assert not empty.listen("tcp", ipaddress.ip_address("127.0.0.1"), 8080)[0].allowed


@pytest.mark.parametrize(
    ("method", "url", "allowed"),
    [
        ("GET", "https://a.example/v1", True),
        ("GET", "https://a.example/v1/x?q=1", True),
        ("HEAD", "https://a.example/v1", True),
        ("POST", "https://a.example/v1", False),
        ("GET", "http://a.example/v1", False),
        ("GET", "https://a.example:8443/v1", False),
        ("GET", "https://b.example/v1", False),
        ("GET", "https://x.a.example/v1", False),
        ("GET", "https://a.example/", False),
        ("GET", "https://a.example/v1/../x", False),
    ],
)
def test_every_part_of_a_rule_counts(method: str, url: str, allowed: bool) -> None:
    assert allows(policy("GET,HEAD https://a.example/v1"), method, url) is allowed


@pytest.mark.parametrize("method", ["CONNECT", "TRACE"])
def test_tunnels_and_echoes_are_never_allowed(method: str) -> None:
    assert not allows(policy("all", "tcp://a.example:*"), method, "https://a.example/")


def test_tcp_rule_includes_requests() -> None:
    rules = policy("tcp://a.example:8000")
    assert allows(rules, "POST", "https://a.example:8000/x")
    assert not allows(rules, "POST", "https://a.example/x")


def test_denial_wins_over_every_grant() -> None:
    rules = policy("all", "https://a.example", deny=("https://a.example/admin", "tcp://b.example"))
    assert allows(rules, "GET", "https://a.example/x")
    assert not allows(rules, "GET", "https://a.example/x/..%2fADMIN")
    assert not allows(rules, "GET", "https://b.example/")
    address = ipaddress.ip_address("8.8.8.8")
    assert not rules.socket("tcp", address, 443, ("a.example",)).allowed
    assert rules.socket("tcp", address, 443, ("c.example",)).allowed


def test_name_resolves_while_some_grant_of_it_is_left() -> None:
    rules = policy(
        "https://*.example", "http://b.example", deny=("https://b.example", "tcp://c.example")
    )
    assert rules.resolve("a.example").allowed
    assert rules.resolve("b.example").allowed
    refusal = rules.resolve("c.example")
    assert (refusal.reason, refusal.rule) == ("denied", "tcp://c.example")
    assert rules.resolve("a.test").reason == "missing rule"


def test_denied_network_is_denied_under_every_name() -> None:
    rules = policy("all", deny=("tcp://[8.8.0.0/16]",))
    url = parse_url("https://a.example/")
    assert rules.request("GET", url).allowed
    assert not rules.request_address("GET", url, ipaddress.ip_address("8.8.8.8")).allowed
    assert rules.request_address("GET", url, ipaddress.ip_address("9.9.9.9")).allowed
    assert not allows(rules, "GET", "https://8.8.4.4/")
    assert not rules.socket("tcp", ipaddress.ip_address("8.8.8.8"), 443, ()).allowed


def test_name_may_lead_to_special_addresses_only_if_a_rule_says_so() -> None:
    url, private = parse_url("https://intranet.example/"), ipaddress.ip_address("10.1.2.3")
    assert not policy("https://intranet.example").request_address("GET", url, private).allowed
    for allow in (
        ("https://intranet.example via 10.0.0.0/8",),
        ("https://*.example", "https://intranet.example via 10.1.2.3/32"),
        ("https://intranet.example", "tcp://[10.1.0.0/16]:443"),
    ):
        assert policy(*allow).request_address("GET", url, private).allowed
    for allow in (
        ("https://intranet.example via 0.0.0.0/0",),
        ("https://intranet.example", "tcp://[10.1.0.0/16]:80"),
        ("https://intranet.example", "https://[::1]"),
        ("https://intranet.example", "udp://[10.1.0.0/16]:443"),
    ):
        assert not policy(*allow).request_address("GET", url, private).allowed


def test_all_reaches_no_special_address() -> None:
    rules = policy("all")
    for text in ("127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fd00::1"):
        address = ipaddress.ip_address(text)
        assert not rules.socket("tcp", address, 80, ("a.example",)).allowed
        assert not rules.socket("udp", address, 80, ()).allowed
        url = parse_url("http://a.example/")
        assert not rules.request_address("GET", url, address).allowed


def test_plain_socket_needs_a_rule_without_methods_and_path() -> None:
    address = ipaddress.ip_address("8.8.8.8")
    for limited in ("GET https://a.example", "https://a.example/v1"):
        assert not policy(limited).socket("tcp", address, 443, ("a.example",)).allowed
    whole = policy("https://a.example")
    assert whole.socket("tcp", address, 443, ("a.example",)).allowed
    assert not whole.socket("tcp", address, 80, ("a.example",)).allowed
    assert not whole.socket("tcp", address, 443, ()).allowed
    assert not whole.socket("udp", address, 443, ("a.example",)).allowed


def test_tcp_and_udp_are_granted_apart() -> None:
    address = ipaddress.ip_address("8.8.8.8")
    assert policy("udp://8.8.8.8:53").socket("udp", address, 53, ()).allowed
    assert not policy("udp://8.8.8.8:53").socket("tcp", address, 53, ()).allowed
    assert not policy("tcp://8.8.8.8:53").socket("udp", address, 53, ()).allowed


def test_mapped_address_is_decided_as_ipv4() -> None:
    rules = policy("tcp://127.0.0.1:80")
    assert rules.socket("tcp", ipaddress.ip_address("::ffff:127.0.0.1"), 80, ()).allowed
    assert not rules.socket("tcp", ipaddress.ip_address("::ffff:127.0.0.2"), 80, ()).allowed


def test_refusal_says_which_rule_was_missing() -> None:
    rules = policy("https://a.example/v1", deny=("https://b.example",))
    missing = rules.request("POST", parse_url("https://c.example:8443/x?token=1"))
    assert (missing.reason, missing.rule) == ("missing rule", "POST https://c.example:8443/x")
    assert allows(policy(missing.rule), "POST", "https://c.example:8443/x")
    denied = rules.request("GET", parse_url("https://b.example/"))
    assert (denied.reason, denied.rule) == ("denied", "https://b.example")
    special = rules.request_address(
        "GET", parse_url("https://a.example/v1"), ipaddress.ip_address("10.0.0.1")
    )
    assert special.rule == "https://a.example/v1 via 10.0.0.1/32"
    error = special.error()
    assert error.data == {"rule": special.rule, "reason": "special address"}
    assert "10.0.0.1" in error.message


@pytest.mark.parametrize(
    ("rule", "address", "port", "allowed"),
    [
        (8080, "127.0.0.1", 8080, True),
        (8080, "0.0.0.0", 8080, True),  # noqa: S104 (that is the point)
        (8080, "::", 8080, True),
        (8080, "::1", 8080, True),
        (8080, "127.0.0.1", 8081, False),
        (8080, "192.0.2.1", 8080, False),
        ("tcp://127.0.0.1:8000-8010", "127.0.0.1", 8005, True),
        ("tcp://127.0.0.1:8000-8010", "0.0.0.0", 8005, True),  # noqa: S104 (that is the point)
        ("tcp://127.0.0.1:8000-8010", "::", 8005, False),
        ("tcp://127.0.0.1:8000", "127.0.0.2", 8000, False),
        ("tcp://0.0.0.0:8000", "127.0.0.2", 8000, True),
        ("udp://8080", "127.0.0.1", 8080, False),
        (8080, "127.0.0.1", 0, False),
        (0, "127.0.0.1", 0, True),
    ],
)
def test_listening_is_for_granted_ports(rule: Any, address: str, port: int, allowed: bool) -> None:
    decision, _ = policy(listen=(rule,)).listen("tcp", ipaddress.ip_address(address), port)
    assert decision.allowed is allowed
