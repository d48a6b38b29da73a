"""Dispatching a request frame: every request gets its one right answer."""

from __future__ import annotations

import enum
import json
import logging
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, Field

from hyperlight_core import wire
from hyperlight_core.errors import (
    CallLimitError,
    DeniedError,
    HostFunctionError,
)
from hyperlight_core.functions import HostCall, HostFunction, Model, functions_of, host_function
from hyperlight_core.table import HostFunctionTable

BUFFER = 0x4000


class Color(enum.Enum):
    """A type that strict mode takes from JSON only."""

    RED = "red"


def refuse(value: int) -> int:
    """A validator with a bug of its own."""
    raise KeyError(value)


class EchoRequest(Model):
    text: str
    times: int = 1


class EchoResponse(Model):
    text: str


class TypedRequest(Model):
    day: date
    color: Color
    pair: tuple[int, float]


class TypedResponse(Model):
    seen: str


class FailRequest(Model):
    how: str


class Nothing(Model):
    pass


class CopyRequest(Model):
    size: int | None = None
    keep: int | None = None


class CopyResponse(Model):
    size: int


class BuggyRequest(Model):
    value: Annotated[int, AfterValidator(refuse)]


class AliasedRequest(Model):
    schema_: str = Field(alias="schema")


class AliasedResponse(Model):
    schema_: str = Field(serialization_alias="schema")


FAILURES: dict[str, Callable[[], Exception]] = {
    "denied": lambda: DeniedError("not yours", data={"policy": "p"}),
    "function": lambda: HostFunctionError("odd", errno="ESTALE"),
    "unserializable": lambda: HostFunctionError("odd", data={"value": object()}),
    "os": lambda: FileNotFoundError(2, "No such file or directory", "/etc/secret"),
    "timeout": TimeoutError,
    "bug": lambda: ValueError("secret /home/of/the/host"),
}


class Plugin:
    """Host functions for every way a call can go."""

    def __init__(self) -> None:
        self.calls: list[HostCall] = []

    @host_function("test.echo")
    def echo(self, request: EchoRequest) -> EchoResponse:
        """Say it again."""
        return EchoResponse(text=request.text * request.times)

    @host_function("test.typed")
    def typed(self, request: TypedRequest) -> TypedResponse:
        """Take values that JSON only knows as text and arrays."""
        return TypedResponse(seen=f"{request.day:%d} {request.color.name} {request.pair}")

    @host_function("test.fail")
    def fail(self, request: FailRequest) -> Nothing:
        """Raise."""
        failure = FAILURES[request.how]()
        raise failure

    @host_function("bulk.copy")
    def copy(self, request: CopyRequest, call: HostCall) -> CopyResponse:
        """Send the attachment back."""
        self.calls.append(call)
        size = len(call.attachment) if request.size is None else request.size
        reply = call.reply_buffer(size)
        reply[: len(call.attachment)] = call.attachment[:size]
        if request.keep is not None:
            call.reply_size(request.keep)
        return CopyResponse(size=size)

    @host_function("test.buggy")
    def buggy(self, request: BuggyRequest) -> Nothing:
        """Never get here."""
        raise AssertionError(request)

    @host_function("test.aliased")
    def aliased(self, request: AliasedRequest) -> AliasedResponse:
        """Use a name that pydantic keeps for itself."""
        return AliasedResponse(schema_=request.schema_)


class Guest:
    """A guest's two buffers, without a guest."""

    def __init__(self, table: HostFunctionTable, size: int = BUFFER, **options: Any) -> None:
        self.table, self.options = table, options
        self.out_buffer = memoryview(bytearray(size))
        self.in_buffer = memoryview(bytearray(b"\xaa" * size))
        self.written = 0

    def send(self, text: bytes, attachment: bytes = b"") -> wire.Frame:
        """Dispatch a frame and return the reply frame."""
        wire.write_frame(self.out_buffer, text, attachment)
        return self.dispatch()

    def dispatch(self) -> wire.Frame:
        """Dispatch what lies in the out buffer."""
        self.written = self.table.dispatch(self.out_buffer, self.in_buffer, **self.options)
        return wire.read_frame(self.in_buffer)

    def ask(self, message: Any, attachment: bytes = b"") -> Any:
        """Dispatch a JSON value and return the JSON value of the answer."""
        text = self.send(json.dumps(message).encode(), attachment).text
        return json.loads(text) if text else None

    def call(self, method: str, attachment: bytes = b"", /, **params: Any) -> Any:
        """Call one method and return the response."""
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return self.ask(message, attachment)

    def error(self, method: str, /, **params: Any) -> Any:
        """Call one method and return the error of the response."""
        response = self.call(method, **params)
        assert set(response) == {"jsonrpc", "id", "error"}
        return response["error"]


@pytest.fixture
def plugin() -> Plugin:
    return Plugin()


@pytest.fixture
def table(plugin: Plugin) -> HostFunctionTable:
    return HostFunctionTable(
        replace(function, plugin="tester") for function in functions_of(plugin)
    )


@pytest.fixture
def guest(table: HostFunctionTable) -> Guest:
    return Guest(table)


# ---- answers -----------------------------------------------------------------------------------


def test_a_call_is_answered(guest: Guest) -> None:
    assert guest.call("test.echo", text="ab", times=2) == {
        "jsonrpc": "2.0",
        "id": 1,
        "result": {"text": "abab"},
    }


def test_strict_json_mode_still_reads_dates_enums_and_tuples(guest: Guest) -> None:
    response = guest.call("test.typed", day="2026-01-31", color="red", pair=[1, 2])
    assert response["result"] == {"seen": "31 RED (1, 2.0)"}


def test_fields_go_by_their_alias_both_ways(guest: Guest) -> None:
    assert guest.call("test.aliased", schema="s")["result"] == {"schema": "s"}
    assert guest.error("test.aliased", schema_="s")["code"] == -32602


@pytest.mark.parametrize("request_id", [0, -5, 2**64 - 1, "x", '"\\\u2028', "", None])
def test_the_answer_has_the_id_of_the_request(guest: Guest, request_id: Any) -> None:
    message = {"jsonrpc": "2.0", "method": "test.echo", "params": {"text": ""}, "id": request_id}
    assert guest.ask(message)["id"] == request_id


@pytest.mark.parametrize("method", ["test.echo", "test.fail", "test.nothing"])
def test_a_notification_is_carried_out_and_gets_a_frame_without_json(
    guest: Guest, method: str
) -> None:
    params = {"text": "x", "how": "bug"}
    assert guest.ask({"jsonrpc": "2.0", "method": method, "params": params}) is None
    assert guest.written == wire.HEADER_SIZE


def test_a_notification_reaches_its_handler(guest: Guest, plugin: Plugin) -> None:
    guest.ask({"jsonrpc": "2.0", "method": "bulk.copy"})
    assert len(plugin.calls) == 1


def test_params_may_be_left_out(guest: Guest) -> None:
    assert guest.ask({"jsonrpc": "2.0", "id": 1, "method": "bulk.copy"})["result"] == {"size": 0}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "text: Field required"),
        ({"text": 1}, "text: Input should be a valid string"),
        ({"text": "x", "times": "2"}, "times: Input should be a valid integer"),
        ({"text": "x", "times": 2.0}, "times: Input should be a valid integer"),
        ({"text": "x", "times": True}, "times: Input should be a valid integer"),
        ({"text": "x", "extra": 1}, "extra: Extra inputs are not permitted"),
        (["x"], "they go by name"),
    ],
    ids=["missing", "number for text", "text for number", "float", "bool", "extra", "by position"],
)
def test_params_that_do_not_match_are_invalid(guest: Guest, params: Any, message: str) -> None:
    answer = guest.ask({"jsonrpc": "2.0", "id": 1, "method": "test.echo", "params": params})
    assert answer["error"]["code"] == -32602
    assert message in answer["error"]["message"]


def test_a_thousand_faults_make_a_short_answer(guest: Guest) -> None:
    error = guest.error("test.echo", text="", **{f"x{n}": n for n in range(400)})
    assert error["code"] == -32602
    assert len(error["message"]) < 400


def test_an_unknown_method_is_not_found(guest: Guest) -> None:
    error = guest.error("test.nothing")
    assert error == {"code": -32601, "message": "no host function 'test.nothing'"}


@pytest.mark.parametrize(
    ("message", "answered_id"),
    [
        ({"jsonrpc": "2.0", "method": 1, "params": "bar"}, None),
        ({"jsonrpc": "1.0", "method": "test.echo", "id": 5}, 5),
        ({"jsonrpc": "2.0", "id": "five"}, "five"),
        ({"jsonrpc": "2.0", "method": "a", "id": True}, None),
        ({"jsonrpc": "2.0", "method": "a", "id": 1.5}, None),
        ({"jsonrpc": "2.0", "method": "a", "id": "x" * 257}, None),
        (1, None),
        ("test.echo", None),
        (None, None),
    ],
    ids=repr,
)
def test_an_invalid_request_is_answered_with_its_id_where_it_has_one(
    guest: Guest, message: Any, answered_id: Any
) -> None:
    answer = guest.ask(message)
    assert (answer["error"]["code"], answer["id"]) == (-32600, answered_id)


@pytest.mark.parametrize("text", [b"", b"{", b"[1,", b"\xff", b'{"a":1,"a":2}', b"[" * 5000])
def test_malformed_json_is_a_parse_error_without_id(guest: Guest, text: bytes) -> None:
    answer = json.loads(guest.send(text).text)
    assert (answer["error"]["code"], answer["id"]) == (-32700, None)


@pytest.mark.parametrize(
    "header", [(9, 2, 0, 0), (2, 0xFFFFFFFF, 0, 0), (2, 2, 0xFFFFFFFF, 0xFFFFFFFF), (2, 2, 0, 8)]
)
def test_a_lying_header_is_a_parse_error(guest: Guest, header: tuple[int, ...]) -> None:
    struct.pack_into("<4I", guest.out_buffer, 0, *header)
    assert json.loads(guest.dispatch().text)["error"]["code"] == -32700


def test_what_was_not_selected_is_out_of_reach(table: HostFunctionTable) -> None:
    guest = Guest(table.select("bulk.*"))
    assert guest.error("test.echo", text="x")["code"] == -32601
    assert "result" in guest.call("bulk.copy")


# ---- batches -----------------------------------------------------------------------------------


def test_a_batch_is_answered_call_by_call(guest: Guest) -> None:
    """The example of JSON-RPC 2.0, section 7: notifications leave no trace, nonsense an error."""
    echo = {"jsonrpc": "2.0", "method": "test.echo", "params": {"text": "x"}}
    answers = guest.ask([echo | {"id": 1}, echo, {"foo": 1}, echo | {"id": "2", "params": {}}, 7])
    assert [(a["id"], a.get("error", {}).get("code")) for a in answers] == [
        (1, None),
        (None, -32600),
        ("2", -32602),
        (None, -32600),
    ]


def test_a_batch_of_notifications_gets_no_answer(guest: Guest) -> None:
    assert guest.ask([{"jsonrpc": "2.0", "method": "test.echo"}] * 2) is None


@pytest.mark.parametrize("size", [0, wire.BATCH_LIMIT + 1])
def test_a_batch_of_no_or_too_many_calls_is_one_invalid_request(guest: Guest, size: int) -> None:
    answer = guest.ask([{"jsonrpc": "2.0", "method": "a.b", "id": 1}] * size)
    assert answer["error"]["code"] == -32600


def test_a_call_in_a_batch_has_no_attachment(guest: Guest, plugin: Plugin) -> None:
    batch = [{"jsonrpc": "2.0", "method": "bulk.copy", "id": 1}]
    assert guest.ask(batch, b"data") == [{"jsonrpc": "2.0", "id": 1, "result": {"size": 0}}]
    assert plugin.calls[0].reply_limit == 0


# ---- attachments -------------------------------------------------------------------------------


def test_an_attachment_goes_in_and_out_in_place(guest: Guest) -> None:
    assert guest.call("bulk.copy", b"data")["result"] == {"size": 4}
    assert bytes(wire.read_frame(guest.in_buffer).attachment) == b"data"
    assert guest.written == wire.BULK_OFFSET + 4


def test_a_reply_can_be_shortened_and_all_that_was_handed_out_counts_as_written(
    guest: Guest,
) -> None:
    guest.call("bulk.copy", b"data", size=100, keep=2)
    assert bytes(wire.read_frame(guest.in_buffer).attachment) == b"da"
    assert guest.written == wire.BULK_OFFSET + 100


def test_a_reply_larger_than_the_buffer_is_an_error_and_nothing_is_written(guest: Guest) -> None:
    error = guest.error("bulk.copy", size=BUFFER - wire.BULK_OFFSET + 1)
    assert (error["code"], error["data"]["errno"]) == (-32002, "EMSGSIZE")
    assert set(guest.in_buffer[wire.BULK_OFFSET :]) == {0xAA}


@pytest.mark.parametrize("params", [{"size": -1}, {"size": 4, "keep": 5}, {"keep": -1}])
def test_a_wrong_reply_size_is_an_error(guest: Guest, params: dict[str, int]) -> None:
    assert guest.error("bulk.copy", **params)["code"] in (-32002, -32603)
    assert len(wire.read_frame(guest.in_buffer).attachment) == 0


def test_a_handler_that_keeps_the_call_cannot_reach_guest_memory(
    guest: Guest, plugin: Plugin
) -> None:
    guest.call("bulk.copy", b"data")
    with pytest.raises(ValueError, match="released"):
        plugin.calls[0].attachment[0]


def test_a_response_larger_than_the_buffer_is_an_error(guest: Guest) -> None:
    error = guest.error("test.echo", text="x" * 100, times=BUFFER)
    assert error["code"] == CallLimitError.code


def test_an_answer_always_fits_into_the_smallest_buffer(table: HostFunctionTable) -> None:
    """Even with the longest id, in characters that JSON writes as six."""
    guest = Guest(table, 0x1000)
    message = {"jsonrpc": "2.0", "method": "test.echo", "id": "\x01" * wire.TEXT_LIMIT}
    answer = guest.ask(message | {"params": {"text": "x", "times": 5000}})
    assert (answer["error"]["code"], answer["id"]) == (-32002, "\x01" * wire.TEXT_LIMIT)
    assert guest.ask(message | {"method": "\x01" * wire.TEXT_LIMIT})["error"]


def test_a_function_may_bound_its_result(table: HostFunctionTable) -> None:
    guest = Guest(HostFunctionTable([replace(table["test.echo"], result_limit=12)]))
    assert "result" in guest.call("test.echo", text="x")
    assert guest.error("test.echo", text="xx")["code"] == -32002


# ---- handlers that fail ------------------------------------------------------------------------


def test_a_host_function_error_crosses_as_it_is(guest: Guest) -> None:
    assert guest.error("test.fail", how="denied") == {
        "code": -32001,
        "message": "not yours",
        "data": {"policy": "p", "plugin": "tester", "errno": "EACCES"},
    }
    assert guest.error("test.fail", how="function")["data"]["errno"] == "ESTALE"


def test_an_os_error_crosses_as_its_errno_and_without_its_path(guest: Guest) -> None:
    assert guest.error("test.fail", how="os") == {
        "code": -32000,
        "message": "No such file or directory",
        "data": {"plugin": "tester", "errno": "ENOENT"},
    }
    assert guest.error("test.fail", how="timeout")["data"]["errno"] == "EIO"


def test_a_bug_crosses_as_an_internal_error_and_is_logged_on_the_host(
    guest: Guest, caplog: pytest.LogCaptureFixture
) -> None:
    assert guest.error("test.fail", how="bug") == {
        "code": -32603,
        "message": "internal error",
        "data": {"plugin": "tester"},
    }
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("hyperlight.plugin.tester", logging.ERROR)
    assert "secret /home/of/the/host" in caplog.text


def test_a_validator_with_a_bug_is_an_internal_error(guest: Guest) -> None:
    assert guest.error("test.buggy", value=1)["code"] == -32603


def test_data_that_is_not_json_is_left_out(guest: Guest, caplog: pytest.LogCaptureFixture) -> None:
    assert guest.error("test.fail", how="unserializable") == {"code": -32000, "message": "odd"}
    assert "is not JSON" in caplog.text


def test_a_handler_that_returns_something_else_has_a_bug(table: HostFunctionTable) -> None:
    lying = replace(table["test.echo"], handler=lambda _: "text")
    assert Guest(HostFunctionTable([lying])).error("test.echo", text="x")["code"] == -32603


def test_a_result_that_is_not_json_is_an_internal_error(table: HostFunctionTable) -> None:
    class Anything(Model):
        value: Any

    function = replace(
        table["test.echo"], handler=lambda _: Anything(value=object()), response=Anything
    )
    error = Guest(HostFunctionTable([function])).error("test.echo", text="x")
    assert error == {
        "code": -32603,
        "message": "internal error: the result is not JSON",
        "data": {"plugin": "tester"},
    }


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_reaches_the_caller(
    table: HostFunctionTable, interrupt: type[BaseException]
) -> None:
    def handler(_: EchoRequest) -> EchoResponse:
        raise interrupt

    guest = Guest(HostFunctionTable([replace(table["test.echo"], handler=handler)]))
    with pytest.raises(interrupt):
        guest.call("test.echo", text="x")


# ---- checks and context ------------------------------------------------------------------------


def test_a_check_sees_the_validated_request_before_the_handler(
    table: HostFunctionTable, plugin: Plugin
) -> None:
    seen: list[tuple[str, object, int]] = []

    def check(function: HostFunction, request: object) -> None:
        seen.append((function.name, request, len(plugin.calls)))

    Guest(table, check=check).call("bulk.copy", size=1)
    assert seen == [("bulk.copy", CopyRequest(size=1), 0)]
    assert len(plugin.calls) == 1


def test_a_check_vetoes_a_call(table: HostFunctionTable, plugin: Plugin) -> None:
    def check(function: HostFunction, _request: object) -> None:
        raise DeniedError(f"no {function.name} today")

    error = Guest(table, check=check).error("bulk.copy")
    assert (error["code"], error["message"]) == (-32001, "no bulk.copy today")
    assert plugin.calls == []


def test_a_check_is_not_asked_about_what_is_invalid(table: HostFunctionTable) -> None:
    def check(_function: HostFunction, _request: object) -> None:
        raise AssertionError

    guest = Guest(table, check=check)
    assert guest.error("test.echo")["code"] == -32602
    assert guest.error("test.nothing")["code"] == -32601


def test_any_other_exception_of_a_check_stops_the_run(table: HostFunctionTable) -> None:
    def check(_function: HostFunction, _request: object) -> None:
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        Guest(table, check=check).call("test.echo", text="x")


def test_a_handler_sees_the_run_it_is_called_from(table: HostFunctionTable, plugin: Plugin) -> None:
    @dataclass
    class Run:
        run: int = 7
        deadline: float | None = time.monotonic() + 1
        cancelled: bool = False
        wake_fd: int = 5

    context = Run()
    Guest(table, context=context).call("bulk.copy")
    (call,) = plugin.calls
    assert (call.run, call.deadline, call.wake_fd) == (7, context.deadline, 5)
    assert not call.cancelled
    context.cancelled = True
    assert call.cancelled
