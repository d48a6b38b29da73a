"""Whatever the rules and names: what the policy says of a socket and what is connected agree."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hl_net import NetConfiguration, Policy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

NAMES = ["a.test", "x.a.test", "b.test"]
ADDRESSES = ["127.0.0.2", "127.0.0.3"]


@pytest.fixture(scope="module")
def listeners() -> Iterator[dict[str, socket.socket]]:
    """One on each address, all on one port; by address."""
    with contextlib.ExitStack() as stack:
        while True:
            first = stack.enter_context(socket.create_server((ADDRESSES[0], 0), backlog=512))
            target = (ADDRESSES[1], first.getsockname()[1])
            with contextlib.suppress(OSError):  # somebody else has that port there
                second = stack.enter_context(socket.create_server(target, backlog=512))
                break
        for each in (first, second):
            each.setblocking(False)
        yield dict(zip(ADDRESSES, (first, second), strict=True))


@st.composite
def rules(draw: st.DrawFn, port: int) -> str:
    host = draw(st.sampled_from([*NAMES, *ADDRESSES, "[127.0.0.2/31]", "*.test", "*.a.test", "*"]))
    via = draw(st.sampled_from(["", " via 127.0.0.2/32", " via 127.0.0.0/8", " via 0.0.0.0/0"]))
    scheme, path = draw(st.sampled_from([("tcp", ""), ("http", ""), ("http", "/v1"), ("udp", "")]))
    ports = draw(st.sampled_from([str(port), "*", "1"]))
    return f"{scheme}://{host}:{ports}{path}{via}"


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_decision_and_connection_agree(
    make_guest: Any, listeners: dict[str, socket.socket], dns_stub: Any, data: Any
) -> None:
    port = listeners[ADDRESSES[0]].getsockname()[1]
    address = data.draw(st.sampled_from(ADDRESSES), label="address")
    name = data.draw(st.sampled_from([None, *NAMES]), label="resolved before")
    configuration = {
        "allow": data.draw(st.lists(rules(port), max_size=3), label="allow"),
        "deny": data.draw(st.lists(rules(port), max_size=1), label="deny"),
    }
    guest = make_guest(**configuration, nameservers=[dns_stub.server])
    names = []
    if name:
        dns_stub.answer(name, [address])
        with contextlib.suppress(Exception):  # refused, which tells the guest nothing
            names = [name] * bool(guest.call("net.resolve", name=name)["addresses"])
    policy = Policy(NetConfiguration.model_validate(configuration))
    allowed = policy.socket("tcp", ipaddress.ip_address(address), port, names).allowed
    if allowed:
        guest.connect(address, port)
    else:
        target = {"address": address, "port": port}
        assert guest.refused("net.connect", handle=guest.socket(), **target).errno == "EACCES"
    guest.close()
    assert {key: _accepted(each) for key, each in listeners.items()} == {
        key: int(allowed and key == address) for key in ADDRESSES
    }


def _accepted(listener: socket.socket) -> int:
    """How many connections there were; the system has them at once."""
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
            count += 1
    return count
