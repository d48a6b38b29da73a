"""Dispatching hostile bytes: whatever a guest sends, the host answers well-formed JSON-RPC."""

from __future__ import annotations

import json
import struct
from datetime import date
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hyperlight_core import wire
from hyperlight_core.errors import DeniedError
from hyperlight_core.functions import HostCall, Model, functions_of, host_function
from hyperlight_core.table import HostFunctionTable

BUFFER = 0x4000


class EchoRequest(Model):
    text: str
    times: int = 1
    day: date | None = None
    pair: tuple[int, float] | None = None


class EchoResponse(Model):
    text: str


class CopyRequest(Model):
    size: int | None = None
    keep: int | None = None


class CopyResponse(Model):
    size: int


class FailRequest(Model):
    how: Any = None


class Plugin:
    """Host functions that do something with each part of a frame."""

    @host_function("test.echo")
    def echo(self, request: EchoRequest) -> EchoResponse:
        return EchoResponse(text=request.text * min(request.times, BUFFER))

    @host_function("bulk.copy")
    def copy(self, request: CopyRequest, call: HostCall) -> CopyResponse:
        size = len(call.attachment) if request.size is None else request.size
        reply = call.reply_buffer(size)
        reply[: len(call.attachment)] = call.attachment[:size]
        if request.keep is not None:
            call.reply_size(request.keep)
        return CopyResponse(size=size)

    @host_function("test.fail")
    def fail(self, request: FailRequest) -> EchoResponse:
        if request.how:
            raise DeniedError(str(request.how), data={"how": request.how})
        raise KeyError(request)


class Guest:
    """A guest's two buffers, without a guest."""

    def __init__(self) -> None:
        self.table = HostFunctionTable(functions_of(Plugin()))
        self.out_buffer = memoryview(bytearray(BUFFER))
        self.in_buffer = memoryview(bytearray(b"\xaa" * BUFFER))

    def answer(self) -> Any:
        """What the host answers to the bytes in the out buffer; None for a frame without JSON."""
        written = self.table.dispatch(self.out_buffer, self.in_buffer)
        assert wire.HEADER_SIZE <= written <= BUFFER
        assert set(self.in_buffer[written:]) <= {0xAA}
        text = wire.read_frame(self.in_buffer).text
        return json.loads(text) if text else None


_METHODS = st.sampled_from(["test.echo", "test.fail", "bulk.copy", "no.such"])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
_NAMES = st.sampled_from(["text", "times", "how", "size", "keep", "day", "pair"])
_MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.just("2.0") | _VALUES,
        "method": _METHODS | _VALUES,
        "params": st.dictionaries(_NAMES | st.text(max_size=4), _VALUES) | _VALUES,
        "id": _VALUES,
    },
)
_CALLS = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0"), "method": _METHODS, "id": st.integers(0, 9)},
    optional={"params": st.dictionaries(_NAMES, _VALUES)},
)
_TEXTS = (
    st.binary(max_size=64)
    | (_CALLS | _MESSAGES | st.lists(_CALLS | _MESSAGES, max_size=3))
    .map(json.dumps)
    .map(str.encode)
    | st.integers(0, 1500).map(lambda depth: b"[" * depth)
    | st.integers(0, 1500).map(lambda depth: b'{"params":' * depth)
)
_CODES = {-32700, -32600, -32601, -32602, -32603, -32000, -32001, -32002}


def is_well_formed(answer: Any) -> bool:
    """Whether this is a response, or a batch of them, of JSON-RPC 2.0."""
    if isinstance(answer, list):
        return bool(answer) and all(isinstance(one, dict) and is_well_formed(one) for one in answer)
    members = set(answer)
    if members == {"jsonrpc", "id", "error"}:
        return answer["error"]["code"] in _CODES
    return members == {"jsonrpc", "id", "result"}


@settings(max_examples=300, deadline=None)
@given(_TEXTS, st.binary(max_size=32), st.data())
def test_whatever_a_guest_sends_gets_a_well_formed_answer(
    text: bytes, attachment: bytes, data: st.DataObject
) -> None:
    """Frames with any JSON, some with headers that lie about it."""
    guest = Guest()
    wire.write_frame(guest.out_buffer, text, attachment)
    for field in data.draw(st.sets(st.integers(0, 3), max_size=2)):
        value = data.draw(st.integers(0, 2**32 - 1) | st.integers(0, BUFFER))
        struct.pack_into("<I", guest.out_buffer, 4 * field, value)
    answer = guest.answer()
    assert answer is None or is_well_formed(answer)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=0x100))
def test_raw_bytes_are_answered(raw: bytes) -> None:
    guest = Guest()
    guest.out_buffer[: len(raw)] = raw
    assert is_well_formed(guest.answer())
