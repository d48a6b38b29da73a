"""A million hostile frames: none crashes the dispatcher, and nothing grows."""

from __future__ import annotations

import gc
import json
import random
import resource
from collections.abc import Callable

import pytest

from hyperlight_core import wire
from hyperlight_core.functions import HostCall, Model, functions_of, host_function
from hyperlight_core.table import HostFunctionTable

BUFFER = 0x2000
FRAMES = 1_000_000
#: Bytes that the process may have grown by: arenas of the allocator, not frames.
GROWTH = 8 * 2**20

Mutation = Callable[[random.Random, bytearray], None]


class Text(Model):
    text: str
    items: list[int] = []  # noqa: RUF012 (pydantic copies it)


class Plugin:
    @host_function("a.echo")
    def echo(self, request: Text, call: HostCall) -> Text:
        """Send everything back."""
        call.reply_buffer(len(call.attachment))[:] = call.attachment
        return request

    @host_function("a.fail")
    def fail(self, request: Text) -> Text:
        """Fail as files do."""
        raise FileNotFoundError(2, "gone", request.text)


def frames() -> list[bytes]:
    """Well-formed requests of every kind."""
    call = {"jsonrpc": "2.0", "id": 1, "method": "a.echo", "params": {"text": "x", "items": [1]}}
    messages = [
        call,
        call | {"method": "a.fail"},
        call | {"method": "a.none"},
        [call, call],
        {"jsonrpc": "2.0", "method": "a.echo", "params": {"text": ""}},
    ]
    found = []
    for message in messages:
        for attachment in (b"", b"attached"):
            buffer = bytearray(BUFFER)
            end = wire.write_frame(memoryview(buffer), json.dumps(message).encode(), attachment)
            found.append(bytes(buffer[:end]))
    return found


def leave(_random: random.Random, _frame: bytearray) -> None:
    """Nothing."""


def change_a_byte(source: random.Random, frame: bytearray) -> None:
    frame[int(source.random() * len(frame))] = int(source.random() * 256)


def change_the_header(source: random.Random, frame: bytearray) -> None:
    frame[4 + int(source.random() * 12)] = int(source.random() * 256)


def double_a_part(source: random.Random, frame: bytearray) -> None:
    at = 16 + int(source.random() * (len(frame) - 16))
    frame[at:at] = frame[at : at + 8]


@pytest.mark.timeout(600)
def test_a_million_frames_crash_nothing_and_nothing_grows() -> None:
    table = HostFunctionTable(functions_of(Plugin()))
    source, usual = random.Random(1), frames()  # noqa: S311 (nothing secret)
    mutations: list[Mutation] = [leave, change_a_byte, change_the_header, double_a_part]
    request, reply = memoryview(bytearray(BUFFER)), memoryview(bytearray(BUFFER))
    before = 0
    for number in range(FRAMES):
        frame = bytearray(usual[number % len(usual)])
        mutations[int(source.random() * 4)](source, frame)
        request[: len(frame)] = frame
        written = table.dispatch(request, reply)
        assert wire.HEADER_SIZE <= written <= BUFFER
        if number == FRAMES // 10:
            gc.collect()
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert (after - before) * 1024 < GROWTH
