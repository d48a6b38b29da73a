"""Whatever the policy and the URL: what the decision says and what is connected agree."""

from __future__ import annotations

import contextlib
import ipaddress
from typing import Any

import pytest
from hl_net import NetConfiguration, Policy, parse_url
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

NAMES = ["a.test", "b.test", "x.a.test", "aa.test"]
ADDRESSES = ["127.0.0.2", "127.0.0.3"]
PATHS = [
    "",
    "/v1",
    "/v1/x",
    "/v1x",
    "/v1/..%2fv2",
    "/v2",
    "/v1/../v2",
    "/V1",
    "//v1",
    "/v1/%2e%2e/",
]

url_hosts = st.sampled_from([*NAMES, *ADDRESSES, "A.TEST", "a.test.", "127.2", "c.test"])
rule_hosts = st.sampled_from([*NAMES, *ADDRESSES, "[127.0.0.2/31]", "*.test", "*.a.test", "*"])
methods = st.sampled_from(["GET", "POST", "DELETE", "TRACE"])


@st.composite
def rules(draw: st.DrawFn, port: int) -> str:
    """A rule for loopback, or for a name that may lead to one of its addresses or to none."""
    via = draw(st.sampled_from(["", " via 127.0.0.2/32", " via 127.0.0.0/8", " via 0.0.0.0/0"]))
    if draw(st.booleans()):
        return f"tcp://{draw(rule_hosts)}:{port}{via}"
    prefix = draw(st.sampled_from(["", "GET ", "GET,POST "]))
    path = draw(st.sampled_from(["", "/v1"]))
    return f"{prefix}http://{draw(rule_hosts)}:{port}{path}{via}"


@pytest.fixture
def servers(http_server: Any) -> list[Any]:
    """One on each address, all on one port."""
    while True:
        first = http_server(ADDRESSES[0])
        with contextlib.suppress(OSError):  # somebody else has that port on the other address
            return [first, *(http_server(address, first.port) for address in ADDRESSES[1:])]


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_decision_and_connection_agree(
    make_guest: Any, servers: list[Any], dns_stub: Any, data: Any
) -> None:
    for name in NAMES:
        dns_stub.answer(name, [data.draw(st.sampled_from(ADDRESSES), label=name)])
    port = servers[0].port
    configuration = {
        "allow": data.draw(st.lists(rules(port), max_size=3), label="allow"),
        "deny": data.draw(st.lists(rules(port), max_size=1), label="deny"),
    }
    method = data.draw(methods, label="method")
    path = data.draw(st.sampled_from(PATHS), label="path")
    url = f"http://{data.draw(url_hosts, label='host')}:{port}{path}"
    for server in servers:
        server.seen.clear()
    guest = make_guest(**configuration, nameservers=[dns_stub.server])
    expected = _expected(configuration, method, url, dns_stub)
    if expected is not None:
        guest.call("net.request", method=method, url=url)
    else:
        assert guest.refused("net.request", method=method, url=url).errno in ("EACCES", "ENOENT")
    guest.close()
    reached = {server.address: [seen.target for seen in server.seen] for server in servers}
    assert reached == {address: [path or "/"] * (address == expected) for address in ADDRESSES}


def _expected(configuration: Any, method: str, url: str, dns_stub: Any) -> str | None:
    """The address that the pure functions let the request go to."""
    policy = Policy(NetConfiguration.model_validate(configuration))
    try:
        parsed = parse_url(url)
    except ValueError:
        return None
    if not policy.request(method, parsed).allowed:
        return None
    named = isinstance(parsed.host, str)
    addresses = dns_stub.current(parsed.host) if named else [str(parsed.host)]
    for address in addresses:
        if policy.request_address(method, parsed, ipaddress.ip_address(address)).allowed:
            return str(address)
    return None
