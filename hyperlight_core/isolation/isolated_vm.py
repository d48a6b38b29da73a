"""A VirtualMachine in a process of its own, and its snapshots, seen from the program's side."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import select
import socket
import struct
import threading
import time
import weakref
from pathlib import Path
from typing import Final

from typing_extensions import Self

from hyperlight_core.errors import (
    ConfigurationError,
    HyperlightError,
    HypervisorError,
    StateError,
)
from hyperlight_core.isolation import protocol
from hyperlight_core.isolation.process import Process
from hyperlight_core.isolation.protocol import CHUNK, CREATE, REQUEST, Op, Reply
from hyperlight_core.memory_snapshot import MemorySnapshot
from hyperlight_core.vm import NEVER_NS, Buffers, Counters, Exit, ExitKind, VmConfig, open_image

__all__ = ["IsolatedSnapshot", "IsolatedVm"]

#: Seconds that a process has for an answer: a sound one needs far less.
_PATIENCE: Final = 60.0
#: The same after a kill or a deadline, which it observes itself if it is sound.
_GRACE: Final = 5.0
_KINDS: Final = frozenset(ExitKind)


class _Files:
    """Memory and state of a snapshot, as `MemorySnapshot.save` writes them, in files of memory."""

    def __init__(self) -> None:
        self.memory, self.state = (_file("hyperlight-snapshot") for _ in range(2))
        for number in (self.memory, self.state):
            weakref.finalize(self, os.close, number)

    def seal(self) -> None:
        """From now on they are as they are; fails while anyone has one mapped for writing."""
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
        for number in (self.memory, self.state):
            fcntl.fcntl(number, fcntl.F_ADD_SEALS, seals)


def _file(name: str) -> int:
    return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


class IsolatedSnapshot:
    """Memory and registers of a guest at one moment; immutable, shared by any threads.

    It lies in the process it was taken in, which lives as long as it, until another process, or a
    file, is to have it.

    Attributes:
        config: of the VM it was taken from.
        home: that process.
        number: its number there.
    """

    def __init__(self, config: VmConfig, home: Process, number: int) -> None:
        self.config = config
        self.home, self.number = home, number
        self._exporting = threading.Lock()
        self._files: _Files | None = None

    def exported(self) -> _Files:
        """Its content, which nobody can change."""
        with self._exporting:
            if self._files is None:
                files = _Files()
                self.home.ask_second(
                    (Op.EXPORT, self.number), (files.memory, files.state), _PATIENCE
                )
                files.seal()
                self._files = files
            return self._files

    def save(self, memory_fd: int, state_fd: int, parent: MemorySnapshot | None = None) -> None:
        """Write it into two empty files; see `MemorySnapshot.save`."""
        files = self.exported()
        state = os.pread(files.state, os.fstat(files.state).st_size, 0)
        MemorySnapshot.load(self.config, files.memory, state).save(memory_fd, state_fd, parent)


_exports: weakref.WeakKeyDictionary[MemorySnapshot, _Files] = weakref.WeakKeyDictionary()
_exporting = threading.Lock()


def _exported(snapshot: IsolatedSnapshot | MemorySnapshot) -> _Files:
    """The content of any snapshot; one of this process, such as one from a file, is copied once."""
    if isinstance(snapshot, IsolatedSnapshot):
        return snapshot.exported()
    with _exporting:
        files = _exports.get(snapshot)
        if files is None:
            files = _exports[snapshot] = _Files()
            snapshot.save(files.memory, files.state)
            files.seal()
        return files


def _sealed_file(name: str, size: int) -> int:
    """A file in memory that whoever shares it can neither shrink nor grow."""
    file = _file(name)
    os.ftruncate(file, size)
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    return file


class IsolatedVm:
    """A micro-VM in a process of its own; see `vm.Vm` for arguments and exceptions.

    Raises:
        HypervisorError: besides, the process has ended, or this kernel cannot confine it.
    """

    def __init__(
        self,
        config: VmConfig | None = None,
        program: bytes | None = None,
        image: Path | None = None,
        *,
        stream: bool = False,
    ) -> None:
        self.config = config = config or VmConfig()
        self._process: Process | None = None
        self._using = threading.RLock()  # a signal handler may kill what its thread is closing
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._free_wake_fd = weakref.finalize(self, os.close, self._wake_fd)
        self._table_version = self._written = self._epoch = 0
        self._killed = -1
        self._owed = False
        self._known: weakref.WeakKeyDictionary[IsolatedSnapshot | MemorySnapshot, int]
        self._known = weakref.WeakKeyDictionary()
        self._dropped: list[int] = []
        self._buffers: Buffers | None = self._make_buffers()
        self._start(program, image, stream=stream)

    def _make_buffers(self) -> Buffers:
        config = self.config
        try:
            size = config.in_size + config.out_size + config.console_size
            self._shared_file = _sealed_file("hyperlight-buffers", size)
            self._shared = memoryview(mmap.mmap(self._shared_file, size))
            from_guest = memoryview(bytearray(config.out_size))
            console = memoryview(bytearray(config.console_size))
        except (OSError, OverflowError, ValueError, MemoryError) as error:
            self._free_wake_fd()
            raise ConfigurationError(f"sizes no machine has: {config}") from error
        return Buffers(self._shared[: config.in_size], from_guest, console)

    def _start(self, program: bytes | None, image: Path | None, *, stream: bool) -> None:
        files = [self._shared_file]
        try:
            if program is not None:
                files.append(os.memfd_create("hyperlight-program", os.MFD_CLOEXEC))
                with open(files[-1], "wb", closefd=False) as file:
                    file.write(program)
            if image is not None:
                files.append(open_image(image))
            sizes = vars(self.config).values()
            message = CREATE.pack(*sizes, stream, program is not None, image is not None)
            self._process = Process(message, files)
            self._poll = select.poll()
            self._poll.register(self._process.control, select.POLLIN)
            self._poll.register(self._wake_fd, select.POLLIN)
            self._receive(None)
        except struct.error as error:
            raise ConfigurationError(f"sizes no machine has: {self.config}") from error
        except BaseException:
            self.close()
            raise
        finally:
            for number in files:
                os.close(number)

    # ---- asking ------------------------------------------------------------------------------

    @property
    def _open(self) -> Process:
        if self._process is None:
            raise StateError("the VM is closed")
        return self._process

    def _ask(self, *words: int, payload: bytes = b"", files: tuple[int, ...] = ()) -> Reply:
        self._settle()
        self._send(self._open, words, payload, files)
        return self._receive(None)

    def _settle(self) -> None:
        """Take the answer of a run that a signal's handler broke off."""
        if self._owed:
            self.kill()
            with contextlib.suppress(HyperlightError):
                self._receive(None)

    def _send(
        self, process: Process, words: tuple[int, ...], payload: bytes, files: tuple[int, ...]
    ) -> None:
        message = REQUEST.pack(*words, *[0] * (5 - len(words))) + payload
        try:
            socket.send_fds(process.control, [message], files)
        except OSError as error:
            raise HypervisorError(32, "the process of the VM has ended") from error
        self._owed = True

    def _receive(self, deadline_ns: int | None) -> Reply:
        """What the process answers; whoever takes too long is ended."""
        process = self._open
        if not self._wait(process, deadline_ns):
            process.end()
        try:
            message = process.control.recv(protocol.MESSAGE_LIMIT)
        except OSError:
            message = b""
        self._owed = False
        reply = protocol.parse_reply(message)
        if reply.code:
            raise protocol.error_of(reply)
        return reply

    def _wait(self, process: Process, deadline_ns: int | None) -> bool:
        until = time.monotonic() + _PATIENCE
        if deadline_ns is not None:
            until = deadline_ns / 1e9 + _GRACE
        ready = self._poll_until(self._poll, until)
        if ready == [self._wake_fd]:
            patient = select.poll()
            patient.register(process.control, select.POLLIN)
            ready = self._poll_until(patient, min(until, time.monotonic() + _GRACE))
        return bool(ready)

    @staticmethod
    def _poll_until(poll: select.poll, until: float) -> list[int]:
        left = until - time.monotonic()
        return [number for number, _ in poll.poll(None if left > 1e6 else max(0.0, left) * 1000)]

    # ---- VirtualMachine ----------------------------------------------------------------------

    @property
    def buffers(self) -> Buffers:
        """The frame buffers; what comes from the guest is a copy that nobody else can reach."""
        if self._buffers is None:
            raise StateError("the VM is closed")
        return self._buffers

    @property
    def wake_fd(self) -> int:
        """A descriptor that polls readable from `kill` until the next restore."""
        self._open  # noqa: B018 - raises once closed
        return self._wake_fd

    def run(self, deadline_ns: int = NEVER_NS, cpu_ns: int = NEVER_NS) -> Exit:
        """Run the guest until the host is needed; see `Vm.run`."""
        words = (Op.RUN, deadline_ns, cpu_ns, self._table_version, self._written)
        self._written = 0
        if self._killed == self._epoch:
            return Exit(ExitKind.KILLED, 0, 0, 0)  # the process may not have heard of it yet
        self._settle()
        self._send(self._open, words, b"", ())
        return self._exit(self._receive(deadline_ns))

    def _exit(self, reply: Reply) -> Exit:
        """The exit with everything in it made sure of, and the bytes copied that belong to it."""
        config = self.config
        frame = min(max(0, reply.frame_used), config.out_size)
        console = min(max(0, reply.console_used), config.console_size)
        _, from_guest, text = self.buffers
        start = config.in_size
        from_guest[:frame] = self._shared[start : start + frame]
        start += config.out_size
        text[:console] = self._shared[start : start + console]
        kind = reply.kind if reply.kind in _KINDS else ExitKind.VIOLATION
        return Exit(kind, reply.value & 0xFFFFFFFF, console, max(0, reply.cpu_ns))

    def describe_exit(self) -> str:
        """The last FAULT or VIOLATION in words, with the registers."""
        return self._ask(Op.DESCRIBE).payload.decode(errors="replace")

    def wrote(self, size: int) -> None:
        """Say that the first `size` bytes of the buffer to the guest were written."""
        self._written = min(max(size, self._written), self.config.in_size)

    def read(self, address: int, size: int) -> bytes:
        """Copy guest memory; raises ConfigurationError if the range is not in RAM."""
        self.config.check_range(address, size)
        data = b"".join(
            self._ask(Op.READ, address + at, min(CHUNK, size - at)).payload
            for at in range(0, max(size, 1), CHUNK)
        )
        if len(data) != size:
            raise HypervisorError(32, "the process of the VM talks nonsense")
        return data

    def write(self, address: int, data: bytes) -> None:
        """Overwrite guest memory; raises ConfigurationError if the range is not in RAM."""
        self.config.check_range(address, len(data))
        for at in range(0, max(len(data), 1), CHUNK):
            self._ask(Op.WRITE, address + at, payload=bytes(data[at : at + CHUNK]))

    def counters(self) -> Counters:
        """What it has done since it was made, as its process tells it."""
        payload = self._ask(Op.COUNTERS).payload
        numbers = struct.Struct(f"={len(Counters._fields)}Q")
        if len(payload) != numbers.size:
            raise HypervisorError(32, "the process of the VM talks nonsense")
        return Counters._make(numbers.unpack(payload))

    def set_table_version(self, version: int) -> None:
        """Tell the guest, when it runs next, that the host functions have changed."""
        self._table_version = version

    def snapshot(self) -> IsolatedSnapshot:
        """Memory and registers of the guest, which is not running, as they are now."""
        process = self._open
        dropped, self._dropped = self._dropped[: CHUNK // 8], self._dropped[CHUNK // 8 :]
        number = self._ask(Op.SNAPSHOT, payload=struct.pack(f"={len(dropped)}q", *dropped)).value
        snapshot = IsolatedSnapshot(self.config, process, number)
        weakref.finalize(snapshot, self._dropped.append, number)
        return snapshot

    def restore(self, snapshot: IsolatedSnapshot | MemorySnapshot) -> None:
        """Go to the snapshot, which may be another VM's; forgets a kill.

        Raises:
            ConfigurationError: that VM has another configuration.
            HypervisorError: the snapshot's process has ended.
        """
        number = self._number(snapshot)
        self._settle()
        with self._using:
            self._epoch += 1
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self.wake_fd)
        self._ask(Op.RESTORE, number, self._epoch)

    def _number(self, snapshot: IsolatedSnapshot | MemorySnapshot) -> int:
        """Of the snapshot in this VM's process, which gets it if it does not have it."""
        if snapshot.config != self.config:
            raise ConfigurationError("the snapshot was taken with another configuration")
        if isinstance(snapshot, IsolatedSnapshot) and snapshot.home is self._open:
            return snapshot.number
        number = self._known.get(snapshot)
        if number is None:
            files = _exported(snapshot)
            number = self._ask(Op.LOAD, files=(files.memory, files.state)).value
            self._known[snapshot] = number
            weakref.finalize(snapshot, self._dropped.append, number)
        return number

    def kill(self) -> None:
        """Stop the running guest, or the next run. Any thread; does nothing once closed."""
        with self._using:
            if self._process is not None:
                self._killed = self._epoch
                os.eventfd_write(self._wake_fd, 1)
                self._process.send_second(Op.KILL, self._epoch)

    def close(self) -> None:
        """Free everything but what snapshots need; a second call does nothing."""
        with self._using:
            process, self._process = self._process, None
            buffers, self._buffers = self._buffers, None
            self._free_wake_fd()
        for view in buffers or ():
            view.release()
        if process is not None:
            process.close_vm()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
