"""Guest calls within host calls: who may make them, what bounds them, and what guests may try."""

from __future__ import annotations

import asyncio
import select
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from contextvars import copy_context
from typing import Any

import pytest

from hyperlight_core import wire
from hyperlight_core.calls import Limits
from hyperlight_core.errors import (
    CallDepthError,
    GuestFunctionError,
    HostCallsExceededError,
    HyperlightError,
    OutputExceededError,
    ProtocolError,
    SandboxBusyError,
    SandboxConsumedError,
    SandboxTimeoutError,
)
from hyperlight_core.functions import HostFunction, Model
from hyperlight_core.handover import Handover
from hyperlight_core.hookspecs import hookimpl
from hyperlight_core.states import State, Use
from hyperlight_core.testing import FakeVm, FunctionGuest, Print, fake_spec, leave
from hyperlight_core.testing import HostCall as Call
from hyperlight_core.vm import Exit, ExitKind

LONG = 60.0


class Number(Model):
    """A parameter or a result."""

    number: int = 0


class Back:
    """A plugin whose one function does what the test says, with the sandbox at hand."""

    def __init__(self) -> None:
        self.act: Callable[[int], int] = lambda number: number

    @hookimpl
    def host_functions(self) -> list[HostFunction]:
        return [HostFunction("back.act", self._handle, Number, Number)]

    def _handle(self, request: Number) -> Number:
        return Number(number=self.act(request.number))


class Ready(State, functions=["back.*"]):
    """Everything is within reach."""


# ---- the guest -----------------------------------------------------------------------------------


def ask(_vm: FakeVm, params: dict[str, Any]) -> Generator[Any, Any, Any]:
    """Ask the host; the answer, or the error's text."""
    answer = yield Call("back.act", {"number": params.get("number", 0)})
    return answer.result["number"] if answer.error is None else answer.error["message"]


def send_bytes(_vm: FakeVm, params: dict[str, Any]) -> Generator[Any, Any, Any]:
    """Ask the host, and send an attachment along."""
    answer = yield Call("back.act", params, b"some bytes")
    return answer.result["number"]


def double(_vm: FakeVm, params: dict[str, Any]) -> int:
    return int(params["number"]) * 2


def say(_vm: FakeVm, params: dict[str, Any]) -> Iterator[Any]:
    yield Print(params["text"])


def ask_aloud(vm: FakeVm, params: dict[str, Any]) -> Iterator[Any]:
    yield Print("before ")
    yield from ask(vm, params)
    yield Print("after")


def fail(_vm: FakeVm, _params: object) -> None:
    raise GuestFunctionError("no", type_name="ValueError")


def spin(_vm: FakeVm, _params: object) -> Iterator[None]:
    while True:
        yield None


def crash(_vm: FakeVm, _params: object) -> Iterator[Exit]:
    yield leave(ExitKind.FAULT)


def send(vm: FakeVm, text: bytes) -> Iterator[Any]:
    """Send a frame of one's own as a host call; then the one that was asked for."""
    wire.write_frame(vm.buffers.from_guest, text)
    yield leave(ExitKind.CALL)


def answer_wrongly(vm: FakeVm, _params: object) -> Iterator[Any]:
    """A response to a request with another id."""
    yield from send(vm, wire.result_text(999_999_999, b"1"))


def answer_twice(vm: FakeVm, params: dict[str, Any]) -> Generator[Any, Any, Any]:
    """A response that nobody waits for; what the host says to it."""
    yield from send(vm, wire.result_text(params["id"], b"1"))
    found = wire.parse_json(wire.read_frame(vm.buffers.to_guest).text)
    return found["error"]["code"]


def answer_emptily(vm: FakeVm, _params: object) -> Generator[Any, Any, Any]:
    """A frame without JSON."""
    yield from send(vm, b"")
    found = wire.parse_json(wire.read_frame(vm.buffers.to_guest).text)
    return found["error"]["code"]


def answer_vaguely(vm: FakeVm, _params: object) -> Iterator[Any]:
    """An object that is neither request nor response."""
    yield from send(vm, b"{}")


def park(_vm: FakeVm, _params: object) -> Iterator[Any]:
    yield leave(ExitKind.PARK)


GUEST = FunctionGuest(
    {
        function.__name__: function
        for function in (
            *(ask, send_bytes, double, say, ask_aloud, fail, spin, crash, park),
            *(answer_wrongly, answer_twice, answer_emptily, answer_vaguely),
        )
    }
)


@pytest.fixture
def back() -> Back:
    return Back()


@pytest.fixture
def ready(back: Back) -> Iterator[Ready]:
    with Ready.start(fake_spec(GUEST, plugins={"back": back})) as state:
        yield state


def number(state: State, function: str, value: int = 0, **limits: Any) -> Any:
    """The result of a guest function of a number."""
    given = Limits(**limits) if limits else None
    return state.call(function, {"number": value}, limits=given).result


# ---- what works ----------------------------------------------------------------------------------


def test_a_host_function_calls_the_guest_that_called_it(ready: Ready, back: Back) -> None:
    back.act = lambda value: number(ready, "double", value) + 1
    assert number(ready, "ask", 20) == 41
    assert number(ready, "ask", 4) == 9
    assert ready.status == "ready"


def test_host_and_guest_call_each_other_to_a_depth(ready: Ready, back: Back) -> None:
    back.act = lambda value: number(ready, "ask", value - 1) + 1 if value else 0
    assert number(ready, "ask", 8) == 8


def test_endless_recursion_ends_with_an_error_of_its_own(ready: Ready, back: Back) -> None:
    """The deepest host function gets it, and may go on: nothing is broken."""
    caught: list[CallDepthError] = []

    def act(value: int) -> int:
        try:
            return int(number(ready, "ask", value + 1))
        except CallDepthError as error:
            caught.append(error)
            return value

    back.act = act
    assert number(ready, "ask") == 8
    assert str(caught[0]) == "more than 8 guest calls within each other"
    assert number(ready, "ask", depth=2) == 2
    assert number(ready, "ask", depth=0) == 0
    assert ready.status == "ready"


def test_the_error_of_a_guest_function_is_the_host_functions_to_handle(
    ready: Ready, back: Back
) -> None:
    def act(value: int) -> int:
        with pytest.raises(GuestFunctionError, match="ValueError"):
            ready.call("fail")
        with pytest.raises(GuestFunctionError, match="no such function"):
            ready.call("no_such")
        with pytest.raises(ValueError, match="not JSON"):
            ready.call("double", {"number": object()})
        return value

    back.act = act
    assert number(ready, "ask", 5) == 5
    assert ready.status == "ready"


def test_each_call_has_what_was_printed_in_it(ready: Ready, back: Back) -> None:
    heard: list[bytes] = []

    def act(value: int) -> int:
        heard.append(ready.call("say", {"text": "inside "}).stdout)
        return value

    back.act = act
    assert ready.call("ask_aloud").stdout == b"before inside after"
    assert heard == [b"inside "]


def test_several_calls_within_one_host_call(ready: Ready, back: Back) -> None:
    def act(value: int) -> int:
        with ready.calls() as calls:
            return sum(calls.call("double", {"number": n}).result for n in range(value))

    back.act = act
    assert number(ready, "ask", 4) == 12


# ---- who may -------------------------------------------------------------------------------------


def test_within_a_host_call_nothing_but_a_call_is_possible(ready: Ready, back: Back) -> None:
    taken = ready.snapshot()

    def act(value: int) -> int:
        for move in (ready.snapshot, ready.clone, lambda: ready.restore(taken), ready.close):
            with pytest.raises(SandboxBusyError):
                move()
        return value

    back.act = act
    assert number(ready, "ask", 5) == 5


def test_while_the_guest_runs_it_cannot_be_called(back: Back) -> None:
    """From what is told its output, in the same thread."""
    refused: list[type[HyperlightError]] = []

    def heard(_stream: str, _text: bytes) -> None:
        for call in (state.call, state._machine.context.call):
            try:
                call("double", {"number": 1})
            except HyperlightError as error:
                refused.append(type(error))

    with Ready.start(fake_spec(GUEST, plugins={"back": back}, stream=heard)) as state:
        state.call("say", {"text": "x"})
    assert refused == [SandboxBusyError, SandboxBusyError]


class Once(State, functions=["back.*"], use=Use.ONCE):
    """Used up by one call."""


class Again(State, functions=["back.*"], use=Use.RESET):
    """Reset after each call."""


@pytest.mark.parametrize("kind", [Once, Again])
def test_a_call_within_is_part_of_the_states_use(kind: type[State], back: Back) -> None:
    with kind.start(fake_spec(GUEST, plugins={"back": back})) as state:
        back.act = lambda value: int(number(state, "double", value))
        assert number(state, "ask", 4) == 8


def test_a_state_that_was_left_does_not_call(ready: Ready, back: Back) -> None:
    other = ready.clone()
    other._machine = ready._machine
    back.act = lambda value: int(number(other, "double", value))
    assert "internal error" in number(ready, "ask", 4)
    with pytest.raises(SandboxConsumedError):
        number(other, "double", 4)


def test_a_guest_cannot_change_an_attachment_that_is_being_looked_at(
    ready: Ready, back: Back
) -> None:
    """A host function that has a view of guest memory does not let the guest run."""

    def act(value: int) -> int:
        with pytest.raises(SandboxBusyError, match="attachment"):
            number(ready, "double", value)
        return value

    back.act = act
    assert number(ready, "send_bytes", 3) == 3
    back.act = lambda value: number(ready, "double", value)
    assert number(ready, "ask", 3) == 6


# ---- other threads -------------------------------------------------------------------------------


def in_thread(work: Callable[[], Any]) -> Any:
    """What `work` gives in another thread, whose calls into the guest are made by this one."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised again below
            future.set_exception(error)
        handover.wake()

    with Handover() as handover:
        threading.Thread(target=copy_context().run, args=(run,)).start()
        while not future.done():
            select.select([handover], [], [], LONG)
            handover.perform()
    return future.result()


def test_a_thread_that_works_for_a_host_call_calls_back(ready: Ready, back: Back) -> None:
    back.act = lambda value: int(in_thread(lambda: number(ready, "double", value)))
    assert number(ready, "ask", 4) == 8


def test_threads_within_threads_call_back(ready: Ready, back: Back) -> None:
    def act(value: int) -> int:
        return int(in_thread(lambda: number(ready, "ask", value - 1) + 1)) if value else 0

    back.act = act
    assert number(ready, "ask", 5) == 5


def test_two_threads_of_one_host_call_take_turns(ready: Ready, back: Back) -> None:
    def both(value: int) -> int:
        found: list[int] = []
        threads = [
            threading.Thread(
                target=copy_context().run,
                args=(lambda: found.append(number(ready, "double", value)),),
            )
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(found)

    back.act = lambda value: int(in_thread(lambda: both(value)))
    assert number(ready, "ask", 4) == 32


def test_such_a_thread_can_do_nothing_else_and_does_not_wait_for_ever(
    ready: Ready, back: Back
) -> None:
    def act(value: int) -> int:
        with pytest.raises(SandboxBusyError):
            in_thread(ready.snapshot)
        return value

    back.act = act
    assert number(ready, "ask", 5) == 5


def test_a_coroutine_does_not_stop_its_loop_by_calling_back(ready: Ready, back: Back) -> None:
    async def wrong() -> Any:
        return number(ready, "double", 1)

    async def right() -> Any:
        return await asyncio.to_thread(number, ready, "double", 1)

    def act(value: int) -> int:
        with pytest.raises(SandboxBusyError, match=r"asyncio\.to_thread"):
            in_thread(lambda: asyncio.run(wrong()))
        return value + int(in_thread(lambda: asyncio.run(right())))

    back.act = act
    assert number(ready, "ask", 5) == 7


def test_a_thread_that_comes_too_late_is_told(ready: Ready, back: Back) -> None:
    kept: list[Handover] = []

    def act(value: int) -> int:
        with Handover() as handover:
            kept.append(handover)
        return value

    back.act = act
    number(ready, "ask")
    with pytest.raises(SandboxBusyError, match="over"):
        kept[0].do(lambda: None)


# ---- limits --------------------------------------------------------------------------------------


def swallowing(state: State, function: str, **params: Any) -> Callable[[int], int]:
    """A host function that calls the guest, and hides that this failed."""

    def act(value: int) -> int:
        with pytest.raises(HyperlightError):
            state.call(function, params)
        return value

    return act


@pytest.mark.parametrize(
    ("function", "limits", "error"),
    [
        ("spin", {"timeout": 0.05}, SandboxTimeoutError),
        ("spin", {"cpu_time": 0.05}, HyperlightError),
        ("say", {"output": 3}, OutputExceededError),
        ("ask", {"host_calls": 1}, HostCallsExceededError),
    ],
)
def test_the_outer_limits_bound_the_inner_call(
    ready: Ready, back: Back, function: str, limits: Any, error: type[HyperlightError]
) -> None:
    """Whatever the host function makes of it, the outer call fails, and the guest is poisoned."""
    back.act = swallowing(ready, function, text="too much")
    with pytest.raises(error):
        number(ready, "ask", **limits)
    assert ready.status == "poisoned"


def test_time_of_the_inner_call_counts_for_the_outer_one(ready: Ready, back: Back) -> None:
    """A budget that the outer call alone would not use up."""
    back.act = swallowing(ready, "spin")
    with pytest.raises(HyperlightError):
        ready.call("ask", limits=Limits(cpu_time=0.02))


# ---- hostile guests ------------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["crash", "park", "answer_wrongly", "answer_vaguely"])
def test_a_guest_that_fails_within_fails_the_outer_call(
    ready: Ready, back: Back, function: str
) -> None:
    back.act = swallowing(ready, function)
    with pytest.raises(HyperlightError) as caught:
        number(ready, "ask")
    assert ready.status == "poisoned"
    if function != "crash":
        assert isinstance(caught.value, ProtocolError)


def test_after_a_failure_within_the_guest_is_called_no_more(ready: Ready, back: Back) -> None:
    def act(value: int) -> int:
        for function in ("crash", "double"):
            with pytest.raises(HyperlightError, match="Python guest left that way"):
                number(ready, function)
        return value

    back.act = act
    with pytest.raises(HyperlightError):
        number(ready, "ask")


def test_a_response_to_a_request_that_was_never_sent_is_no_request(ready: Ready) -> None:
    assert ready.call("answer_twice", {"id": 1}).result == wire.INVALID_REQUEST


def test_a_response_to_the_outer_request_is_none_to_the_inner_one(ready: Ready, back: Back) -> None:
    """Its id was right a moment ago."""
    back.act = lambda value: int(ready.call("answer_twice", {"id": 1}).result)
    with pytest.raises(ProtocolError):
        number(ready, "ask")


def test_nonsense_within_is_answered_as_anywhere(ready: Ready, back: Back) -> None:
    back.act = lambda value: int(ready.call("answer_emptily").result)
    assert number(ready, "ask") == wire.PARSE_ERROR
