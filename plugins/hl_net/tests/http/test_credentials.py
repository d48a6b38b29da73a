"""Credentials go with the requests they are for; their values stay on the host."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

SECRET = "s3cret-value"  # noqa: S105 (the very thing that must not leak)
Servers = Callable[..., Any]


def test_guest_names_a_credential(make_guest: Any, http_server: Servers) -> None:
    server = http_server()
    credential = {"rules": server.url("/v1"), "prefix": "Bearer ", "value": SECRET}
    guest = make_guest(allow=server.url(), credentials={"key": credential})
    guest.get(server.url("/v1/x"), credential="key")
    guest.get(server.url("/v1/x"))
    assert [seen.header("authorization") for seen in server.seen] == [f"Bearer {SECRET}", None]


def test_automatic_credential_replaces_the_guests_own(
    make_guest: Any, http_server: Servers
) -> None:
    server = http_server()
    credential = {"rules": server.url(), "value": SECRET, "automatic": True}
    guest = make_guest(allow=server.url(), credentials={"key": credential})
    guest.get(server.url(), headers=[["authorization", "mine"], ["AUTHORIZATION", "too"]])
    values = [value for name, value in server.seen[0].headers if name.lower() == "authorization"]
    assert values == [SECRET]


def test_credential_is_for_its_own_rules_only(make_guest: Any, http_server: Servers) -> None:
    server = http_server()
    credential = {"rules": "GET " + server.url("/v1"), "value": SECRET}
    guest = make_guest(allow=server.url(), credentials={"key": credential})
    for method, path in (("POST", "/v1"), ("GET", "/v2"), ("GET", "/v1/..%2fv2")):
        error = guest.refused("net.request", method=method, url=server.url(path), credential="key")
        assert error.errno == "EACCES"
    assert server.seen == []


def test_credential_grants_no_request(make_guest: Any, http_server: Servers) -> None:
    server = http_server()
    guest = make_guest(credentials={"key": {"rules": server.url(), "value": SECRET}})
    error = guest.refused("net.request", method="GET", url=server.url(), credential="key")
    assert error.data["reason"] == "missing rule"


def test_unknown_credential_is_refused(make_guest: Any, http_server: Servers) -> None:
    server = http_server()
    guest = make_guest(allow=server.url())
    error = guest.refused("net.request", method="GET", url=server.url(), credential="key")
    assert error.data["reason"] == "credential"


def test_resolver_is_called_for_every_request(make_guest: Any, http_server: Servers) -> None:
    server, values = http_server(), iter(["one", "two"])
    credential = {"rules": server.url(), "resolver": lambda: next(values)}
    guest = make_guest(allow=server.url(), credentials={"key": credential})
    for _ in range(2):
        guest.get(server.url(), credential="key")
    assert [seen.header("authorization") for seen in server.seen] == ["one", "two"]


def test_value_comes_from_the_environment(
    make_guest: Any, http_server: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = http_server()
    credential = {"rules": server.url(), "environment": "HL_NET_KEY", "header": "X-Key"}
    guest = make_guest(allow=server.url(), credentials={"key": credential})
    monkeypatch.setenv("HL_NET_KEY", "first")
    guest.get(server.url(), credential="key")
    assert server.seen[0].header("x-key") == "first"


def _raise(error: Exception) -> Any:
    raise error


@pytest.mark.parametrize(
    "resolver",
    [
        lambda: _raise(RuntimeError(SECRET)),
        lambda: f"{SECRET}\r\nX: y",
        lambda: SECRET + "\u20ac",
        SECRET.encode,
    ],
    ids=["raises", "two lines", "not ASCII", "bytes"],
)
def test_failing_resolver_tells_nothing(
    make_guest: Any, http_server: Servers, caplog: pytest.LogCaptureFixture, resolver: Any
) -> None:
    server = http_server()
    caplog.set_level(logging.DEBUG)
    credential = {"rules": server.url(), "resolver": resolver}
    guest = make_guest(allow=server.url(), credentials={"key": credential})
    error = guest.refused("net.request", method="GET", url=server.url(), credential="key")
    assert error.message == "the credential key is not available"
    assert SECRET not in str(error.data) + caplog.text
    assert server.seen == []


def test_value_is_in_no_log_and_no_error(
    make_guest: Any, http_server: Servers, caplog: pytest.LogCaptureFixture
) -> None:
    server = http_server()
    server.raw("/bad", b"no HTTP\r\n\r\n")
    caplog.set_level(logging.DEBUG)
    credential = {"rules": server.url(), "value": SECRET, "automatic": True}
    guest = make_guest(allow=server.url(), credentials={"key": credential})
    error = guest.refused("net.request", method="GET", url=server.url("/bad"))
    assert server.seen[0].header("authorization") == SECRET
    texts = [str(vars(record)) for record in caplog.records]
    assert not [text for text in [*texts, error.message, str(error.data)] if SECRET in text]
    assert [record.hl_net["credentials"] for record in caplog.records if hasattr(record, "hl_net")]
