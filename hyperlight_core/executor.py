"""SandboxExecutor: concurrent.futures over a pool of sandboxes, one fresh sandbox for each call."""

from __future__ import annotations

import base64
import contextlib
import inspect
import os
import re
import sys
import textwrap
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, overload

from typing_extensions import ParamSpec

from hyperlight_core.errors import ConfigurationError, ProtocolError
from hyperlight_core.pool import SandboxPool
from hyperlight_core.sandbox import Sandbox

__all__ = ["SandboxExecutor", "SandboxFuture"]

_P = ParamSpec("_P")
_T = TypeVar("_T")
_IN_GUEST = Path(__file__).with_name("executor_in_guest.py")
_NAME = re.compile(r"[\w.]+:[\w.]+")


class SandboxFuture(Future[_T]):
    """The result to come of a call in a sandbox.

    Unlike other executors' futures, it can be cancelled while the call runs: the sandbox is killed,
    and `result` raises CancelledError. Until it is done it may be cancelled, so it tells
    `set_running_or_notify_cancel` only once the guest has answered.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._sandbox: Sandbox | None = None

    def running(self) -> bool:
        """Whether the call is in a sandbox now."""
        return self._sandbox is not None and not self.done()

    def cancel(self) -> bool:
        """Cancel the call, killing its sandbox if it runs; False if it has ended already."""
        cancelled = super().cancel()
        with self._lock:
            if cancelled and self._sandbox is not None:
                self._sandbox.kill()
        return cancelled

    def _enter(self, sandbox: Sandbox | None) -> None:
        # Left under the lock, so that no kill comes when the sandbox is someone else's.
        with self._lock:
            self._sandbox = sandbox


class SandboxExecutor(Executor):
    """Calls functions in sandboxes, each in one that is as the origin was.

    A function is named, as in "math:factorial", and then imported in the guest; or it is source
    text, of which the last function is called; or a function of this program, whose source is sent,
    or its name if it is of the standard library. A source sees what the origin's runs have defined
    and nothing else of this program.

    Arguments are pickled towards the guest, by cloudpickle where it must; what it does with them is
    confined to the sandbox. Nothing is unpickled here: a result is what JSON can express, or bytes.

    Args:
        origin: a sandbox of the `python` guest; the executor closes it.
        max_workers: how many calls run at the same time; None for as many as there are cores.

    Raises:
        ConfigurationError: cloudpickle is not installed, or the origin runs no Python.
        StateError: the origin is poisoned or closed.
    """

    def __init__(self, origin: Sandbox, max_workers: int | None = None) -> None:
        self._pickle = _pickler()
        ran = origin.run(_IN_GUEST)
        if ran.exit_code:
            raise ConfigurationError(f"the origin cannot run the executor's part: {ran.stderr}")
        workers = max_workers or _cores()
        self._pool = SandboxPool(origin, size=workers)
        self._threads = ThreadPoolExecutor(workers, "hyperlight-executor")

    @overload
    def submit(
        self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> SandboxFuture[_T]: ...
    @overload
    def submit(self, fn: str, /, *args: Any, **kwargs: Any) -> SandboxFuture[Any]: ...
    def submit(self, fn: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Any:
        """Have `fn(*args, **kwargs)` called in a sandbox.

        Its future raises GuestFunctionError if the function raises, else as `Sandbox.call` does.

        Raises:
            TypeError: the function cannot be sent.
            PicklingError: an argument cannot be pickled; or as pickle does.
            RuntimeError: the executor was shut down.
        """
        name, source = _sent(fn)
        arguments = base64.b64encode(self._pickle((args, kwargs))).decode()
        future: SandboxFuture[Any] = SandboxFuture()
        call = partial(_apply, name=name, source=source, arguments=arguments)
        started = self._threads.submit(self._perform, future, call)
        started.add_done_callback(partial(_cancel_with, future))
        return future

    def map(
        self,
        fn: Callable[..., _T] | str,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        **options: Any,
    ) -> Iterator[_T]:
        """As Executor.map, with `fn` as for `submit`. Closing the iterator cancels what is left."""
        options.update(timeout=timeout, chunksize=chunksize)
        return super().map(fn, *iterables, **options)  # type: ignore[arg-type]

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT002 - as Executor has it
        """Take no more calls; let those finish that run, and close the sandboxes.

        Args:
            wait: whether to wait for that.
            cancel_futures: whether to cancel the calls that have not begun.
        """
        self._threads.shutdown(wait=wait, cancel_futures=cancel_futures)
        if wait:
            self._pool.close()
        else:
            threading.Thread(target=self.shutdown, name="hyperlight-shutdown").start()

    def _perform(self, future: SandboxFuture[Any], call: Callable[[Sandbox], Any]) -> None:
        """Runs in a thread of the executor's own."""
        outcome: Callable[[], None]
        try:
            outcome = partial(future.set_result, self._in_sandbox(future, call))
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever asks for the result
            outcome = partial(future.set_exception, error)
        if future.set_running_or_notify_cancel():
            outcome()

    def _in_sandbox(self, future: SandboxFuture[Any], call: Callable[[Sandbox], Any]) -> Any:
        if future.cancelled():
            return None
        with self._pool.sandbox() as sandbox:
            future._enter(sandbox)  # noqa: SLF001 - of this module
            try:
                return None if future.cancelled() else call(sandbox)
            finally:
                future._enter(None)  # noqa: SLF001


def _cancel_with(future: SandboxFuture[Any], started: Future[None]) -> None:
    """What `shutdown` cancels before it has begun is cancelled for those who wait for it."""
    if started.cancelled() and future.cancel():
        future.set_running_or_notify_cancel()


def _apply(sandbox: Sandbox, *, name: str, source: str, arguments: str) -> Any:
    """The function's value, of which the guest may say anything that is JSON."""
    answer = sandbox.call("_hyperlight_apply", name, source, arguments)
    with contextlib.suppress(ValueError):
        match answer:
            case {"value": value}:
                return value
            case {"bytes": str(text)}:
                return base64.b64decode(text, validate=True)
    raise ProtocolError("the guest's answer is neither a value nor bytes")


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _pickler() -> Callable[[object], bytes]:
    try:
        import cloudpickle  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra
    except ImportError:
        advice = "pip install 'hyperlight-core[executor]'"
        raise ConfigurationError(f"SandboxExecutor needs cloudpickle: {advice}") from None
    return cloudpickle.dumps  # type: ignore[no-any-return]


def _sent(function: Callable[..., Any] | str) -> tuple[str, str]:
    """The name and the source with which the guest finds the function."""
    if isinstance(function, str):
        return (function, "") if _NAME.fullmatch(function) else ("", function)
    module = getattr(function, "__module__", None) or ""
    name = getattr(function, "__qualname__", "")
    if module.partition(".")[0] in sys.stdlib_module_names:
        return f"{module}:{name}", ""
    if not inspect.isfunction(function) or function.__closure__ or not name.isidentifier():
        raise TypeError(
            f"{function!r} cannot be sent to a sandbox: give a function defined at the top of a"
            " module, its source, or the name of one that the guest can import, as 'module:name'"
        )
    return name, textwrap.dedent(inspect.getsource(function))
