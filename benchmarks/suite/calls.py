"""Guest calls: the bare exit, an empty call, a reset, a tool called from Python in the guest."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from floors import floors, idle_guest
from measure import Result, median, percentile, samples

from hyperlight_core import Sandbox


def measure() -> Iterator[Result]:
    """The cost of entering and leaving a guest."""
    exit_us = floors()["exit_ns"] / 1000
    yield Result("bare exit in C", exit_us, "us")
    for work, name in {"calls": "functions called", "reads": "pages read"}.items():
        hot, cold = (floors()[f"{work}_{when}"] / 1000 for when in ("ns", "after_exit_ns"))
        yield Result(f"512 {name} in C after an exit", cold, "us", hot, "the same in a loop")
    with Sandbox(idle_guest(), memory="16MiB", timeout=None) as sandbox:
        call = median(samples(lambda: sandbox.call("nothing"), 5000)) * 1e6
        yield Result("empty guest call", call, "us", exit_us, "bare exit", 1.3)
        again = median(samples(lambda: _reset_and_call(sandbox), 5000)) * 1e6
        yield Result("reset and empty call", again, "us", call, "empty guest call")
    with Sandbox(timeout=None) as sandbox:
        yield from _python(sandbox)
    with Sandbox(plugins={"tools": {"functions": {"answer": _answer}}}, timeout=None) as sandbox:
        yield _tool_call(sandbox, exit_us)


def _reset_and_call(sandbox: Sandbox) -> None:
    sandbox.reset()
    sandbox.call("nothing")


def _answer(number: int) -> int:
    return number + 1


#: What a run after a reset may do besides printing, and what it then prints.
RUNS = {
    "json and re": (
        "import json, re\nprint(len(re.findall(r'\\d+', json.dumps(list(range(100))))))",
        "100\n",
    ),
    "a result of 1 MiB": ("print('x' * (2**20 - 1))", "x" * (2**20 - 1) + "\n"),
}


def _reset_and_run(sandbox: Sandbox, code: str, expected: str) -> None:
    sandbox.reset()
    if sandbox.run(code).stdout != expected:
        raise RuntimeError("the guest printed something else")


def _python(sandbox: Sandbox) -> Iterator[Result]:
    taken = samples(lambda: _reset_and_run(sandbox, "print('hello', 1 + 1)", "hello 2\n"), 1000)
    middle = median(taken) * 1e6
    yield Result(
        "reset and print in CPython",
        middle,
        "us",
        2100,
        "best published peer",
        75,
        target_is_value=True,
    )
    p99 = percentile(taken, 0.99) * 1e6
    yield Result("reset and print, p99", p99, "us", middle, "its median", 3)
    for name, (code, expected) in RUNS.items():
        taken = samples(partial(_reset_and_run, sandbox, code, expected), 500)
        yield Result(f"reset and {name}", median(taken) * 1e6, "us", middle, "reset and print")
    again = median(samples(lambda: sandbox.run("pass"), 1000)) * 1e6
    yield Result("run without reset", again, "us", 90, "best published peer")


def _tool_call(sandbox: Sandbox, exit_us: float) -> Result:
    code = """
import hyperlight, time
answer = hyperlight.tools.answer
taken = []
for number in range(2000):
    began = time.perf_counter()
    assert answer(number=number) == number + 1
    taken.append(time.perf_counter() - began)
print(sorted(taken)[1000] * 1e6)
"""
    return Result(
        "tool call from the guest", float(sandbox.run(code).stdout), "us", exit_us, "bare exit", 3
    )
