"""Guest calls: replies, host calls, limits and console output, over a VM without KVM."""

from __future__ import annotations

import struct
import threading
from collections.abc import Generator, Iterator
from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperlight_core import wire
from hyperlight_core.calls import GuestCalls, Limits
from hyperlight_core.console import STDERR, STDOUT, Console
from hyperlight_core.errors import (
    CpuTimeExceededError,
    GuestCrashedError,
    GuestExitedError,
    GuestFunctionError,
    HostCallsExceededError,
    HostFunctionError,
    HyperlightError,
    OutputExceededError,
    ProtocolError,
    SandboxKilledError,
    SandboxTimeoutError,
)
from hyperlight_core.functions import HostCall, HostFunction, Model
from hyperlight_core.pytest_plugin import MakeFakeVm
from hyperlight_core.table import HostFunctionTable
from hyperlight_core.testing import (
    Answer,
    FakeVm,
    FunctionGuest,
    GuestFunction,
    Print,
    leave,
)
from hyperlight_core.testing import HostCall as Call
from hyperlight_core.vm import Exit, ExitKind


class Text(Model):
    """A request or response."""

    text: str


def upper(request: Text, call: HostCall) -> Text:
    """Turns text into upper case, and the attachment around."""
    attachment = bytes(call.attachment)[::-1]
    call.reply_buffer(len(attachment))[:] = attachment
    return Text(text=request.text.upper())


def refuse(_request: Text) -> Text:
    raise HostFunctionError("no", errno="EPERM")


#: A guest function that makes host calls.
Asking: TypeAlias = Generator[Call, Answer, Any]

TABLE = HostFunctionTable(
    [
        HostFunction("text.upper", upper, Text, Text, wants_call=True, plugin="text"),
        HostFunction("text.refuse", refuse, Text, Text, plugin="text"),
    ]
)


@pytest.fixture
def calls(fake_vm: MakeFakeVm) -> Any:
    """Makes GuestCalls of a booted guest with these functions."""

    def make(functions: dict[str, GuestFunction], **options: Any) -> GuestCalls:
        calls = GuestCalls(fake_vm(functions), TABLE, **options)
        calls.boot(None)
        return calls

    return make


def raising(error: type[HyperlightError], calls: GuestCalls, **limits: Any) -> HyperlightError:
    """The error that calling `f` raises; it leaves the guest in the middle of something."""
    with pytest.raises(error) as caught:
        calls.call("f", limits=Limits(**limits))
    assert type(caught.value) is error
    assert calls.unfinished
    return caught.value


# ---- replies -----------------------------------------------------------------------------------


@given(value=st.recursive(st.none() | st.booleans() | st.text(), st.lists, max_leaves=5))
def test_parameters_and_result_travel_as_json(value: Any) -> None:
    with FakeVm(FunctionGuest({"f": lambda _vm, params: params})) as vm:
        calls = GuestCalls(vm, TABLE)
        calls.boot(None)
        assert calls.call("f", {"value": value}).result == {"value": value}
        assert not calls.unfinished


def test_output_comes_with_the_reply_apart(calls: Any) -> None:
    def talk(_vm: FakeVm, _params: object) -> Iterator[Print]:
        yield Print("out ")
        yield Print("err", STDERR)
        yield Print("more")

    reply = calls({"f": talk}).call("f")
    assert (reply.stdout, reply.stderr) == (b"out more", b"err")


def test_output_larger_than_the_console_buffer(calls: Any) -> None:
    def talk(_vm: FakeVm, _params: object) -> Iterator[Print]:
        yield Print("x" * 10_000)

    assert calls({"f": talk}).call("f").stdout == b"x" * 10_000


def test_output_is_told_as_it_arrives(calls: Any) -> None:
    told: list[tuple[str, bytes]] = []

    def talk(_vm: FakeVm, _params: object) -> Iterator[Any]:
        yield Print("a")
        yield leave(ExitKind.CONSOLE)
        assert told == [("stdout", b"a")]
        yield Print("b", STDERR)

    calls({"f": talk}, stream=lambda *piece: told.append(piece)).call("f")
    assert told == [("stdout", b"a"), ("stderr", b"b")]


def test_an_error_of_the_guests_function(calls: Any) -> None:
    """It leaves the guest ready for the next call, and says what was printed before it."""

    def fail(_vm: FakeVm, _params: object) -> Iterator[Print]:
        yield Print("so far\n")
        raise GuestFunctionError("bad", type_name="ValueError")

    guest = calls({"f": fail})
    with pytest.raises(GuestFunctionError, match="bad") as caught:
        guest.call("f")
    assert caught.value.type_name == "ValueError"
    assert caught.value.stdout == "so far\n"
    assert not guest.unfinished


def test_a_function_the_guest_does_not_have(calls: Any) -> None:
    with pytest.raises(GuestFunctionError, match="no such function"):
        calls({}).call("f")


@pytest.mark.parametrize("value", [object(), [object()], b"\xff"], ids=["object", "list", "bytes"])
def test_parameters_that_are_not_json(calls: Any, value: object) -> None:
    guest = calls({"f": lambda _vm, params: params})
    with pytest.raises(ValueError, match="not JSON"):
        guest.call("f", {"value": value})
    assert not guest.unfinished
    assert guest.call("f").result == {}


def test_a_request_that_is_too_large(calls: Any) -> None:
    guest = calls({"f": lambda _vm, params: params})
    for options in ({"params": {"value": "x" * 70_000}}, {"attachment": bytes(70_000)}):
        with pytest.raises(ValueError, match="too large"):
            guest.call("f", **options)
    assert not guest.unfinished
    assert guest.call("f").result == {}


def test_the_attachment_of_a_request_reaches_the_guest(calls: Any) -> None:
    def size(vm: FakeVm, _params: object) -> int:
        return len(wire.read_frame(vm.buffers.to_guest).attachment)

    assert calls({"f": size}).call("f", attachment=memoryview(bytes(5000))).result == 5000


# ---- host calls --------------------------------------------------------------------------------


def test_a_host_call_is_answered(calls: Any) -> None:
    answers: list[Answer] = []

    def ask(_vm: FakeVm, params: dict[str, Any]) -> Asking:
        answers.append((yield Call("text.upper", params, b"abc")))

    calls({"f": ask}).call("f", {"text": "hello"})
    assert answers == [Answer({"text": "HELLO"}, None, b"cba")]


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("text.refuse", {"text": ""}, -32000),
        ("text.lower", {"text": ""}, -32601),
        ("text.upper", {"wrong": ""}, -32602),
    ],
)
def test_a_host_call_that_fails(calls: Any, method: str, params: Any, code: int) -> None:
    def ask(_vm: FakeVm, _params: object) -> Asking:
        answer = yield Call(method, params)
        assert answer.error is not None
        assert answer.error["code"] == code

    calls({"f": ask}).call("f")


def test_the_table_may_change_between_calls(calls: Any) -> None:
    def ask(_vm: FakeVm, _params: object) -> Asking:
        answer = yield Call("text.upper", {"text": "a"})
        return answer.error is None

    guest = calls({"f": ask})
    assert guest.call("f").result is True
    guest.table = HostFunctionTable()
    assert guest.call("f").result is False
    assert guest.vm.table_version == guest.table.version


# ---- limits ------------------------------------------------------------------------------------


def forever(_vm: FakeVm, _params: object) -> Iterator[Any]:
    yield Print("began")
    while True:
        yield None


def test_a_timeout(calls: Any) -> None:
    error = raising(SandboxTimeoutError, calls({"f": forever}), timeout=0.01)
    assert isinstance(error, TimeoutError)
    assert error.stdout == "began"


def test_a_cpu_budget(calls: Any) -> None:
    raising(CpuTimeExceededError, calls({"f": forever}), cpu_time=0.01)


def test_a_cpu_budget_lasts_over_host_calls(calls: Any) -> None:
    """Leaving the guest does not refill it."""

    def busy(_vm: FakeVm, _params: object) -> Iterator[Any]:
        while True:
            yield Call("text.upper", {"text": ""})

    raising(CpuTimeExceededError, calls({"f": busy}), cpu_time=0.02)


def test_an_output_limit(calls: Any) -> None:
    """What fits is kept, over both streams together."""

    def talk(_vm: FakeVm, _params: object) -> Iterator[Print]:
        yield Print("12345")
        yield Print("67890", STDERR)

    error = raising(OutputExceededError, calls({"f": talk}), output=7)
    assert (error.stdout, error.stderr) == ("12345", "67")


def test_a_limit_of_host_calls(calls: Any) -> None:
    made = 0

    def ask(_vm: FakeVm, _params: object) -> Iterator[Call]:
        nonlocal made
        while True:
            yield Call("text.upper", {"text": ""})
            made += 1

    raising(HostCallsExceededError, calls({"f": ask}), host_calls=3)
    assert made == 3


def test_limits_that_are_just_reached(calls: Any) -> None:
    def both(_vm: FakeVm, _params: object) -> Iterator[Any]:
        yield Print("12345")
        yield Call("text.upper", {"text": ""})

    assert calls({"f": both}).call("f", limits=Limits(5.0, 5.0, 5, 1)).stdout == b"12345"


def test_a_kill(calls: Any) -> None:
    guest = calls({"f": forever})
    threading.Timer(0.01, guest.vm.kill).start()
    raising(SandboxKilledError, guest)


# ---- ways of leaving ---------------------------------------------------------------------------


def leaving(kind: ExitKind, value: int = 0) -> GuestFunction:
    def function(_vm: FakeVm, _params: object) -> Iterator[Any]:
        yield Print("last words", STDERR)
        yield leave(kind, value)

    return function


def test_the_guest_ends(calls: Any) -> None:
    error = raising(GuestExitedError, calls({"f": leaving(ExitKind.ENDED, 3)}))
    assert isinstance(error, GuestExitedError)
    assert error.status == 3
    assert error.stderr == "last words"
    assert "last words" in str(error)


@pytest.mark.parametrize("kind", [ExitKind.FAULT, ExitKind.VIOLATION])
def test_the_guest_crashes(calls: Any, kind: ExitKind) -> None:
    assert raising(GuestCrashedError, calls({"f": leaving(kind)})).stderr == "last words"


def test_a_signal_of_the_process_does_not_end_the_call(calls: Any) -> None:
    reply = calls({"f": leaving(ExitKind.SIGNAL)}).call("f")
    assert reply.stderr == b"last words"


def frame(text: bytes, version: int = 1) -> GuestFunction:
    """A function that writes this reply and parks."""

    def function(vm: FakeVm, _params: object) -> Iterator[Exit]:
        wire.HEADER.pack_into(vm.buffers.from_guest, 0, version, len(text), 0, 0)
        vm.buffers.from_guest[wire.HEADER_SIZE : wire.HEADER_SIZE + len(text)] = text
        yield leave(ExitKind.PARK)

    return function


@pytest.mark.parametrize(
    "reply",
    [
        frame(b""),
        frame(b"nonsense"),
        frame(b'{"jsonrpc":"2.0","id":1,"result":1}', version=2),
        frame(b'{"jsonrpc":"2.0","id":-7,"result":1}'),
    ],
    ids=["no reply", "not json", "another version", "another id"],
)
def test_a_reply_that_is_none(calls: Any, reply: GuestFunction) -> None:
    raising(ProtocolError, calls({"f": reply}))


def test_the_guest_ends_while_it_starts() -> None:
    def program(_vm: FakeVm) -> Iterator[Exit]:
        yield leave(ExitKind.ENDED, 127)

    with FakeVm(program) as vm:
        calls = GuestCalls(vm, TABLE)
        with pytest.raises(GuestExitedError, match="127"):
            calls.boot({"argv": ["/bin/none"]})
        assert calls.unfinished


# ---- console records ---------------------------------------------------------------------------

RECORDS = st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(max_size=40)))


def packed(records: list[tuple[int, bytes]]) -> bytes:
    return b"".join(
        stream.to_bytes(4, "little") + len(text).to_bytes(4, "little") + text
        for stream, text in records
    )


@given(RECORDS, st.integers(0, 200))
def test_records_are_gathered_up_to_the_limit(records: list[tuple[int, bytes]], limit: int) -> None:
    console = Console(limit)
    whole = b"".join(text for _, text in records)
    try:
        console.take(packed(records))
        assert len(whole) <= limit
    except OutputExceededError:
        assert len(whole) > limit
    kept = sum(len(console.text(stream)) for stream in (STDOUT, STDERR))
    assert kept == min(limit, len(whole))


@given(st.binary(max_size=60))
def test_any_bytes_are_records_or_refused(data: bytes) -> None:
    console = Console()
    try:
        console.take(data)
    except ProtocolError:
        return
    at, pieces = 0, {STDOUT: b"", STDERR: b""}
    while at < len(data):
        stream, size = struct.unpack_from("<2I", data, at)
        pieces[stream] += data[at + 8 : at + 8 + size]
        at += 8 + size
    assert at == len(data)
    assert {stream: console.text(stream) for stream in pieces} == pieces


@given(RECORDS.filter(bool), st.integers(1, 7))
def test_a_record_that_is_cut_off(records: list[tuple[int, bytes]], cut: int) -> None:
    with pytest.raises(ProtocolError):
        Console().take(packed(records)[:-cut])
