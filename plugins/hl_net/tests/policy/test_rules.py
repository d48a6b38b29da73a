"""Rules and configuration: what can be written, and that it reads back."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hl_net import Credential, DenyRule, ListenRule, NetConfiguration, Rule
from pydantic import ValidationError


@pytest.mark.parametrize(
    "text",
    [
        "https://api.example.com",
        "https://api.example.com:8443",
        "http://api.example.com:8000-8010,9000",
        "GET,HEAD https://*.example.com/v1",
        "https://xn--bcher-kva.example",
        "https://[2606:4700::1111]",
        "https://intranet.example via 10.1.0.0/16,fd00::/8",
        "http://127.0.0.1:8080",
        "tcp://db.example.com:5432",
        "tcp://[10.1.2.0/24]:5432-5439",
        "tcp://[fd00::/8]:*",
        "udp://10.0.0.53:53",
        "https://*:*",
        "tcp://host1:22",
    ],
)
def test_rule_reads_back_as_it_was_written(text: str) -> None:
    rule = Rule.model_validate(text)
    assert str(rule) == text
    assert Rule.model_validate_json(rule.model_dump_json()) == rule


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("https://API.Example.com./", "https://api.example.com"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("https://a.example:443/v1/", "https://a.example/v1"),
        ("http://[::ffff:10.0.0.1]", "http://10.0.0.1"),
        ("http://localhost:8080", "http://localhost:8080 via 127.0.0.0/8,::1/128"),
        ("tcp://[10.0.0.1/32]:1", "tcp://10.0.0.1:1"),
    ],
)
def test_rule_is_brought_into_normal_form(written: str, normal: str) -> None:
    assert str(Rule.model_validate(written)) == normal


@pytest.mark.parametrize(
    "faulty",
    [
        "api.example.com",
        "ftp://a.example",
        "https://",
        "https://user@a.example",
        "https://a.example/../b",
        "https://a.example/%61",
        "https://a.example?q",
        "https://a.*.example",
        "https://*a.example",
        "https://*.10.0.0.1",
        "https://127.1",
        "https://0x7f000001",
        "https://a.example:0x50",
        "https://a.example:70000",
        "https://a.example:90-80",
        "CONNECT https://a.example",
        "TRACE https://a.example",
        "get https://a.example",
        "GET tcp://a.example:80",
        "tcp://a.example",
        "tcp://a.example:80/path",
        "tcp://[10.0.0.1/24]:80",
        "https://a.example via 10.0.0.1/24",
        "https://a.example via internet",
        {"scheme": "https", "host": "a.example", "port": 443},
        {"scheme": "https"},
        7,
    ],
)
def test_faulty_rule_is_refused(faulty: Any) -> None:
    with pytest.raises(ValidationError):
        Rule.model_validate(faulty)


@pytest.mark.parametrize(
    "text", ["tcp://8080", "tcp://0", "udp://127.0.0.1:5000-5010", "tcp://[::1]:80", "tcp://*"]
)
def test_listen_rule_reads_back(text: str) -> None:
    rule = ListenRule.model_validate(text)
    assert str(rule) == text
    assert ListenRule.model_validate_json(rule.model_dump_json()) == rule


@pytest.mark.parametrize(
    "faulty", ["8080x", "tcp://a.example:80", "sctp://80", "tcp://", -1, 1 << 16]
)
def test_faulty_listen_rule_is_refused(faulty: Any) -> None:
    with pytest.raises(ValidationError):
        ListenRule.model_validate(faulty)


def test_wildcard_is_for_subdomains_only() -> None:
    rule = Rule.model_validate("https://*.example.com")
    assert rule.names("a.example.com")
    assert rule.names("a.b.example.com")
    assert not rule.names("example.com")
    assert not rule.names("badexample.com")
    assert not rule.names("example.com.evil.example")


def test_wide_network_names_no_special_address() -> None:
    rule = Rule.model_validate({"scheme": "tcp", "host": "0.0.0.0/0", "ports": "*"})
    assert rule.holds(ipaddress.ip_address("8.8.8.8"))
    for special in ("127.0.0.1", "10.0.0.1", "169.254.169.254"):
        assert not rule.holds(ipaddress.ip_address(special))


def test_metadata_must_be_named_exactly() -> None:
    metadata = ipaddress.ip_address("169.254.169.254")
    assert not Rule.model_validate("tcp://[169.254.0.0/16]:80").holds(metadata)
    assert Rule.model_validate("tcp://169.254.169.254:80").holds(metadata)


def test_denial_without_ports_is_for_all_of_them() -> None:
    assert 8443 in DenyRule.model_validate("https://a.example").ports
    assert 8443 not in DenyRule.model_validate("https://a.example:443").ports


def test_all_must_be_written_out() -> None:
    assert NetConfiguration().explain() == []
    assert NetConfiguration.model_validate({"allow": "all"}).explain() == [
        "allow http://*:*",
        "allow https://*:*",
        "allow tcp://*:*",
        "allow udp://*:*",
    ]


def test_explanation_lists_every_rule_and_no_secret() -> None:
    configuration = NetConfiguration.model_validate(
        {
            "allow": ["https://a.example"],
            "deny": ["https://a.example/admin"],
            "listen": [8080],
            "credentials": {"key": {"rules": "https://a.example", "value": "s3cret"}},
        }
    )
    assert configuration.explain() == [
        "deny https://a.example/admin",
        "allow https://a.example",
        "listen tcp://8080",
        "credential key for https://a.example",
    ]
    assert "s3cret" not in repr(configuration) + configuration.model_dump_json()


@pytest.mark.parametrize(
    "faulty",
    [
        {"rules": "https://a.example"},
        {"rules": "https://a.example", "value": "s3cret", "environment": "KEY"},
        {"rules": "tcp://a.example:1", "value": "s3cret"},
        {"rules": [], "value": "s3cret"},
        {"rules": "https://a.example", "value": "s3cret", "header": "A B"},
        {"rules": "https://a.example", "value": "s3cret", "prefix": "a\r\n"},
    ],
)
def test_faulty_credential_is_refused_without_showing_it(faulty: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        Credential.model_validate(faulty)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("server", ["dns.example", "1.2.3.4:0", "1.2.3.4:99999", "::1%lo"])
def test_nameserver_is_an_address(server: str) -> None:
    with pytest.raises(ValidationError):
        NetConfiguration.model_validate({"nameservers": [server]})


def test_configuration_has_a_json_schema() -> None:
    assert "allow" in NetConfiguration.model_json_schema()["properties"]
