"""Guest calls: asks the guest for something, and answers its host calls until it has replied."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from hyperlight_core import wire
from hyperlight_core.console import STDERR, STDOUT, Console, StreamCallback
from hyperlight_core.errors import (
    CallDepthError,
    ConfigurationError,
    CpuTimeExceededError,
    GuestCrashedError,
    GuestExitedError,
    GuestFunctionError,
    HostCallsExceededError,
    HyperlightError,
    MemoryExceededError,
    ProtocolError,
    SandboxBusyError,
    SandboxKilledError,
    SandboxTimeoutError,
)
from hyperlight_core.table import CallCheck, CallObserver, HostFunctionTable
from hyperlight_core.vm import NEVER_NS, Exit, ExitKind, VirtualMachine

__all__ = ["GuestCalls", "Limits", "Reply"]

_runs = itertools.count(1)


@dataclass(frozen=True)
class Limits:
    """What one guest call may use; None means no limit.

    Attributes:
        timeout: wall-clock seconds.
        cpu_time: seconds of CPU time in the guest.
        output: bytes of console output, stdout and stderr together.
        host_calls: calls of host functions.
        depth: guest calls within host calls within each other.

    Raises:
        ConfigurationError: one is negative or not a number.
    """

    timeout: float | None = None
    cpu_time: float | None = None
    output: int | None = None
    host_calls: int | None = None
    depth: int = 8

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not value >= 0:
                raise ConfigurationError(f"{name}={value} is no limit")


class Reply(NamedTuple):
    """What a guest function returned.

    Attributes:
        result: the JSON value.
        attachment: binary data that came with it.
        stdout: what was printed meanwhile.
        stderr: the same.
    """

    result: Any
    attachment: bytes
    stdout: bytes
    stderr: bytes


class _Run:
    """One guest call in progress; the RunContext of the host calls made in it.

    Attributes:
        depth: how many guest calls within host calls are in progress.
        answering: whether the guest waits for a host function.
        failure: why the guest cannot go on, after a call within a host call.
    """

    __slots__ = (
        "_vm",
        "answering",
        "cancelled",
        "console",
        "cpu_ns",
        "deadline",
        "deadline_ns",
        "depth",
        "failure",
        "host_calls",
        "limits",
        "run",
    )

    def __init__(self, vm: VirtualMachine, limits: Limits, callback: StreamCallback | None) -> None:
        self._vm = vm
        self.limits = limits
        self.run = next(_runs)
        timeout, cpu_time = limits.timeout, limits.cpu_time
        self.deadline: float | None = None
        self.deadline_ns = self.cpu_ns = NEVER_NS
        if timeout is not None:
            self.deadline = time.monotonic() + timeout
            self.deadline_ns = _nanoseconds(self.deadline)
        if cpu_time is not None:
            self.cpu_ns = _nanoseconds(cpu_time)
        self.host_calls = 0
        self.console = Console(limits.output, callback)
        self.cancelled = self.answering = False
        self.depth = 0
        self.failure: BaseException | None = None

    @property
    def wake_fd(self) -> int:
        return self._vm.wake_fd


def _nanoseconds(seconds: float) -> int:
    return NEVER_NS if seconds >= NEVER_NS / 1e9 else int(seconds * 1e9)


class GuestCalls:
    """Calls functions of the guest in a VM; what the guest may call meanwhile is `table`.

    Used by one thread at a time. After an exception `unfinished` tells whether the guest is in the
    middle of something; then restore the VM to a snapshot before the next call.

    Args:
        vm: the micro-VM.
        table: the host functions within the guest's reach; may be replaced between calls.
        check: see `HostFunctionTable.dispatch`.
        observe: the same.
        stream: told the guest's output as it arrives.

    Attributes:
        unfinished: whether the guest was stopped before it had answered.
    """

    def __init__(
        self,
        vm: VirtualMachine,
        table: HostFunctionTable,
        *,
        check: CallCheck | None = None,
        observe: CallObserver | None = None,
        stream: StreamCallback | None = None,
    ) -> None:
        self.vm = vm
        self._watch = check, observe
        self._stream = stream
        self._run: _Run | None = None
        self.unfinished = False
        self.table = table

    @property
    def table(self) -> HostFunctionTable:
        """The host functions within the guest's reach."""
        return self._table

    @table.setter
    def table(self, table: HostFunctionTable) -> None:
        self._table = table
        self.vm.set_table_version(table.version)

    def cancel(self) -> None:
        """Let host functions in progress know that the sandbox is killed. Any thread."""
        run = self._run
        if run is not None:
            run.cancelled = True

    @property
    def running(self) -> bool:
        """Whether a call is in progress."""
        return self._run is not None

    @property
    def answering(self) -> bool:
        """Whether the guest waits for a host function; then it can be called within."""
        return self._run is not None and self._run.answering

    def boot(self, request: Mapping[str, Any] | None, limits: Limits = Limits()) -> Console:
        """Run a freshly loaded guest until it first waits for a request.

        Args:
            request: params of the library OS's `exec` request, or None for a native guest.
            limits: what it may use.

        Returns:
            What it printed.

        Raises:
            GuestExitedError: it ended instead; the message has what it printed on stderr.
            HyperlightError: as for `call`.
        """
        if request is not None:
            self._send("exec", request, b"", 0)
        self._run = run = _Run(self.vm, limits, self._stream)
        try:
            self._until_park(run)
        except HyperlightError as error:
            run.console.add_to(error)
            raise
        finally:
            self._run = None
        self.unfinished = False
        return run.console

    def call(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        attachment: bytes | memoryview = b"",
        limits: Limits = Limits(),
    ) -> Reply:
        """Call a guest function and return its reply.

        From within a host function the guest serves the call before it gets that function's answer;
        the limits are those of the outer call, whatever `limits` says.

        Raises:
            CallDepthError: too many calls are within each other; the outer ones go on.
            SandboxBusyError: the guest runs and does not wait for a host function, or for one that
                it has sent an attachment.
            GuestFunctionError: it answered with an error.
            ValueError: the parameters are not JSON or larger than the buffer to the guest.
            LimitExceededError: a limit was reached; the subclass says which.
            SandboxKilledError: the VM was killed.
            GuestError: the guest crashed, ended or sent nonsense; the subclass says which.
            HypervisorError: KVM failed.
        """
        params = {} if params is None else params
        if self._run is not None:
            return self._call_within(self._run, method, params, attachment)
        run = _Run(self.vm, limits, self._stream)
        self._send(method, params, attachment, run.run)
        self._run = run
        try:
            self._until_park(run)
            return self._reply(run, run.run)
        except HyperlightError as error:
            run.console.add_to(error)
            raise
        finally:
            self._run = None

    def _call_within(
        self, run: _Run, method: str, params: Mapping[str, Any], attachment: bytes | memoryview
    ) -> Reply:
        """Call while the guest waits for a host function."""
        if not run.answering:
            raise SandboxBusyError("the guest runs, and cannot be called meanwhile")
        if run.failure is not None:
            raise run.failure
        if run.depth >= run.limits.depth:
            raise CallDepthError(f"more than {run.limits.depth} guest calls within each other")
        if wire.read_frame(self.vm.buffers.from_guest).attachment:
            # The host function may have checked a view of it, which the guest could change now.
            raise SandboxBusyError("a host function that was sent an attachment cannot call back")
        request_id, printed = next(_runs), run.console.length
        self._send(method, params, attachment, request_id)
        run.depth, run.answering = run.depth + 1, False
        try:
            self._until_park(run)
            return self._reply(run, request_id, printed)
        except GuestFunctionError:
            raise
        except BaseException as error:
            run.failure = error
            raise
        finally:
            run.depth, run.answering = run.depth - 1, True

    def _reply(self, run: _Run, request_id: int, printed: int = 0) -> Reply:
        text, attachment = wire.read_frame(self.vm.buffers.from_guest)
        if not text:
            raise ProtocolError("the guest waits for another request and has not answered this one")
        result, error = wire.parse_response(text, request_id)
        self.unfinished = run.depth > 0
        if error is not None:
            raise _guest_function_error(error)
        stdout, stderr = (run.console.text(stream, printed) for stream in (STDOUT, STDERR))
        return Reply(result, bytes(attachment), stdout, stderr)

    def _send(
        self,
        method: str,
        params: Mapping[str, Any],
        attachment: bytes | memoryview,
        request_id: int,
    ) -> None:
        text, buffer = wire.request_text(method, params, request_id), self.vm.buffers.to_guest
        try:
            self.vm.wrote(wire.write_frame(buffer, text, attachment))
        except ProtocolError as error:
            raise ValueError(f"the request is too large: {error}") from None
        except BaseException:
            self.vm.wrote(len(buffer))  # some of it may have been: nothing of it may stay
            raise

    def _until_park(self, run: _Run) -> None:
        """Run the guest until it parks, or, within a host call, until it sends a response."""
        vm_run = self.vm.run
        self.unfinished = True
        while True:
            left = vm_run(run.deadline_ns, run.cpu_ns)
            if left.console_used:
                run.console.take(bytes(self.vm.buffers.console[: left.console_used]))
            if left.kind == ExitKind.PARK:
                if run.depth:
                    raise ProtocolError("the guest has parked in the middle of its host call")
                return
            if run.cpu_ns != NEVER_NS:
                run.cpu_ns = max(0, run.cpu_ns - left.cpu_ns)
            if left.kind == ExitKind.CALL:
                if run.depth and self._has_response():
                    return
                self._answer(run)
            elif left.kind not in (ExitKind.CONSOLE, ExitKind.SIGNAL):
                raise self._failure(left, run)

    def _has_response(self) -> bool:
        """Whether what the guest has sent is a response and no host call."""
        try:
            message = wire.parse_json(wire.read_frame(self.vm.buffers.from_guest).text)
        except ProtocolError:
            return False
        return isinstance(message, dict) and "method" not in message

    def _answer(self, run: _Run) -> None:
        run.host_calls += 1
        limit = run.limits.host_calls
        if limit is not None and run.host_calls > limit:
            raise HostCallsExceededError(f"the guest made more than {limit} host calls")
        buffers = self.vm.buffers
        run.answering = True
        try:
            self.vm.wrote(
                self._table.dispatch(buffers.from_guest, buffers.to_guest, run, *self._watch)
            )
        except BaseException:
            self.vm.wrote(len(buffers.to_guest))  # a handler may have written, too
            raise
        finally:
            run.answering = False
        if run.failure is not None:
            raise run.failure

    def _failure(self, left: Exit, run: _Run) -> HyperlightError:
        printed = run.console.text(STDERR).decode(errors="replace").strip()
        if left.kind == ExitKind.TIMEOUT:
            return SandboxTimeoutError(f"the guest ran longer than {run.limits.timeout} s")
        if left.kind == ExitKind.CPU_TIME:
            return CpuTimeExceededError(f"the guest used {run.limits.cpu_time} s of CPU time")
        if left.kind == ExitKind.KILLED:
            return SandboxKilledError("the sandbox was killed")
        if left.kind == ExitKind.ENDED:
            text = f"the guest ended with status {left.value}" + (f": {printed}" if printed else "")
            return GuestExitedError(left.value, text)
        return GuestCrashedError(self.vm.describe_exit())


def _guest_function_error(error: wire.ErrorObject) -> HyperlightError:
    data = error.data if isinstance(error.data, dict) else {}
    type_name, traceback = str(data.get("type", "")), str(data.get("traceback", ""))
    if type_name == "MemoryError":
        return MemoryExceededError("the guest needs more memory than the sandbox has")
    return GuestFunctionError(error.message, type_name=type_name, traceback=traceback)
