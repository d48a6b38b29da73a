"""SandboxExecutor does what concurrent.futures promises, with every call in a sandbox."""

from __future__ import annotations

import concurrent.futures
import math
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import pytest

from hyperlight_core import (
    ConfigurationError,
    GuestFunctionError,
    ProtocolError,
    Sandbox,
    SandboxExecutor,
)

pytestmark = pytest.mark.kvm

SPIN = "def spin():\n    while True: pass"


def power(base: int, exponent: int = 2) -> int:
    """A function whose source is sent."""
    return base**exponent  # type: ignore[no-any-return]


@dataclass
class Order:
    """What the guest cannot import, and so comes to it by value."""

    price: int
    count: int

    def total(self) -> int:
        return self.price * self.count


@pytest.fixture(scope="module")
def origin() -> Iterator[Sandbox]:
    options = {"packages": ["cloudpickle"]}
    with Sandbox(guest_options=options, memory="128MiB", timeout=60.0) as sandbox:
        yield sandbox


@pytest.fixture(scope="module", autouse=True)
def _own_classes() -> Iterator[None]:
    """Tells cloudpickle that this module is not in the guest."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def shared(origin: Sandbox) -> Iterator[SandboxExecutor]:
    with SandboxExecutor(origin.clone(), 2) as executor:
        yield executor


@pytest.fixture
def single(origin: Sandbox) -> Iterator[SandboxExecutor]:
    """One worker, so that a second call waits for the first."""
    with SandboxExecutor(origin.clone(), 1) as executor:
        yield executor


def running(executor: SandboxExecutor) -> Future[Any]:
    """A call that runs until it is stopped."""
    future = executor.submit(SPIN)
    while not future.running():
        assert not future.done()
    return future


# ---- functions and arguments ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "arguments", "result"),
    [
        (power, (3,), 9),
        (math.gcd, (12, 18), 6),
        (len, ([1, 2],), 2),
        ("math:factorial", (5,), 120),
        ("collections:OrderedDict.fromkeys", ("ab", 1), {"a": 1, "b": 1}),
        ("def inner(x): return x + 1\ndef outer(x): return inner(x) * 2", (1,), 4),
        ("def f(data): return data[::-1]", (b"\x00\xff",), b"\xff\x00"),
        ("def f(order): return order.total()", (Order(3, 4),), 12),
        ("def f(g): return g(2)", (lambda x: x + 40,), 42),
        ("def f(): return None", (), None),
    ],
)
def test_a_function_is_applied_to_arguments_in_the_guest(
    shared: SandboxExecutor,
    function: str | Callable[..., Any],
    arguments: tuple[Any, ...],
    result: object,
) -> None:
    assert shared.submit(function, *arguments).result() == result


def test_keywords_travel_too(shared: SandboxExecutor) -> None:
    assert shared.submit(power, 2, exponent=10).result() == 1024


def test_a_source_sees_what_the_origin_has_prepared(origin: Sandbox) -> None:
    prepared = origin.clone()
    prepared.run("import math\ntable = [math.sqrt(n) for n in range(100)]")
    with SandboxExecutor(prepared, 1) as executor:
        assert executor.submit("def root(n): return table[n]", 81).result() == 9.0


def test_each_call_finds_a_fresh_sandbox(shared: SandboxExecutor) -> None:
    """What one leaves in a module, in main or in a file, no later one sees."""
    source = """
def trace():
    import math, os, __main__
    seen = hasattr(math, 'left'), hasattr(__main__, 'left'), os.path.exists('/tmp/left')
    math.left = __main__.left = True
    open('/tmp/left', 'w').close()
    return list(seen)
"""
    assert [shared.submit(source).result() for _ in range(6)] == [[False] * 3] * 6


@pytest.mark.parametrize("function", [lambda: 1, Order(1, 1).total, 3])
def test_what_has_no_source_of_its_own_is_refused(shared: SandboxExecutor, function: Any) -> None:
    with pytest.raises(TypeError, match="cannot be sent"):
        shared.submit(function)


def test_a_closure_is_refused(shared: SandboxExecutor) -> None:
    here = 1

    def local() -> int:
        return here

    with pytest.raises(TypeError, match="cannot be sent"):
        shared.submit(local)


def test_arguments_that_cannot_be_pickled_are_refused_at_once(shared: SandboxExecutor) -> None:
    with pytest.raises(TypeError, match="pickle"):
        shared.submit(print, threading.Lock())


# ---- results -------------------------------------------------------------------------------------


def test_an_exception_arrives_with_the_traceback_of_the_guest(shared: SandboxExecutor) -> None:
    error = shared.submit("def f(x):\n    return 1 / x", 0).exception()
    assert isinstance(error, GuestFunctionError)
    assert error.type_name == "ZeroDivisionError"
    assert 'File "<submitted>", line 2, in f\n    return 1 / x' in error.traceback


@pytest.mark.parametrize("function", ["no_such_module:f", "math:no_such_name", "x = 1", "def f(:"])
def test_a_function_that_is_not_there_is_an_error(shared: SandboxExecutor, function: str) -> None:
    assert isinstance(shared.submit(function).exception(), GuestFunctionError)


@pytest.mark.parametrize("value", ["object()", "{1, 2}", "float('nan')", "[b'bytes within']"])
def test_a_result_that_is_neither_json_nor_bytes_is_an_error(
    shared: SandboxExecutor, value: str
) -> None:
    assert isinstance(shared.submit(f"def f(): return {value}").exception(), GuestFunctionError)


@pytest.mark.parametrize("answer", ["1", "None", "'!!'", "'\u00fc'", "['x']"])
def test_a_lie_about_bytes_is_told_apart(shared: SandboxExecutor, answer: str) -> None:
    source = f"""
def lie():
    import base64
    class Text:
        def decode(self): return {answer}
    base64.b64encode = lambda data: Text()
    return b''
"""
    assert isinstance(shared.submit(source).exception(), ProtocolError)


def test_nothing_that_a_guest_pickled_is_unpickled(shared: SandboxExecutor) -> None:
    """It arrives as the bytes that it is."""
    source = "def f():\n import pickle, os\n return pickle.dumps(os.getcwd)"
    assert shared.submit(source).result().startswith(b"\x80")


# ---- as concurrent.futures has it ----------------------------------------------------------------


def test_map_keeps_the_order_and_takes_several_iterables(shared: SandboxExecutor) -> None:
    assert list(shared.map(power, range(5), [3] * 5)) == [n**3 for n in range(5)]


def test_map_ends_at_its_timeout_and_stops_what_runs(single: SandboxExecutor) -> None:
    with pytest.raises(concurrent.futures.TimeoutError):
        list(single.map("def spin(n):\n    while True: pass", range(2), timeout=0.1))
    assert single.submit(power, 3).result() == 9


def test_calls_run_at_the_same_time(shared: SandboxExecutor) -> None:
    both = [running(shared), running(shared)]
    assert all(future.running() for future in both)
    assert all(future.cancel() for future in both)


def test_wait_and_as_completed_see_the_futures(shared: SandboxExecutor) -> None:
    futures = [shared.submit(power, n) for n in range(4)]
    assert concurrent.futures.wait(futures, 60).not_done == set()
    assert sorted(done.result() for done in concurrent.futures.as_completed(futures)) == [
        0,
        1,
        4,
        9,
    ]
    gone = running(shared)
    gone.cancel()
    assert concurrent.futures.wait([gone], 60).done == {gone}


def test_cancelling_a_call_that_runs_stops_it(single: SandboxExecutor) -> None:
    future = running(single)
    told: list[Future[Any]] = []
    future.add_done_callback(told.append)
    assert future.cancel()
    assert (future.cancelled(), future.done(), future.running()) == (True, True, False)
    with pytest.raises(CancelledError):
        future.result()
    assert single.submit(power, 3).result() == 9
    assert told == [future]


def test_cancelling_a_call_that_waits_keeps_it_from_starting(single: SandboxExecutor) -> None:
    first = running(single)
    second = single.submit(power, 3)
    assert second.cancel()
    first.cancel()
    assert single.submit(power, 3).result() == 9
    assert second.cancelled()


def test_a_call_that_is_done_cannot_be_cancelled(shared: SandboxExecutor) -> None:
    future = shared.submit(power, 3)
    future.result()
    assert not future.cancel()
    assert not future.cancelled()


def test_a_storm_of_cancellations_stops_no_one_else(shared: SandboxExecutor) -> None:
    """Each call either is cancelled or has its own result."""
    for _ in range(30):
        futures = [shared.submit(power, n) for n in range(4)]
        gone = [future for future in futures[::2] if future.cancel()]
        for number, future in enumerate(futures):
            if future not in gone:
                assert future.result() == number**2


def test_shutdown_lets_all_calls_finish_and_takes_no_more(origin: Sandbox) -> None:
    executor = SandboxExecutor(origin.clone(), 1)
    futures = [executor.submit(power, n) for n in range(5)]
    executor.shutdown()
    assert [future.result(0) for future in futures] == [0, 1, 4, 9, 16]
    with pytest.raises(RuntimeError, match="shutdown"):
        executor.submit(power, 1)
    executor.shutdown()


def test_shutdown_can_cancel_what_has_not_begun(origin: Sandbox) -> None:
    executor = SandboxExecutor(origin.clone(), 1)
    first = running(executor)
    later = [executor.submit(power, n) for n in range(5)]
    executor.shutdown(wait=False, cancel_futures=True)
    assert concurrent.futures.wait(later, 60).not_done == set()
    assert all(future.cancelled() for future in later)
    assert first.running()
    first.cancel()
    executor.shutdown()


def test_shutdown_without_waiting_still_finishes_and_closes(origin: Sandbox) -> None:
    own = origin.clone()
    executor = SandboxExecutor(own, 1)
    futures = [executor.submit(power, n) for n in range(3)]
    executor.shutdown(wait=False)
    assert [future.result(60) for future in futures] == [0, 1, 4]
    executor.shutdown()
    assert own.status == "closed"


# ---- who is to blame -----------------------------------------------------------------------------


def test_a_limit_of_the_guest_is_the_futures_exception() -> None:
    with Sandbox(memory="128MiB", timeout=2.0) as own, SandboxExecutor(own, 1) as executor:
        assert isinstance(executor.submit(SPIN).exception(), TimeoutError)
        assert executor.submit(power, 3).result() == 9


def test_what_only_cloudpickle_can_unpickle_needs_it_in_the_guest() -> None:
    with Sandbox(memory="128MiB") as own, SandboxExecutor(own, 1) as executor:
        assert executor.submit(sum, [1, 2]).result() == 3
        error = executor.submit("def f(g): return g()", lambda: 1).exception()
    assert isinstance(error, GuestFunctionError)
    assert "No module named 'cloudpickle'" in str(error)


def test_without_cloudpickle_it_says_how_to_get_it(
    origin: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'hyperlight-core\[executor\]'"):
        SandboxExecutor(origin)
