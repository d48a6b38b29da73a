"""Host functions without a guest: answering a call, describing what is installed."""

from __future__ import annotations

from collections.abc import Iterator

from measure import Result, median, samples

from hyperlight_core import wire
from hyperlight_core.openrpc import openrpc_document
from hyperlight_core.plugins import load_plugins


def measure() -> Iterator[Result]:
    """The cost of the host's side alone."""
    plugins = load_plugins({"tools": {"functions": {"answer": _answer}}})
    request, reply = memoryview(bytearray(2**16)), memoryview(bytearray(2**16))
    wire.write_frame(request, wire.request_text("tools.answer", {"number": 1}, 1))

    def dispatch() -> None:
        for _ in range(100):
            plugins.table.dispatch(request, reply)

    each = median(samples(dispatch, 200)) / 100 * 1e6
    yield Result("dispatch of a tool call, no VM", each, "us", target=15, target_is_value=True)
    plugins.closed()
    everything = load_plugins({"fs": {"mounts": []}, "net": {}, "tools": {"functions": {}}})
    functions = everything.table.values()
    schema = median(samples(lambda: openrpc_document(functions), 50)) * 1e3
    yield Result("schema of every plugin", schema, "ms", target=50, target_is_value=True)
    everything.closed()


def _answer(number: int) -> int:
    return number + 1
