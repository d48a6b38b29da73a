"""Tools from the guest's side: results, errors and limits, through the host-function table."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import date
from textwrap import dedent
from typing import Any, NoReturn

import pytest
from hl_tools import ToolLimits, ToolsConfiguration, ToolsPlugin

from hyperlight_core import wire
from hyperlight_core.errors import DeniedError
from hyperlight_core.plugins import PluginSet, load_plugins

SHORT = 0.2
LONG = 60.0


@dataclass
class Run:
    """The run of a sandbox that calls come from."""

    run: int = 1
    deadline: float | None = None
    cancelled: bool = False
    wake_fd: int = -1


class Guest:
    """A guest with tools, as far as its buffers."""

    def __init__(self, limits: ToolLimits, functions: dict[str, Callable[..., Any]]) -> None:
        configuration = ToolsConfiguration(functions=functions, default_limits=limits)
        self.plugins: PluginSet = load_plugins({"tools": ToolsPlugin(configuration)})
        self.run = Run()
        self.out_buffer = memoryview(bytearray(0x10000))
        self.in_buffer = memoryview(bytearray(0x10000))

    def ask(self, name: str, **params: Any) -> Any:
        """The response to a call of a tool."""
        message = {"jsonrpc": "2.0", "id": 1, "method": f"tools.{name}", "params": params}
        wire.write_frame(self.out_buffer, json.dumps(message).encode())
        self.plugins.table.dispatch(self.out_buffer, self.in_buffer, self.run)
        return json.loads(wire.read_frame(self.in_buffer).text)

    def call(self, name: str, **params: Any) -> Any:
        """The result of a call that succeeds."""
        return self.ask(name, **params)["result"]

    def error(self, name: str, **params: Any) -> Any:
        """The error of a call that fails."""
        return self.ask(name, **params)["error"]


MakeGuest = Callable[..., Guest]


@pytest.fixture
def make_guest() -> Iterator[MakeGuest]:
    """Makes guests with the given limits and functions, and closes them."""
    guests = []

    def make(limits: dict[str, Any] | None = None, /, **functions: Callable[..., Any]) -> Guest:
        guests.append(Guest(ToolLimits.model_validate(limits or {}), functions))
        return guests[-1]

    yield make
    for guest in guests:
        guest.plugins.closed()


class Gate:
    """A tool that takes until it is told to end."""

    def __init__(self) -> None:
        self.started, self.may_end = threading.Event(), threading.Event()

    def wait(self) -> str:
        """Wait at the gate."""
        self.started.set()
        assert self.may_end.wait(LONG)
        return "late"

    async def wait_async(self) -> str:
        """Wait for ever."""
        self.started.set()
        await asyncio.Event().wait()
        return "never"


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.may_end.set()


class Awaited(logging.Handler):
    """A log handler to wait for a message with."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = threading.Event()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.seen.set()


@pytest.fixture
def worker_log() -> Iterator[Awaited]:
    """What the waiting for tools logs."""
    logger, handler = logging.getLogger("hl_tools.worker"), Awaited()
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


# ---- results and errors ------------------------------------------------------------------------


def lookup(sku: str, count: int = 1) -> dict[str, int]:
    """Find the stock of an article."""
    return {sku: count}


async def alookup(sku: str, count: int = 1) -> dict[str, int]:
    """Find the stock of an article, some time."""
    await asyncio.sleep(0)
    return {sku: count}


@pytest.mark.parametrize("limits", [{}, {"timeout": LONG}, {"calls_per_run": 9}])
@pytest.mark.parametrize("function", [lookup, alookup], ids=["sync", "async"])
def test_a_tool_is_called_and_its_result_is_the_result(
    make_guest: MakeGuest, function: Callable[..., Any], limits: dict[str, Any]
) -> None:
    guest = make_guest(limits, lookup=function)
    assert guest.call("lookup", sku="a") == {"a": 1}
    assert guest.call("lookup", sku="a", count=5) == {"a": 5}


@pytest.mark.parametrize("function", [lookup, alookup], ids=["sync", "async"])
@pytest.mark.parametrize(
    "params", [{}, {"sku": 1}, {"sku": "a", "count": 1.5}, {"sku": "a", "x": 1}]
)
def test_wrong_arguments_are_invalid_params_and_reach_nobody(
    make_guest: MakeGuest, function: Callable[..., Any], params: dict[str, Any]
) -> None:
    assert make_guest(lookup=function).error("lookup", **params)["code"] == -32602


class OddError(Exception):
    """An exception of the tool's own."""


def failing(how: str) -> int:
    """Raise."""
    if how == "os":
        raise FileNotFoundError(2, "No such file or directory", "/etc/secret")
    if how == "denied":
        raise DeniedError("not yours")
    if how == "long":
        raise OddError("x" * 1_000_000)
    if how == "surrogate":
        raise OddError("\ud800")
    raise OddError("it is Tuesday")


async def afailing(how: str) -> int:
    """Raise, in a coroutine."""
    await asyncio.sleep(0)
    return failing(how)


@pytest.mark.parametrize("limits", [{}, {"timeout": LONG}])
@pytest.mark.parametrize("function", [failing, afailing], ids=["sync", "async"])
def test_an_exception_crosses_as_its_type_and_message(
    make_guest: MakeGuest, function: Callable[..., Any], limits: dict[str, Any]
) -> None:
    """Its own, also from a coroutine, and nothing of the host's stack."""
    guest = make_guest(limits, failing=function)
    assert guest.error("failing", how="") == {
        "code": -32003,
        "message": "OddError: it is Tuesday",
        "data": {"type": "OddError", "plugin": "tools"},
    }


@pytest.mark.parametrize("function", [failing, afailing], ids=["sync", "async"])
def test_an_os_error_crosses_without_the_path_in_it(
    make_guest: MakeGuest, function: Callable[..., Any]
) -> None:
    assert make_guest(failing=function).error("failing", how="os") == {
        "code": -32003,
        "message": "FileNotFoundError: No such file or directory",
        "data": {"type": "FileNotFoundError", "plugin": "tools", "errno": "ENOENT"},
    }


def test_a_host_function_error_of_a_tool_keeps_its_code(make_guest: MakeGuest) -> None:
    assert make_guest(failing=failing).error("failing", how="denied")["code"] == DeniedError.code


@pytest.mark.parametrize("how", ["long", "surrogate"])
def test_an_exception_with_an_odd_text_still_crosses(make_guest: MakeGuest, how: str) -> None:
    error = make_guest(failing=failing).error("failing", how=how)
    assert error["code"] == -32003
    assert len(error["message"]) < 5000


def test_a_result_that_breaks_the_annotation_is_an_error_and_logged(
    make_guest: MakeGuest, caplog: pytest.LogCaptureFixture
) -> None:
    def lying() -> int:
        return "secret"  # type: ignore[return-value]

    error = make_guest(lying=lying).error("lying")
    assert (error["code"], "secret" in str(error)) == (-32003, False)
    assert "tools.lying returned what its annotation does not allow" in caplog.text


def test_a_plain_tool_is_called_in_the_same_thread(make_guest: MakeGuest) -> None:
    guest = make_guest(thread=lambda: threading.get_ident())  # noqa: PLW0108
    assert guest.call("thread") == threading.get_ident()


def test_a_tool_with_a_timeout_sees_the_callers_context(make_guest: MakeGuest) -> None:
    variable: ContextVar[str] = ContextVar("variable")
    variable.set("here")
    assert make_guest({"timeout": LONG}, read=lambda: variable.get()).call("read") == "here"  # noqa: PLW0108


def test_an_async_tool_works_below_a_running_event_loop(make_guest: MakeGuest) -> None:
    guest = make_guest(lookup=alookup)

    async def program() -> Any:
        return guest.call("lookup", sku="a")

    assert asyncio.run(program()) == {"a": 1}


def test_async_tools_of_a_sandbox_share_one_loop(make_guest: MakeGuest) -> None:
    async def loop_id() -> int:
        return id(asyncio.get_running_loop())

    guest = make_guest(loop_id=loop_id)
    assert guest.call("loop_id") == guest.call("loop_id")


# ---- limits ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["wait", "wait_async"])
def test_a_timeout_ends_the_wait_for_a_tool(make_guest: MakeGuest, gate: Gate, kind: str) -> None:
    guest = make_guest({"timeout": SHORT}, wait=getattr(gate, kind))
    error = guest.error("wait")
    assert (error["code"], error["data"]["errno"]) == (-32002, "ETIMEDOUT")
    assert error["message"] == "tools.wait took too long"


@pytest.mark.parametrize("kind", ["wait", "wait_async"])
def test_the_deadline_of_the_run_ends_the_wait(
    make_guest: MakeGuest, gate: Gate, kind: str
) -> None:
    guest = make_guest({"timeout": LONG}, wait=getattr(gate, kind))
    guest.run.deadline = 0.0
    assert guest.error("wait")["data"]["errno"] == "ETIMEDOUT"


@pytest.mark.parametrize("kind", ["wait", "wait_async"])
def test_a_kill_ends_the_wait_at_once(make_guest: MakeGuest, gate: Gate, kind: str) -> None:
    guest = make_guest({"timeout": LONG}, wait=getattr(gate, kind))
    guest.run.wake_fd, signal = os.pipe()

    def kill() -> None:
        assert gate.started.wait(LONG)
        guest.run.cancelled = True
        os.close(signal)

    killer = threading.Thread(target=kill)
    killer.start()
    error = guest.error("wait")
    killer.join()
    os.close(guest.run.wake_fd)
    assert error["data"]["errno"] == "ECANCELED"


def test_a_late_result_is_dropped_and_logged(
    make_guest: MakeGuest, gate: Gate, worker_log: Awaited
) -> None:
    guest = make_guest({"timeout": SHORT}, wait=gate.wait, lookup=lookup)
    guest.error("wait")
    gate.may_end.set()
    assert worker_log.seen.wait(LONG)
    (record,) = worker_log.records
    assert record.getMessage() == "tools.wait ended too late, its result is dropped"
    assert guest.call("lookup", sku="a") == {"a": 1}


def test_late_calls_count_as_busy_until_they_end(
    make_guest: MakeGuest, gate: Gate, worker_log: Awaited
) -> None:
    """A guest cannot pile up threads behind a tool that hangs."""
    guest = make_guest({"timeout": SHORT, "concurrent": 2}, wait=gate.wait)
    before = threading.active_count()
    errors = [guest.error("wait")["data"]["errno"] for _ in range(5)]
    assert errors == ["ETIMEDOUT", "ETIMEDOUT", "EBUSY", "EBUSY", "EBUSY"]
    assert threading.active_count() <= before + 2
    gate.may_end.set()
    assert worker_log.seen.wait(LONG)
    assert guest.call("wait") == "late"


def test_an_async_tool_is_cancelled_by_its_timeout(make_guest: MakeGuest) -> None:
    cancelled = threading.Event()

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    make_guest({"timeout": SHORT}, wait=wait).error("wait")
    assert cancelled.wait(LONG)


def test_closing_cancels_what_an_async_tool_left_running(make_guest: MakeGuest) -> None:
    cancelled = threading.Event()
    background: set[asyncio.Task[None]] = set()

    async def stay() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def start() -> None:
        background.add(asyncio.create_task(stay()))
        await asyncio.sleep(0)

    guest = make_guest(start=start)
    guest.call("start")
    guest.plugins.closed()
    assert cancelled.is_set()


def test_closing_gives_up_on_a_coroutine_that_resists(
    make_guest: MakeGuest, gate: Gate, worker_log: Awaited
) -> None:
    async def block() -> None:
        gate.wait()

    guest = make_guest({"timeout": SHORT}, block=block)
    assert guest.error("block")["data"]["errno"] == "ETIMEDOUT"
    guest.plugins.closed()
    assert "does not end" in worker_log.records[-1].getMessage()


@pytest.mark.parametrize("function", [lookup, alookup], ids=["sync", "async"])
def test_calls_are_counted_anew_in_every_run(
    make_guest: MakeGuest, function: Callable[..., Any]
) -> None:
    guest = make_guest({"calls_per_run": 2}, lookup=function)
    for guest.run.run in (1, 2):
        answers = [guest.ask("lookup", sku="a") for _ in range(3)]
        assert ["result" in answer for answer in answers] == [True, True, False]
        assert answers[2]["error"]["message"] == "tools.lookup may be called 2 times in a run"


def test_a_failing_call_counts_too(make_guest: MakeGuest) -> None:
    guest = make_guest({"calls_per_run": 1}, failing=failing)
    assert [guest.error("failing", how="")["code"] for _ in range(2)] == [-32003, -32002]


def test_a_result_may_be_bounded(make_guest: MakeGuest) -> None:
    guest = make_guest({"result_size": 10}, text=lambda size: "x" * size)
    assert guest.call("text", size=8) == "x" * 8
    assert guest.error("text", size=9)["code"] == -32002


def test_a_hanging_tool_does_not_keep_the_interpreter_from_exiting() -> None:
    code = """
        import threading
        from hl_tools import ToolLimits
        from test_tool import Guest

        guest = Guest(ToolLimits(timeout=0.01), {"hang": threading.Event().wait})
        print(guest.error("hang")["message"])
    """
    path = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    ended = subprocess.run(
        [sys.executable, "-c", dedent(code)],
        env={"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=LONG,
        check=True,
    )
    assert ended.stdout == "tools.hang took too long\n"


# ---- listing -----------------------------------------------------------------------------------


def book(day: date, seats: list[int] | None = None) -> dict[str, bool]:
    """Book seats.

    Several at once.
    """
    raise NotImplementedError


def never() -> NoReturn:
    raise NotImplementedError


def test_a_guest_can_list_its_tools_with_schemas(make_guest: MakeGuest) -> None:
    (tool,) = make_guest(book=book).call("list")["tools"]
    assert (tool["name"], tool["description"]) == ("book", "Book seats.\n\nSeveral at once.")
    parameters = tool["parameters"]
    assert (parameters["required"], parameters["additionalProperties"]) == (["day"], False)
    assert parameters["properties"]["day"] == {"format": "date", "title": "day", "type": "string"}
    assert tool["result"]["additionalProperties"] == {"type": "boolean"}


def test_no_tools_make_an_empty_list(make_guest: MakeGuest) -> None:
    assert make_guest().call("list") == {"tools": []}
