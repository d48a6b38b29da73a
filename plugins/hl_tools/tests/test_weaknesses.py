"""Weaknesses that other dispatchers of tools have had, one test each."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from typing import Annotated, Any, List, Literal, Optional, Union  # noqa: UP035 - as tools have them

import pytest
from hl_tools import ToolsConfiguration
from pydantic import BaseModel, Field, ValidationError

from hyperlight_core import wire
from hyperlight_core.errors import ConfigurationError, InvalidParamsError, SandboxKilledError
from hyperlight_core.plugins import load_plugins
from hyperlight_core.pytest_plugin import MakeGuest, MakeSandbox
from hyperlight_core.table import HostFunctionTable
from hyperlight_core.testing import Answer, call_host_function

LONG = 60.0
#: Levels below which a size was once taken for 0.
DEEP = 66

Grant = Callable[..., HostFunctionTable]


@pytest.fixture
def grant() -> Iterator[Grant]:
    """Makes tables with the given tools, under the given limits."""
    granted = []

    def make(limits: dict[str, Any] | None = None, /, **tools: Callable[..., Any]) -> Any:
        configuration = {"functions": tools, "default_limits": limits or {}}
        granted.append(load_plugins({"tools": configuration}))
        return granted[-1].table

    yield make
    for plugins in granted:
        plugins.closed()


def code_of(answer: Answer) -> int:
    """The code of an answer that is an error."""
    assert answer.error is not None, answer.result
    return int(answer.error["code"])


class Recorder:
    """A tool that takes anything and remembers it."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def take(self, value: Any) -> None:
        """Take it."""
        self.seen.append(value)


# ---- sizes ---------------------------------------------------------------------------------------


def test_a_string_nested_deeply_does_not_evade_the_size_limit(grant: Grant) -> None:
    """The limit is the frame's, and looked at before anything is parsed."""
    recorder = Recorder()
    value: Any = "x" * 0x10000
    for _ in range(DEEP):
        value = [value]
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools.take", "params": {"value": value}}
    text = json.dumps(message).encode()
    request, reply = memoryview(bytearray(0x10000)), memoryview(bytearray(0x10000))
    request[:] = (wire.HEADER.pack(wire.ABI_VERSION, len(text), 0, 0) + text)[: len(request)]
    grant(take=recorder.take).dispatch(request, reply)
    assert json.loads(wire.read_frame(reply).text)["error"]["code"] == wire.PARSE_ERROR
    assert not recorder.seen


def nested(size: int) -> Any:
    """A text, deep inside."""
    value: Any = "x" * size
    for _ in range(DEEP):
        value = {"": value}
    return value


def escaped(size: int) -> str:
    """A text that JSON makes six times as long."""
    return "\x01" * size


@pytest.mark.parametrize("tool", [nested, escaped])
def test_a_result_counts_as_the_bytes_it_is_sent_as(
    grant: Grant, tool: Callable[[int], Any]
) -> None:
    table = grant({"result_size": 1000}, tool=tool)
    assert call_host_function(table, "tools.tool", {"size": 100}).error is None
    assert code_of(call_host_function(table, "tools.tool", {"size": 900})) == -32002


def test_a_result_without_a_limit_of_its_own_has_the_buffers(grant: Grant) -> None:
    table = grant(tool=lambda: "x" * 10_000_000)
    assert code_of(call_host_function(table, "tools.tool")) == -32002


# ---- async tools ---------------------------------------------------------------------------------


def test_the_error_of_an_async_tool_is_its_own_and_it_runs_once(grant: Grant) -> None:
    """Below a running event loop, too, where asyncio.run would fail in its place."""
    started: list[int] = []

    async def fail() -> None:
        started.append(1)
        raise RuntimeError("out of stock")

    async def program() -> Answer:
        return call_host_function(grant(fail=fail), "tools.fail")

    answer = asyncio.run(program())
    assert answer.error is not None
    assert answer.error["message"] == "RuntimeError: out of stock"
    assert started == [1]


# ---- bounds --------------------------------------------------------------------------------------


def test_a_timeout_does_not_wait_for_the_tool_after_all() -> None:
    """Nor does the end of the sandbox: both are over while the tool is still at work."""
    may_end = threading.Event()

    def hang() -> None:
        assert may_end.wait(LONG)

    plugins = load_plugins({"tools": {"functions": [hang], "default_limits": {"timeout": 0.05}}})
    answer = call_host_function(plugins.table, "tools.hang")
    plugins.closed()
    assert not may_end.is_set()
    may_end.set()
    assert code_of(answer) == -32002


def test_a_guest_cannot_call_a_tool_as_often_as_it_likes(grant: Grant) -> None:
    recorder = Recorder()
    table = grant({"calls_per_run": 3}, take=recorder.take)
    answers = [call_host_function(table, "tools.take", {"value": 1}) for _ in range(5)]
    assert [answer.error is None for answer in answers] == [True] * 3 + [False] * 2
    assert len(recorder.seen) == 3


#: A guest that never ends by itself.
SPINNING = r"""
static void spin(struct hl_request *request) {
    (void)request;
    for (;;)
        __asm__ volatile("pause");
}
static void count(struct hl_request *request) { hl_json_int(&request->result, 1); }
const struct hl_method hl_methods[] = {{"spin", spin}, {"count", count}, {0}};
"""


@pytest.mark.kvm
def test_a_running_guest_does_not_stop_the_threads_of_the_host(
    sandbox: MakeSandbox, guest: MakeGuest
) -> None:
    """The one that ends it is Python of this process."""
    made = sandbox(guest(SPINNING), memory="4MiB", timeout=None)
    killer = threading.Timer(0.05, made.kill)
    killer.start()
    with pytest.raises(SandboxKilledError):
        made.call("spin")
    killer.join()


@pytest.mark.kvm
def test_a_sandbox_is_used_and_dropped_by_other_threads(
    sandbox: MakeSandbox, guest: MakeGuest
) -> None:
    made = sandbox(guest(SPINNING), memory="4MiB")
    found: list[Any] = []

    def use() -> None:
        found.append(made.call("count"))
        made.reset()
        made.close()

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert (found, made.status) == ([1], "closed")


# ---- types ---------------------------------------------------------------------------------------


class Part(BaseModel):
    """Something nested."""

    count: int = Field(ge=1)


def typed(
    text: str = "",
    number: int = 0,
    maybe: Optional[int] = None,  # noqa: UP045
    either: Union[int, bool] = 0,  # noqa: UP007
    many: List[int] = [],  # noqa: UP006, B006
    chosen: Literal["a", "b"] = "a",
    ranged: Annotated[int, Field(ge=0, le=9)] = 0,
    part: Part = Part(count=1),  # noqa: B008
) -> dict[str, Any]:
    """Take one of each; all annotations here are strings."""
    return dict(locals())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("number", 3.5),
        ("number", "3"),
        ("number", True),
        ("number", None),
        ("text", None),
        ("text", 1),
        ("maybe", "1"),
        ("either", "1"),
        ("many", [1, "2"]),
        ("many", {}),
        ("chosen", "c"),
        ("ranged", 10),
        ("part", {"count": 0}),
        ("part", {"count": "1"}),
        ("unknown", 1),
    ],
)
def test_no_annotation_is_silently_taken_for_any(grant: Grant, name: str, value: Any) -> None:
    """Unions, strings and ranges are checked, and what is not declared reaches nobody."""
    assert typed.__annotations__["maybe"] == "Optional[int]"
    answer = call_host_function(grant(typed=typed), "tools.typed", {name: value})
    assert code_of(answer) == InvalidParamsError.code


def test_a_result_is_checked_as_well(grant: Grant) -> None:
    def wrong() -> int:
        return "three"  # type: ignore[return-value]

    assert code_of(call_host_function(grant(wrong=wrong), "tools.wrong")) == -32003


@pytest.mark.parametrize("number", [2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, -(2**63)])
def test_a_large_integer_does_not_become_a_float(grant: Grant, number: int) -> None:
    def same(number: int) -> int:
        return number

    answer = call_host_function(grant(same=same), "tools.same", {"number": number})
    assert (type(answer.result), answer.result) == (int, number)


def test_a_result_that_json_has_no_word_for_is_not_sent_as_its_repr(grant: Grant) -> None:
    answer = call_host_function(grant(tool=object), "tools.tool")
    assert answer.error is not None
    assert "object at 0x" not in str(answer.error)


# ---- registration and texts ----------------------------------------------------------------------


@pytest.mark.parametrize("functions", [{"tool": "text"}, {"tool": None}, [typed, typed]])
def test_what_is_not_callable_or_is_there_twice_is_not_granted(functions: Any) -> None:
    with pytest.raises(ValidationError):
        ToolsConfiguration(functions=functions)


def test_a_callable_without_a_signature_fails_when_it_is_granted() -> None:
    """Not at the first run, as an internal error."""
    with pytest.raises(ConfigurationError, match="tool 'max'"):
        load_plugins({"tools": {"functions": {"max": max}}})


def test_the_text_of_an_exception_names_no_file_of_the_host(grant: Grant) -> None:
    def read() -> str:
        with open("/no/such/secret/file") as file:
            return file.read()

    answer = call_host_function(grant(read=read), "tools.read")
    assert "secret" not in str(answer.error)
    assert "Traceback" not in str(answer.error)


def test_arguments_are_listed_in_the_order_of_the_signature(grant: Grant) -> None:
    (tool,) = call_host_function(grant(typed=typed), "tools.list").result["tools"]
    assert list(tool["parameters"]["properties"]) == list(typed.__annotations__)[:-1]
