"""For tests of what is built on this library: a VM that needs no KVM, and guests built from C."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from pydantic_core import to_json
from typing_extensions import Self

from hyperlight_core import wire
from hyperlight_core.errors import (
    ConfigurationError,
    GuestFunctionError,
    GuestImageError,
    StateError,
)
from hyperlight_core.guests import GuestImage
from hyperlight_core.machine import MachineSpec
from hyperlight_core.table import HostFunctionTable
from hyperlight_core.vm import (
    CONTROL_ADDRESS,
    NEVER_NS,
    Buffers,
    Counters,
    Exit,
    ExitKind,
    VmConfig,
)

__all__ = [
    "FAKE_CONFIG",
    "Answer",
    "FakeSnapshot",
    "FakeVm",
    "FunctionGuest",
    "GuestFunction",
    "HostCall",
    "Print",
    "Program",
    "build_guest",
    "call_host_function",
    "fake_spec",
    "leave",
]

#: A small VM: tests make many.
FAKE_CONFIG = VmConfig(2 * 2**20, 65536, 65536, 4096)

_RECORD = struct.Struct("<2I")


# ---- a VM without KVM --------------------------------------------------------------------------

#: The guest, run from each request to the next: what it yields leaves the VM, None lets time pass;
#: when it returns, the guest parks.
Program: TypeAlias = "Callable[[FakeVm], Iterator[Exit | None]]"


def leave(kind: ExitKind, value: int = 0) -> Exit:
    """An Exit for a Program to yield."""
    return Exit(kind, value, 0, 0)


@dataclass(frozen=True)
class FakeSnapshot:
    """What a FakeVm was at one moment."""

    config: VmConfig
    memory: bytes
    state: Mapping[str, Any]


class FakeVm:
    """A VirtualMachine whose guest is Python code in this process: no KVM, and no isolation.

    Frames, console records, time-outs, budgets and kills are real, so what lies above it is tested
    as it is. A guest that does not yield cannot be stopped.

    Args:
        program: the guest.
        config: its memory and buffers.

    Attributes:
        state: what the guest remembers besides its memory; part of snapshots.
        table_version: as last set.
        epoch: differs after every restore.
    """

    def __init__(self, program: Program, config: VmConfig = FAKE_CONFIG) -> None:
        self.config = config
        self.state: dict[str, Any] = {}
        self.table_version = 0
        self.epoch = 0
        self._program = program
        self._steps: Iterator[Exit | None] | None = None
        self._memory = bytearray(config.memory)
        self._console_used = 0
        self._exits = 0
        self._killed = False
        self._lock = threading.Lock()
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    @property
    def buffers(self) -> Buffers:
        """The frame buffers; raises StateError once closed."""
        sizes = (self.config.in_size, self.config.out_size, self.config.console_size)
        view, end, places = memoryview(self._open_memory()), self.config.memory, []
        for size in sizes:
            places.append(view[end - size : end])
            end -= size
        return Buffers(*places)

    @property
    def wake_fd(self) -> int:
        """A descriptor that polls readable from `kill` until the next restore."""
        return self._wake_fd

    def run(self, deadline_ns: int = NEVER_NS, cpu_ns: int = NEVER_NS) -> Exit:
        """Run the guest until the host is needed; see `Vm.run`."""
        self._open_memory()
        self._console_used = 0
        self._exits += 1
        began = time.thread_time_ns()
        while (left := self._step(deadline_ns, began + cpu_ns)) is None:
            pass
        return left._replace(console_used=self._console_used, cpu_ns=time.thread_time_ns() - began)

    def _step(self, deadline_ns: int, cpu_deadline_ns: int) -> Exit | None:
        if self._killed:
            return leave(ExitKind.KILLED)
        if time.monotonic_ns() >= deadline_ns:
            return leave(ExitKind.TIMEOUT)
        if time.thread_time_ns() >= cpu_deadline_ns:
            return leave(ExitKind.CPU_TIME)
        if self._steps is None:
            self._steps = self._program(self)
        try:
            return next(self._steps)
        except StopIteration:
            self._steps = None
            return leave(ExitKind.PARK)

    def print(self, text: bytes, stream: int = 1) -> int:
        """For programs: put as much as fits into the console buffer; return how much that is."""
        buffer, at = self.buffers.console, self._console_used
        kept = text[: max(0, len(buffer) - at - _RECORD.size)]
        if kept:
            _RECORD.pack_into(buffer, at, stream, len(kept))
            at += _RECORD.size
            buffer[at : at + len(kept)] = kept
            self._console_used = at + len(kept)
        return len(kept)

    def describe_exit(self) -> str:
        """That there is nothing to see."""
        return "the Python guest left that way"

    def wrote(self, size: int) -> None:
        """Check the size; nothing else needs to be known here."""
        if not 0 <= size <= self.config.in_size:
            raise ValueError(f"{size} bytes of a buffer of {self.config.in_size}")

    def read(self, address: int, size: int) -> bytes:
        """Copy guest memory; raises ConfigurationError if the range is not in RAM."""
        return bytes(self._open_memory()[self._range(address, size)])

    def write(self, address: int, data: bytes) -> None:
        """Overwrite guest memory; raises ConfigurationError if the range is not in RAM."""
        self._open_memory()[self._range(address, len(data))] = data

    def _range(self, address: int, size: int) -> slice:
        self.config.check_range(address, size)
        first = address - CONTROL_ADDRESS
        return slice(first, first + size)

    def _open_memory(self) -> bytearray:
        if self._wake_fd < 0:
            raise StateError("the VM is closed")
        return self._memory

    def counters(self) -> Counters:
        """Exits so far; the rest it does not have."""
        return Counters(self._exits, 0, 0, 0, 0)

    def set_table_version(self, version: int) -> None:
        """Remember it in `table_version`."""
        self.table_version = version

    def snapshot(self) -> FakeSnapshot:
        """Memory and state of the guest, which must be parked.

        Raises:
            StateError: the guest is in the middle of something.
        """
        if self._steps is not None:
            raise StateError("a Python guest can be snapshotted only while it is parked")
        return FakeSnapshot(self.config, bytes(self._open_memory()), copy.deepcopy(self.state))

    def restore(self, snapshot: FakeSnapshot) -> None:
        """Go to the snapshot, which may be another FakeVm's; forgets a kill.

        Raises:
            ConfigurationError: that VM has another configuration.
        """
        if snapshot.config != self.config:
            raise ConfigurationError("the snapshot was taken with another configuration")
        self._open_memory()[:] = snapshot.memory
        self.state = copy.deepcopy(dict(snapshot.state))
        self._steps = None
        self.epoch += 1
        with self._lock:
            if self._killed:
                os.eventfd_read(self._wake_fd)
            self._killed = False

    def kill(self) -> None:
        """Stop the running guest, or the next run; from any thread."""
        with self._lock:
            if self._wake_fd >= 0 and not self._killed:
                self._killed = True
                os.eventfd_write(self._wake_fd, 1)

    def close(self) -> None:
        """Let go of the descriptor; a second call does nothing."""
        with self._lock:
            descriptor, self._wake_fd = self._wake_fd, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# ---- guests as Python functions ----------------------------------------------------------------


@dataclass(frozen=True)
class HostCall:
    """Yielded by a guest function: calls a host function; the `yield` gives its Answer."""

    method: str
    params: Mapping[str, Any] = field(default_factory=dict)
    attachment: bytes = b""


@dataclass(frozen=True)
class Print:
    """Yielded by a guest function: console output, on stream 1 or 2."""

    text: str
    stream: int = 1


class Answer(NamedTuple):
    """What a host function answered: `error` is the JSON-RPC error object, or None."""

    result: Any
    error: Mapping[str, Any] | None
    attachment: bytes


#: Takes the VM and the params; returns the result, or is a generator of HostCall, Print, Exit and
#: None (time passes) that does. It may raise GuestFunctionError.
GuestFunction: TypeAlias = Callable[[FakeVm, dict[str, Any]], Any]


class FunctionGuest:
    """A Program that answers requests from Python functions, as guests/sdk does from C ones.

    Args:
        functions: by the name they are called by.
    """

    def __init__(self, functions: Mapping[str, GuestFunction]) -> None:
        self._functions = functions

    def __call__(self, vm: FakeVm) -> Generator[Exit | None, None, None]:
        """Boot, or answer the request in the buffer."""
        if not vm.state.setdefault("booted", False):
            vm.state["booted"] = True
            wire.write_frame(vm.buffers.from_guest, b"")
            return
        yield from self._answer(vm)

    def _answer(self, vm: FakeVm) -> Generator[Exit | None, None, None]:
        frame = wire.read_frame(vm.buffers.to_guest)
        request = wire.parse_request(wire.parse_json(frame.text))
        try:
            result = yield from self._invoke(vm, request)
            text = wire.result_text(request.id, to_json(result))
        except GuestFunctionError as error:
            text = wire.error_text(request.id, -32000, str(error), {"type": error.type_name})
        wire.write_frame(vm.buffers.from_guest, text)

    def _invoke(self, vm: FakeVm, request: wire.Message) -> Generator[Exit | None, None, Any]:
        function = self._functions.get(request.method)
        if function is None:
            raise GuestFunctionError("the guest has no such function")
        result = function(vm, dict(request.params))
        if not isinstance(result, Generator):
            return result
        answer: Answer | None = None
        while True:
            try:
                step = result.send(answer)
            except StopIteration as end:
                return end.value
            answer = yield from self._do(vm, step)

    def _do(self, vm: FakeVm, step: Any) -> Generator[Exit | None, None, Answer | None]:
        if isinstance(step, HostCall):
            text = wire.request_text(step.method, dict(step.params), 1)
            wire.write_frame(vm.buffers.from_guest, text, step.attachment)
            yield leave(ExitKind.CALL)
            while "method" in json.loads(wire.read_frame(vm.buffers.to_guest).text or "{}"):
                yield from self._answer(vm)
                yield leave(ExitKind.CALL)
            return _read_answer(vm.buffers.to_guest)
        if isinstance(step, Print):
            text = step.text.encode()
            while text:
                text = text[vm.print(text, step.stream) :]
                if text:
                    yield leave(ExitKind.CONSOLE)
        else:
            yield step
        return None


def _read_answer(buffer: memoryview) -> Answer:
    frame = wire.read_frame(buffer)
    message = json.loads(frame.text)
    return Answer(message.get("result"), message.get("error"), bytes(frame.attachment))


def call_host_function(
    table: HostFunctionTable,
    method: str,
    params: Mapping[str, Any] | None = None,
    attachment: bytes = b"",
    *,
    buffer: int = FAKE_CONFIG.out_size,
    **options: Any,
) -> Answer:
    """Call a host function as a guest does, without one.

    Args:
        table: such as `load_plugins(...).table`.
        method: name of the function.
        params: its parameters.
        attachment: sent along.
        buffer: bytes that the answer may have.
        options: further arguments of `HostFunctionTable.dispatch`.
    """
    text = wire.request_text(method, dict(params or {}), 1)
    room = max(FAKE_CONFIG.out_size, len(text) + len(attachment) + wire.BULK_OFFSET)
    request, reply = memoryview(bytearray(room)), memoryview(bytearray(buffer))
    wire.write_frame(request, text, attachment)
    table.dispatch(request, reply, **options)
    return _read_answer(reply)


def fake_spec(program: Program, **options: Any) -> MachineSpec:
    """A MachineSpec whose machines are FakeVms; a `limits=` or `plugins=` goes on to it."""
    guest = GuestImage("fake", f"fake-{id(program)}", program=b"")
    config = options.pop("config", FAKE_CONFIG)

    def make(config: VmConfig, _program: object, _image: object, /, *, stream: bool) -> FakeVm:
        del stream
        return FakeVm(program, config)

    return MachineSpec(guest, config, vm=make, **options)


# ---- guests as C source ------------------------------------------------------------------------

#: What hl_guest.h asks for.
_FLAGS = (
    *("-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror"),
    *("-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-fno-pie", "-no-pie"),
    *("-Wl,-Ttext-segment=0x210000", "-Wl,--build-id=none", "-Wl,-z,noexecstack"),
)


def _sdk() -> tuple[Path, ...]:
    """The folders with start.c and the headers: in the package, or in the checkout around it."""
    package = Path(__file__).resolve().parent
    installed = package / "guests" / "include"
    if installed.is_dir():
        return (installed,)
    return package.parent / "guests" / "sdk", package.parent / "vmm_c" / "include"


def build_guest(source: str, directory: Path, *, flags: tuple[str, ...] = ()) -> Path:
    """Compile a native guest written with guests/sdk; `hl_guest.h` is included already.

    Args:
        source: C text that defines `hl_methods`.
        directory: where the result is kept, under a name made from the source.
        flags: for the compiler, behind those that hl_guest.h asks for.

    Returns:
        The path of the ELF file.

    Raises:
        GuestImageError: it does not compile; the message is the compiler's.
    """
    place = directory / hashlib.sha256(repr((source, flags)).encode()).hexdigest()[:16]
    program = place.with_suffix(".elf")
    if program.exists():
        return program
    place.with_suffix(".c").write_text(source, encoding="utf-8")
    sdk = _sdk()
    result = subprocess.run(
        [
            *(os.environ.get("CC", "gcc"), *_FLAGS, *(f"-I{folder}" for folder in sdk)),
            *("-include", "hl_guest.h", "-o", str(program), str(place.with_suffix(".c"))),
            *(str(sdk[0] / "start.c"), *flags),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise GuestImageError(f"the guest does not compile:\n{result.stderr}")
    return program
