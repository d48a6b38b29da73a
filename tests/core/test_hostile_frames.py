"""Attacks of a real native guest with frames, console, time and host calls; files that are none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from hyperlight_core import wire
from hyperlight_core.calls import Limits
from hyperlight_core.errors import (
    CpuTimeExceededError,
    GuestCrashedError,
    GuestExitedError,
    GuestFunctionError,
    GuestImageError,
    HostCallsExceededError,
    OutputExceededError,
    ProtocolError,
    SandboxTimeoutError,
)
from hyperlight_core.functions import HostFunction, Model
from hyperlight_core.guests import GuestImage
from hyperlight_core.hookspecs import hookimpl
from hyperlight_core.sandbox import Sandbox

pytestmark = pytest.mark.kvm

QUICK = Limits(timeout=0.05)


class Nothing(Model):
    """No parameters, no result."""


class Echo:
    """A plugin with one function, for guests to call."""

    calls = 0

    @hookimpl
    def host_functions(self) -> list[HostFunction]:
        return [HostFunction("echo.nothing", self.nothing, Nothing, Nothing)]

    def nothing(self, request: Nothing) -> Nothing:
        self.calls += 1
        return request


def sandbox_of(guest: GuestImage, **options: Any) -> Sandbox:
    return Sandbox(guest, memory="8MiB", **{"timeout": 10.0, **options})


# ---- frames ------------------------------------------------------------------------------------

OK = '{"jsonrpc":"2.0","id":%d,"result":null}'
LYING = {
    "json beyond the buffer": {"json_size": 2**20},
    "json of 4 GiB": {"json_size": 2**32 - 1},
    "json that wraps around": {"json_size": 2**32 - 16},
    "attachment beyond the buffer": {"attachment_offset": 2**20 - 1, "attachment_size": 2},
    "attachment at 4 GiB": {"attachment_offset": 2**32 - 1, "attachment_size": 1},
    "attachment of 4 GiB": {"attachment_offset": 4096, "attachment_size": 2**32 - 1},
    "attachment that wraps around": {
        "attachment_offset": 2**32 - 4096,
        "attachment_size": 2**32 - 1,
    },
    "attachment within the header": {"attachment_offset": 0, "attachment_size": 8},
    "attachment within the json": {"attachment_offset": 20, "attachment_size": 8},
    "another ABI version": {"version": 1},
    "no ABI version": {"version": 0},
}


def forge(target: Sandbox, text: str, call: int = 0, **lies: int) -> Any:
    frame = {
        "version": wire.ABI_VERSION,
        "json_size": len(text),
        "attachment_offset": 0,
        "attachment_size": 0,
    }
    return target.call("forge", **{**frame, **lies}, text=text, call=call)


@pytest.mark.parametrize("name", LYING)
def test_a_reply_that_lies(target: Sandbox, name: str) -> None:
    with pytest.raises(ProtocolError):
        forge(target, OK % 1, **LYING[name])
    assert target.status == "poisoned"


@pytest.mark.parametrize("name", LYING)
def test_a_host_call_that_lies(target: Sandbox, name: str) -> None:
    """It is answered as malformed, and the guest goes on."""
    request = '{"jsonrpc":"2.0","id":1,"method":"a.b"}'
    assert '"code":-32700' in forge(target, request, 1, **LYING[name])


MALFORMED = {
    "nothing": "",
    "no json": "{",
    "two values": "{} {}",
    "an array": "[]",
    "a deep array": "[" * 5000,
    "a number too large": '{"jsonrpc":"2.0","id":1' + "0" * 400 + ',"result":1}',
    "a member twice": '{"jsonrpc":"2.0","id":1,"result":1,"result":2}',
    "no version": '{"id":1,"result":1}',
    "another version": '{"jsonrpc":"1.0","id":1,"result":1}',
    "no result": '{"jsonrpc":"2.0","id":1}',
    "result and error": '{"jsonrpc":"2.0","id":1,"result":1,"error":{"code":1,"message":""}}',
    "an unknown member": '{"jsonrpc":"2.0","id":1,"result":1,"extra":1}',
    "an error that is none": '{"jsonrpc":"2.0","id":1,"error":"oops"}',
    "another id": OK % (2**31),
    "an id of text": '{"jsonrpc":"2.0","id":"1","result":1}',
    "a request": '{"jsonrpc":"2.0","id":1,"method":"fs.open"}',
    "bytes that are not UTF-8": "\0",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_reply_that_is_malformed(target: Sandbox, name: str) -> None:
    with pytest.raises(ProtocolError):
        forge(target, MALFORMED[name])
    assert target.status == "poisoned"


def test_parking_without_a_reply(target: Sandbox) -> None:
    """The guest's out buffer still has the reply to the last request."""
    target.call("count")
    with pytest.raises(ProtocolError):
        target.call("execute", code="31c0e711")


# ---- the console -------------------------------------------------------------------------------

RECORDS = {
    "no stream": {"stream": 3, "size": 4, "used": 12},
    "stream 0": {"stream": 0, "size": 4, "used": 12},
    "text beyond the record": {"stream": 1, "size": 5, "used": 12},
    "text of 4 GiB": {"stream": 1, "size": 2**32 - 1, "used": 12},
    "text that wraps around": {"stream": 1, "size": 2**32 - 8, "used": 8},
    "a header cut off": {"stream": 1, "size": 0, "used": 7},
    "a second header cut off": {"stream": 1, "size": 4, "used": 13},
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_console_record_that_is_malformed(target: Sandbox, name: str) -> None:
    with pytest.raises(ProtocolError, match="console"):
        target.call("console", **RECORDS[name])


@pytest.mark.parametrize("used", [65537, 2**31, 2**32 - 1])
def test_more_console_text_than_the_buffer_holds(target: Sandbox, used: int) -> None:
    with pytest.raises(GuestCrashedError, match="more console text than its buffer"):
        target.call("console", stream=1, size=4, used=used)


def test_a_console_flood(hostile: GuestImage) -> None:
    with sandbox_of(hostile, output_limit=10_000) as sandbox:
        with pytest.raises(OutputExceededError) as caught:
            sandbox.call("flood", lines=10_000)
        assert len(caught.value.stdout) + len(caught.value.stderr) == 10_000
        sandbox.reset()
        sandbox.call("flood", lines=10_000 // 21)


def test_a_console_flood_within_the_limit(hostile: GuestImage) -> None:
    seen: list[tuple[str, bytes]] = []
    with sandbox_of(hostile, stream=lambda *piece: seen.append(piece)) as sandbox:
        sandbox.call("flood", lines=10_000)
    for stream in ("stdout", "stderr"):
        text = b"".join(piece for name, piece in seen if name == stream)
        assert text == b"all work and no play\n" * 5000


# ---- time, stack, calls ------------------------------------------------------------------------


def test_time_is_up_whatever_the_console_says(target: Sandbox) -> None:
    """A guest cannot turn its time-out into another error."""
    # mov dword [console_used], 0x80000000; jmp to itself
    claim = "c704253000200000000080ebfe"
    with pytest.raises(SandboxTimeoutError):
        target._state.call("execute", {"code": claim}, limits=QUICK)


def test_an_endless_loop_with_a_timeout(hostile: GuestImage) -> None:
    with sandbox_of(hostile, timeout=0.05) as sandbox:
        with pytest.raises(SandboxTimeoutError) as caught:
            sandbox.call("spin")
        assert caught.value.stdout == "spinning\n"
        sandbox.reset()
        assert sandbox.call("count") == 1


def test_an_endless_loop_with_a_budget(hostile: GuestImage) -> None:
    with sandbox_of(hostile, cpu_time=0.05) as sandbox:
        with pytest.raises(CpuTimeExceededError):
            sandbox.call("spin")
        sandbox.reset()
        assert sandbox.call("count") == 1


@pytest.mark.parametrize("until", [-(2**63), -1, 0, 1, 2**63 - 1])
def test_sleeping_until_any_time(hostile: GuestImage, until: int) -> None:
    with sandbox_of(hostile, timeout=0.05) as sandbox:
        with pytest.raises(SandboxTimeoutError):
            sandbox.call("sleep_on", until=until)
        sandbox.reset()
        assert sandbox.call("count") == 1


def test_huge_recursion(target: Sandbox) -> None:
    with pytest.raises(GuestCrashedError, match="page fault"):
        target.call("recursion")


@pytest.mark.parametrize("status", [0, 1, 255])
def test_an_exit(target: Sandbox, status: int) -> None:
    with pytest.raises(GuestExitedError) as caught:
        target.call("stop", status=status)
    assert caught.value.status == status


@pytest.mark.parametrize("status", [256, -1, 2**31])
def test_an_exit_with_a_status_that_is_none(target: Sandbox, status: int) -> None:
    with pytest.raises(GuestExitedError) as caught:
        target.call("stop", status=status)
    assert caught.value.status == status % 256


def test_a_flood_of_host_calls(hostile: GuestImage) -> None:
    echo = Echo()
    with sandbox_of(hostile, host_calls=50, plugins={"echo": echo}) as sandbox:
        with pytest.raises(HostCallsExceededError):
            sandbox.call("call", method="echo.nothing", times=100_000)
        assert echo.calls == 50
        sandbox.reset()
        assert sandbox.call("call", method="echo.nothing", times=50) == [True, {}]


def test_a_host_function_that_was_not_granted(target: Sandbox) -> None:
    answered, error = target.call("call", method="fs.open", times=1)
    assert (answered, error["code"]) == (False, -32601)


def test_a_method_the_guest_does_not_have(target: Sandbox) -> None:
    with pytest.raises(GuestFunctionError, match="no such function"):
        target.call("nothing")
    assert target.status == "ready"


# ---- files that are no guests ------------------------------------------------------------------


def test_a_file_that_is_no_guest(tmp_path: Path) -> None:
    for content in (b"", b"\x7fELF", os.urandom(100_000)):
        (tmp_path / "guest.elf").write_bytes(content)
        with pytest.raises(GuestImageError, match="ELF"):
            Sandbox(tmp_path / "guest.elf")
