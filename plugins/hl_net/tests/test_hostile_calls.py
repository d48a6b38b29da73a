"""Whatever a guest passes: an answer it may have, and never a fault of the host."""

from __future__ import annotations

from typing import Any

import pytest
from hl_net import NetConfiguration
from hl_net.plugin import NetPlugin
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FUNCTIONS = {function.name: function for function in NetPlugin(NetConfiguration()).host_functions()}
#: Of HostFunctionError and those under it; -32603 would be a bug.
CODES = {-32000, -32001, -32002, -32602}

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 40), 1 << 40),
    st.sampled_from([1, 2, 3, 4]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.sampled_from(
        [
            "inet",
            "inet6",
            "stream",
            "dgram",
            "both",
            "GET",
            "http://a.test/",
            "http://127.0.0.1:1/",
            "127.0.0.1",
            "::1",
            "::ffff:1.2.3.4",
            "SO_ERROR",
            "SO_RCVBUF",
            "attached",
            "streamed",
        ]
    ),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner)
)


@pytest.mark.parametrize("method", sorted(FUNCTIONS))
@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_no_parameters_make_the_host_fail(make_guest: Any, method: str, data: Any) -> None:
    guest = make_guest(
        allow=["tcp://127.0.0.1:1", "udp://127.0.0.1:1"],
        listen=[0, "udp://0"],
        budgets={"connect_seconds": 0.1},
    )
    for family, kind in (("inet", "stream"), ("inet6", "stream"), ("inet", "dgram")):
        guest.socket(kind, family)
    fields = st.sampled_from([*FUNCTIONS[method].request.model_fields, "other"])
    params = data.draw(st.dictionaries(fields, values))
    if method == "net.poll":
        params["timeout_ms"] = 0
    try:
        guest.call(method, data.draw(st.binary(max_size=64)), **params)
    except Exception as error:
        if getattr(error, "code", None) not in CODES:
            raise
    finally:
        guest.close()
