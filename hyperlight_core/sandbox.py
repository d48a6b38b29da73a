"""The sandbox most people meet: runs code, calls functions, goes back to how it began."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ByteSize, TypeAdapter, ValidationError
from typing_extensions import Self

from hyperlight_core.calls import Limits
from hyperlight_core.console import StreamCallback
from hyperlight_core.errors import ConfigurationError, GuestExitedError
from hyperlight_core.guests import GuestImage, Progress, find_guest
from hyperlight_core.machine import MachineSpec
from hyperlight_core.states import State, StateSnapshot
from hyperlight_core.table import CallCheck, CallObserver
from hyperlight_core.vm import Counters, Vm, VmConfig, VmFactory

if TYPE_CHECKING:
    from hyperlight_core.debug.crash_report import CrashReport

__all__ = ["RunResult", "Sandbox", "Snapshot", "load_snapshot", "parse_size"]

_LARGE_PAGE = 2**21
_SIZE = TypeAdapter(ByteSize)


class RunResult(NamedTuple):
    """What a run did.

    Attributes:
        stdout: text printed, undecodable bytes replaced.
        stderr: the same; a traceback is here.
        exit_code: 0, 1 after an exception, or what the code exited with.
        duration: seconds.
    """

    stdout: str
    stderr: str
    exit_code: int
    duration: float


class _Ready(State, functions=[lambda _function: True]):
    """The guest has started and has every function of the configuration."""


Snapshot = StateSnapshot[_Ready]


def load_snapshot(path: str | os.PathLike[str], *, verify: bool = True) -> Snapshot:
    """A snapshot that `Snapshot.save` wrote, to start sandboxes from, or to restore them.

    Args:
        path: of the directory. Its memory is mapped: it must not change while it is in use.
        verify: whether to compare the checksums, which reads all of its memory.

    Raises:
        ConfigurationError: it is damaged, or not for this machine; the message says how.
        OSError: it cannot be read.
    """
    return Snapshot.load(_Ready, path, verify=verify)


def parse_size(size: int | str) -> int:
    """A number of bytes, from a number or from text such as "512MiB".

    Raises:
        ConfigurationError: it is neither.
    """
    try:
        return int(_SIZE.validate_python(size))
    except ValidationError:
        raise ConfigurationError(f"{size!r} is no size such as '512MiB'") from None


class Sandbox:
    """Untrusted code in a micro-VM, with just the host abilities that `plugins` grants.

    Globals persist from run to run until a reset. Any thread may use it, one at a time. After a
    crash, a kill or a breached limit it is poisoned: reset, restore or close it.

    Args:
        guest: name of an installed guest such as "python", or the path of a native one.
        plugins: configuration of each granted plugin, by its name.
        memory: guest RAM, in bytes or as text such as "512MiB"; rounded up to 2 MiB.
        timeout: wall-clock seconds that one run or call may take; None for no limit.
        cpu_time: seconds of CPU time that one may use; None for no limit.
        output_limit: bytes of console output that one may write.
        host_calls: host calls that one may make; None for no limit.
        guest_options: configuration of the guest, such as {"packages": ["numpy"]}.
        progress: told how far the preparation of the guest's image is.
        stream: told "stdout" or "stderr" and the bytes, as they are printed.
        on_host_call: sees each host call before it runs; what it raises as a HostFunctionError is
            the guest's answer.
        after_host_call: told of each host call after it, with its outcome and time.
        buffer: bytes that one frame may have in each direction.
        cache: whether the started guest is kept on disk for the next process.
        start: a snapshot to begin with, of a sandbox with the same guest, memory and buffers.
        vm: makes the micro-VM; with a `debug.gdb_stub.Debugger` it is one that gdb can debug.
        isolation: None, or "process" for a VM in a confined process of its own.

    Raises:
        ConfigurationError: something asked for cannot be; the subclass says what.
        HypervisorError: KVM is missing, forbidden or fails.
        GuestError: the guest does not start.
    """

    def __init__(  # noqa: PLR0913 - by name only, but for the first
        self,
        guest: str | Path | GuestImage = "python",
        *,
        plugins: Mapping[str, object] | None = None,
        memory: int | str = "512MiB",
        timeout: float | None = 30.0,
        cpu_time: float | None = None,
        output_limit: int = 16 * 2**20,
        host_calls: int | None = None,
        guest_options: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
        stream: StreamCallback | None = None,
        on_host_call: CallCheck | None = None,
        after_host_call: CallObserver | None = None,
        buffer: int | str = "1MiB",
        cache: bool = True,
        start: Snapshot | None = None,
        vm: VmFactory = Vm,
        isolation: str | None = None,
    ) -> None:
        frame = _rounded(parse_size(buffer), 4096)
        image = find_guest(guest, guest_options, progress)
        spec = MachineSpec(
            image,
            VmConfig(_rounded(parse_size(memory), _LARGE_PAGE), frame, frame),
            dict(plugins or {}),
            Limits(timeout, cpu_time, output_limit, host_calls),
            stream=stream,
            check=on_host_call,
            observe=after_host_call,
            cache=cache and image.boot is not None,
            vm=_vm_factory(isolation, vm),
        )
        state = _Ready.start(spec) if start is None else _Ready.start_from(spec, start)
        self._begin(state, state.snapshot(), image.requests)

    def _begin(self, state: _Ready, start: Snapshot, requests: frozenset[str]) -> None:
        self._state = state
        self._requests = requests
        self._start = start
        self._reseed = True

    def run(
        self, code: str | bytes | os.PathLike[str], *, argv: list[str] | None = None
    ) -> RunResult:
        """Run code in the guest's namespace.

        Args:
            code: source text, UTF-8 bytes, or a Path whose content is run.
            argv: what the code finds as its command line.

        Raises:
            ValueError: the code is not UTF-8.
            ConfigurationError: this guest runs no code.
            LimitExceededError: a limit was reached; the subclass says which.
            SandboxKilledError: `kill` was called.
            GuestError: the guest crashed or sent nonsense.
            StateError: the sandbox is poisoned, closed or busy in this thread.
        """
        if "run" not in self._requests:
            raise ConfigurationError("this guest runs no code; use call()")
        params: dict[str, Any] = {"code": _source(code), "reseed": self._reseed}
        if argv is not None:
            params["argv"] = argv
        began = time.perf_counter()
        try:
            reply = self._state.call("run", params)
        except GuestExitedError as error:
            return RunResult(error.stdout, error.stderr, error.status, time.perf_counter() - began)
        self._reseed = False
        return RunResult(
            reply.stdout.decode(errors="replace"),
            reply.stderr.decode(errors="replace"),
            _exit_code(reply.result),
            time.perf_counter() - began,
        )

    def call(self, function: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function that an earlier `run` defined, or a method of a native guest.

        Arguments and result travel as JSON; a native guest's method takes only keyword arguments.

        Raises:
            GuestFunctionError: the function raised.
            ValueError: an argument cannot be expressed in JSON.
            HyperlightError: as for `run`.
        """
        if "call" not in self._requests:
            if args:
                raise TypeError("a native guest's method takes keyword arguments")
            return self._state.call(function, kwargs).result
        params = {
            "function": function,
            "args": list(args),
            "kwargs": kwargs,
            "reseed": self._reseed,
        }
        result = self._state.call("call", params).result
        self._reseed = False
        return result["value"] if isinstance(result, dict) else None

    def snapshot(self) -> Snapshot:
        """The sandbox as it is now; restores it or any other of the same kind."""
        return self._state.snapshot()

    def restore(self, snapshot: Snapshot) -> None:
        """Go to a snapshot, whatever state the guest is in.

        Raises:
            ConfigurationError: it is of another kind of sandbox; the message says what differs.
        """
        self._state.restore(snapshot)
        self._reseed = True

    def reset(self) -> None:
        """Go back to how the sandbox began; nothing of any run is left."""
        self.restore(self._start)

    def clone(self, snapshot: Snapshot | None = None) -> Self:
        """An independent sandbox that begins where this one is; memory is shared until written.

        Args:
            snapshot: where it begins instead; one taken once serves any number of clones, in any
                threads, without waiting for this sandbox.

        Raises:
            ConfigurationError: the snapshot is of another kind of sandbox.
        """
        start = snapshot or self._state.snapshot()
        twin = type(self).__new__(type(self))
        twin._begin(self._state.clone(start), start, self._requests)  # noqa: SLF001 - of this class
        return twin

    def crash_report(self) -> CrashReport:
        """What the guest was doing when it stopped: registers, backtrace, last host calls.

        The calls are there if a `debug.last_calls.LastCalls` was given as `after_host_call`.
        """
        from hyperlight_core.debug.crash_report import crash_report  # noqa: PLC0415 - rarely used

        return self._state.inspect(crash_report)

    def write_core(self, path: str | os.PathLike[str]) -> None:
        """Write the guest as it is now, crashed or not, into an ELF core file for gdb.

        Raises:
            OSError: the file cannot be written.
        """
        from hyperlight_core.debug.core_file import write_core  # noqa: PLC0415 - rarely used

        self._state.inspect(lambda machine: write_core(machine, path))

    def kill(self) -> None:
        """Stop what the guest is doing, from any thread; the sandbox is poisoned."""
        self._state.kill()

    def close(self) -> None:
        """End the guest and let go of everything; a second call does nothing."""
        self._state.close()

    def explain(self) -> list[str]:
        """What the plugins grant, one line each, as `hyperlight run --explain` prints them."""
        return self._state.explain()

    @property
    def status(self) -> str:
        """One of "ready", "running", "poisoned" and "closed"."""
        return self._state.status

    @property
    def counters(self) -> Counters:
        """Exits, resets and copied pages of the VM so far.

        Raises:
            StateError: the sandbox is closed.
        """
        return self._state.counters

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _vm_factory(isolation: str | None, vm: VmFactory) -> VmFactory:
    """What makes the VM."""
    if isolation is None:
        return vm
    if isolation != "process":
        raise ConfigurationError(f"isolation is None or 'process', not {isolation!r}")
    if vm is not Vm:
        raise ConfigurationError("isolation='process' makes its own VM; leave out `vm`")
    # What few need is not loaded for all.
    from hyperlight_core.isolation import IsolatedVm  # noqa: PLC0415

    return IsolatedVm


def _rounded(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def _source(code: str | bytes | os.PathLike[str]) -> str:
    text = code if isinstance(code, (str, bytes)) else Path(code).read_bytes()
    if isinstance(text, str):
        return text
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"the code is not UTF-8: {error.reason} at byte {error.start}") from None


def _exit_code(result: Any) -> int:
    code = result.get("exit_code") if isinstance(result, dict) else None
    return code if isinstance(code, int) else 0
