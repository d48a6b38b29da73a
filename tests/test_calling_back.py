"""Tools that call functions of the Python code that has called them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from hyperlight_core import AsyncSandbox, Sandbox
from hyperlight_core.errors import (
    CallDepthError,
    GuestExitedError,
    GuestFunctionError,
    ProtocolError,
)
from hyperlight_core.functions import HostFunction
from hyperlight_core.wire import ABI_VERSION

pytestmark = pytest.mark.kvm

SETUP = """
import hyperlight, os, threading

def twice(number):
    return 2 * number

def ask(number):
    print('asks', number)
    return hyperlight.tools.back(number=number)

def fail():
    raise KeyError('a')

def large():
    return 'x' * 3_000_000

def elsewhere(number):
    found = []
    thread = threading.Thread(target=lambda: found.append(ask(number)))
    thread.start()
    thread.join()
    return found[0]
"""

Make = Callable[..., Sandbox]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes sandboxes whose guest has some functions and a tool called back."""
    made: list[Sandbox] = []

    def make(back: Callable[..., Any], **limits: Any) -> Sandbox:
        tools = {"functions": {"back": back}, "default_limits": limits}
        made.append(Sandbox(plugins={"tools": tools}))
        assert made[-1].run(SETUP).exit_code == 0
        return made[-1]

    yield make
    for sandbox in made:
        sandbox.close()


@pytest.mark.parametrize("limits", [{}, {"timeout": 60.0}], ids=["direct", "timeout"])
def test_a_tool_calls_functions_and_runs_code(make: Make, limits: dict[str, Any]) -> None:
    def back(number: int) -> list[Any]:
        done = sandbox.run(f"seen = {number}; print('within')")
        # What the guest had not sent before comes along.
        assert (done.stdout, done.exit_code) == (f"asks {number}\nwithin\n", 0)
        return [sandbox.call("twice", number), sandbox.run("1/0").exit_code]

    sandbox = make(back, **limits)
    assert sandbox.call("ask", 4) == [8, 1]
    assert sandbox.run("print(ask(5), seen)").stdout == "asks 5\nwithin\n[10, 1] 5\n"


def test_what_the_guests_function_raises_is_the_tools_to_handle(make: Make) -> None:
    def back(number: int) -> str:
        for function in ("fail", "no_such", "large"):
            with pytest.raises(GuestFunctionError) as caught:
                sandbox.call(function)
            kinds.append(caught.value.type_name)
        return "handled"

    kinds: list[str] = []
    sandbox = make(back)
    assert sandbox.call("ask", 1) == "handled"
    assert kinds == ["KeyError", "NameError", "OverflowError"]


def test_mutual_recursion_ends_at_the_depth(make: Make) -> None:
    deepest: list[int] = []

    def back(number: int) -> int:
        try:
            return int(sandbox.call("ask", number + 1))
        except CallDepthError:
            deepest.append(number)
            return number

    sandbox = make(back)
    assert sandbox.call("ask", 0) == 8
    assert deepest == [8]


def test_an_async_sandbox_and_an_async_tool() -> None:
    async def back(number: int) -> int:
        found: int = await sandboxes[0].call("twice", number)
        return found

    async def program() -> None:
        made = await AsyncSandbox.create(plugins={"tools": {"functions": {"back": back}}})
        sandboxes.append(made)
        async with made:
            await made.run(SETUP)
            assert await made.call("ask", 21) == 42

    sandboxes: list[AsyncSandbox] = []
    asyncio.run(program())


def test_a_thread_of_the_guest_serves_what_it_has_caused(make: Make) -> None:
    def back(number: int) -> int:
        return int(sandbox.call("twice", number))

    sandbox = make(back)
    assert sandbox.call("elsewhere", 3) == 6


def test_threads_of_the_guest_that_call_at_once_confuse_nobody(make: Make) -> None:
    """A second thread that would have to serve while the first does is told to wait its turn."""
    code = """
def work():
    try:
        answers.append(hyperlight.tools.back(number=1))
    except hyperlight.HostError as error:
        answers.append(error.message)

def linger(number):
    # Host calls of the other threads come in between.
    for _ in range(20):
        os.sched_yield()
        threading.Event().wait(0.0001)
    return number

answers = []
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""

    def back(number: int) -> int:
        return int(sandbox.call("linger", number))

    sandbox = make(back)
    assert sandbox.run(code).exit_code == 0
    answers = sandbox.run("print(answers)").stdout
    assert "1" in answers
    assert sandbox.call("ask", 1) == 1


def test_the_guest_ends_within_a_tool(make: Make) -> None:
    def back(number: int) -> str:
        assert sandbox.run("os._exit(3)").exit_code == 3
        return "it does not matter"

    sandbox = make(back)
    with pytest.raises(GuestExitedError):
        sandbox.call("ask", 1)
    sandbox.reset()
    assert sandbox.run("print(1)").stdout == "1\n"


#: Sends a response in place of a request, by the device itself.
FORGED = """
import os, struct
def forge(identifier):
    device = os.open('/dev/hl-call', os.O_RDWR)
    text = b'{"jsonrpc":"2.0","id":%d,"result":{"value":1}}' % identifier
    os.write(device, struct.pack('<4I', ABI, len(text), 0, 0) + text)
    return os.read(device, 4096)[16:].decode()
"""
FORGED = FORGED.replace("ABI", str(ABI_VERSION))


def test_a_response_that_nobody_asked_for_is_an_invalid_request(make: Make) -> None:
    sandbox = make(lambda number: number)
    sandbox.run(FORGED)
    assert '"code":-32600' in sandbox.call("forge", 1)
    assert sandbox.status == "ready"


def test_a_response_with_another_id_poisons(make: Make) -> None:
    def back(number: int) -> str:
        return str(sandbox.call("forge", number))

    sandbox = make(back)
    sandbox.run(FORGED)
    with pytest.raises(ProtocolError, match="answers 1, not"):
        sandbox.call("ask", 1)
    assert sandbox.status == "poisoned"


def test_the_library_os_itself_serves_no_requests(tmp_path: Path) -> None:
    """Its own host calls, here for a file, cannot run what the host asks for meanwhile."""
    refused: list[str] = []

    def check(function: HostFunction, _request: BaseModel) -> None:
        if function.name == "fs.open":
            with pytest.raises(GuestFunctionError) as caught:
                sandbox.run("print('never')")
            refused.append(str(caught.value))

    (tmp_path / "file").write_text("found")
    mounts = {"mounts": [{"host": str(tmp_path), "guest": "/data", "mode": "ro"}]}
    with Sandbox(plugins={"fs": mounts}, on_host_call=check) as sandbox:
        assert sandbox.run("print(open('/data/file').read())").stdout == "found\n"
    assert refused == ["the library OS itself serves no requests"]
