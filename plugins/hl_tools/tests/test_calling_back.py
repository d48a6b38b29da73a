"""Tools that call a function of the guest which has called them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from hyperlight_core.errors import (
    CallDepthError,
    GuestCrashedError,
    GuestFunctionError,
    SandboxTimeoutError,
)
from hyperlight_core.pytest_plugin import MakeGuest, MakeSandbox
from hyperlight_core.sandbox import Sandbox

pytestmark = pytest.mark.kvm

LONG = 60.0

#: A guest that asks the tool about a number, between two numbers of its own.
GUEST = r"""
static int64_t number_of(struct hl_request *request) {
    int64_t number = 0;
    hl_param_int(request, "number", &number);
    return number;
}

static void ask(struct hl_request *request) {
    struct hl_json_writer writer;
    struct hl_answer answer;
    char params[64];
    int64_t found = 0;
    hl_json_start(&writer, params, sizeof params);
    hl_json_open(&writer, '{');
    hl_json_key(&writer, "number");
    hl_json_int(&writer, number_of(request));
    hl_json_close(&writer, '}');
    hl_json_open(&request->result, '[');
    hl_json_int(&request->result, number_of(request));
    if (!hl_call("tools.back", params, hl_json_finish(&writer), NULL, 0, &answer) ||
        !hl_json_get_int(answer.value, &found))
        return hl_reply_error(request, HL_ERROR_INTERNAL, "the tool failed");
    hl_json_int(&request->result, found);
    hl_json_int(&request->result, number_of(request));
    hl_json_close(&request->result, ']');
}

static void twice(struct hl_request *request) {
    hl_json_int(&request->result, 2 * number_of(request));
}

static void spin(struct hl_request *request) {
    (void)request;
    for (;;)
        __asm__ volatile("pause");
}

static void crash(struct hl_request *request) {
    (void)request;
    __asm__ volatile("ud2");
}

const struct hl_method hl_methods[] = {
    {"ask", ask}, {"twice", twice}, {"spin", spin}, {"crash", crash}, {0}};
"""

Made = Callable[..., Sandbox]


@pytest.fixture
def make(sandbox: MakeSandbox, guest: MakeGuest) -> Made:
    """Makes sandboxes with a tool called back."""

    def made(
        back: Callable[..., Any], limits: dict[str, Any] | None = None, **more: Any
    ) -> Sandbox:
        tools = {"functions": {"back": back}, "default_limits": limits or {}}
        return sandbox(guest(GUEST), memory="8MiB", plugins={"tools": tools}, **more)

    return made


LIMITS: list[dict[str, Any]] = [{}, {"timeout": LONG, "concurrent": 9}]


@pytest.mark.parametrize("limits", LIMITS, ids=["direct", "timeout"])
def test_a_tool_calls_back_into_its_sandbox(make: Made, limits: dict[str, Any]) -> None:
    """Also from the thread that a tool with a timeout has."""

    def back(number: int) -> int:
        return int(made.call("twice", number=number))

    made = make(back, limits)
    assert made.call("ask", number=21) == [21, 42, 21]
    assert made.call("ask", number=4) == [4, 8, 4]


def test_an_async_tool_calls_back_from_a_thread(make: Made) -> None:
    async def back(number: int) -> int:
        results = await asyncio.gather(
            *(asyncio.to_thread(made.call, "twice", number=number) for _ in range(3))
        )
        return sum(results)

    made = make(back)
    assert made.call("ask", number=5) == [5, 30, 5]


@pytest.mark.parametrize("limits", LIMITS, ids=["direct", "timeout"])
def test_guest_and_tool_call_each_other_to_a_depth(make: Made, limits: dict[str, Any]) -> None:
    """What each level had read and written in the guest is still there afterwards."""

    def back(number: int) -> int:
        if not number:
            return 0
        inner = made.call("ask", number=number - 1)
        assert inner == [number - 1, sum(range(number)), number - 1]
        return number + int(inner[1])

    made = make(back, limits)
    assert made.call("ask", number=8) == [8, sum(range(9)), 8]


@pytest.mark.parametrize("limits", LIMITS, ids=["direct", "timeout"])
def test_endless_mutual_recursion_is_an_error_to_all_of_them(
    make: Made, limits: dict[str, Any]
) -> None:
    """The deepest tool gets it, the guest gets it as the tool's, and so on upwards."""
    seen: list[Exception] = []

    def back(number: int) -> int:
        try:
            return int(made.call("ask", number=number + 1)[0])
        except (CallDepthError, GuestFunctionError) as error:
            seen.append(error)
            raise

    made = make(back, limits)
    with pytest.raises(GuestFunctionError, match="the tool failed"):
        made.call("ask", number=0)
    assert [type(error) for error in seen] == [CallDepthError] + [GuestFunctionError] * 8
    assert made.call("twice", number=2) == 4


@pytest.mark.parametrize("limits", LIMITS, ids=["direct", "timeout"])
def test_the_sandboxs_timeout_bounds_what_a_tool_calls(make: Made, limits: dict[str, Any]) -> None:
    """A tool that swallows the error does not make the guest go on."""

    def back(number: int) -> int:
        with pytest.raises(SandboxTimeoutError):
            made.call("spin")
        return number

    made = make(back, limits, timeout=0.2)
    with pytest.raises(SandboxTimeoutError):
        made.call("ask", number=1)
    assert made.status == "poisoned"
    made.reset()
    assert made.call("twice", number=2) == 4


@pytest.mark.parametrize("limits", LIMITS, ids=["direct", "timeout"])
def test_a_guest_that_crashes_within_is_poisoned(make: Made, limits: dict[str, Any]) -> None:
    def back(number: int) -> int:
        with pytest.raises(GuestCrashedError):
            made.call("crash")
        return number

    made = make(back, limits)
    with pytest.raises(GuestCrashedError):
        made.call("ask", number=1)
    assert made.status == "poisoned"


def test_calls_of_a_run_are_counted_over_all_depths(make: Made) -> None:
    def back(number: int) -> int:
        try:
            return int(made.call("ask", number=number)[1]) + 1
        except GuestFunctionError:
            return 0

    made = make(back, {"calls_per_run": 3})
    assert made.call("ask", number=1)[1] == 2
    assert made.status == "ready"
