"""What is told of a call: to the host after it, and to a guest that asks what it may call."""

from __future__ import annotations

import gc
import json
import weakref
from dataclasses import replace
from typing import Any

import pytest

from hyperlight_core import wire
from hyperlight_core.errors import DeniedError
from hyperlight_core.functions import HostCall, HostFunction, Model, functions_of, host_function
from hyperlight_core.openrpc import DISCOVER, openrpc_document
from hyperlight_core.table import CallRecord, HostFunctionTable

BUFFER = 0x8000


class Text(Model):
    text: str


class Plugin:
    @host_function("test.echo", version=3)
    def echo(self, request: Text, call: HostCall) -> Text:
        """Say it again, and send the attachment back."""
        call.reply_buffer(len(call.attachment))[:] = call.attachment
        return request

    @host_function("test.refuse")
    def refuse(self, _request: Text) -> Text:
        """Refuse."""
        raise DeniedError("no")


@pytest.fixture
def table() -> HostFunctionTable:
    return HostFunctionTable(
        replace(function, plugin="tester") for function in functions_of(Plugin())
    )


def ask(table: HostFunctionTable, message: Any, attachment: bytes = b"", **options: Any) -> Any:
    """Dispatch a message; the message of the answer."""
    request, reply = memoryview(bytearray(BUFFER)), memoryview(bytearray(BUFFER))
    wire.write_frame(request, json.dumps(message).encode(), attachment)
    table.dispatch(request, reply, **options)
    text = wire.read_frame(reply).text
    return json.loads(text) if text else None


def call(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


# ---- records -----------------------------------------------------------------------------------


def test_an_observer_is_told_of_each_call_after_it(table: HostFunctionTable) -> None:
    records: list[CallRecord] = []
    answer = ask(table, call("test.echo", text="hi"), b"four", observe=records.append)
    (record,) = records
    assert (record.method, record.function) == ("test.echo", table["test.echo"])
    assert (record.code, record.message, record.received) == (None, "", 4)
    assert record.sent == len(json.dumps(answer, separators=(",", ":"))) + 4
    assert 0 < record.seconds < 60


def test_an_observer_is_told_of_errors(table: HostFunctionTable) -> None:
    records: list[CallRecord] = []
    batch = [call("test.refuse", text=""), call("test.echo"), call("no\x1b[2J.such")]
    ask(table, batch, observe=records.append)
    assert [record.code for record in records] == [-32001, -32602, -32601]
    assert records[0].message == "no"
    assert (records[2].method, records[2].function) == ("no\x1b[2J.such", None)


def test_an_observer_is_told_of_vetoes_and_notifications(table: HostFunctionTable) -> None:
    records: list[CallRecord] = []

    def veto(_function: HostFunction, _request: object) -> None:
        raise DeniedError("not today")

    message = {"jsonrpc": "2.0", "method": "test.echo", "params": {"text": ""}}
    assert ask(table, message, check=veto, observe=records.append) is None
    assert records[0].message == "not today"


def test_what_is_no_request_is_no_call(table: HostFunctionTable) -> None:
    records: list[CallRecord] = []
    ask(table, {"jsonrpc": "1.0"}, observe=records.append)
    assert records == []


def test_an_exception_of_an_observer_stops_the_run(table: HostFunctionTable) -> None:
    def stop(record: CallRecord) -> None:
        raise LookupError(record.method)

    with pytest.raises(LookupError, match=r"test\.echo"):
        ask(table, call("test.echo", text=""), observe=stop)


class Keeper(Plugin):
    """Its errors hold on to what the handler had, as tracebacks do."""

    @host_function("test.keep")
    def keep(self, _request: Text, call: HostCall) -> Text:
        """Fail while holding guest memory."""
        self.view = weakref.ref(held := memoryview(call.attachment))
        raise DeniedError(f"no {len(held)} bytes")


def test_what_a_failing_handler_held_is_gone_with_the_answer() -> None:
    """Without the garbage collector, which may run when guest memory is unmapped already."""
    keeper = Keeper()
    records: list[CallRecord] = []
    gc.disable()
    try:
        message = call("test.keep", text="")
        ask(HostFunctionTable(functions_of(keeper)), message, b"four", observe=records.append)
    finally:
        gc.enable()
    assert records[0].message == "no 4 bytes"
    assert keeper.view() is None


# ---- discovery ---------------------------------------------------------------------------------


def test_a_guest_discovers_what_is_within_its_reach(table: HostFunctionTable) -> None:
    assert ask(table, call(DISCOVER))["result"] == openrpc_document(table.values())
    (method,) = ask(table.select("test.echo"), call(DISCOVER))["result"]["methods"]
    assert (method["name"], method["x-version"]) == ("test.echo", 3)


def test_a_guest_without_functions_discovers_none() -> None:
    assert ask(HostFunctionTable(), call(DISCOVER))["result"]["methods"] == []


def test_discovery_grants_nothing_and_takes_no_parameters(table: HostFunctionTable) -> None:
    assert DISCOVER not in table
    assert ask(table, call(DISCOVER, all=True))["error"]["code"] == -32602


def test_discovery_can_be_vetoed(table: HostFunctionTable) -> None:
    def veto(function: HostFunction, _request: object) -> None:
        raise DeniedError(function.name)

    assert ask(table, call(DISCOVER), check=veto)["error"]["message"] == DISCOVER
