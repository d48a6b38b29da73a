"""The process of one VM: confines itself, then does what it is asked for until its end."""

from __future__ import annotations

import contextlib
import mmap
import os
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from hyperlight_core.isolation import confine, protocol
from hyperlight_core.isolation.protocol import CREATE, MESSAGE_LIMIT, REQUEST, Op, Reply
from hyperlight_core.memory_snapshot import MemorySnapshot
from hyperlight_core.vm import Exit, ExitKind, Vm, VmConfig
from hyperlight_core.wire import HEADER

__all__ = ["Files", "serve"]

_KVM, _PAGEMAP = "/dev/kvm", "/proc/self/pagemap"
_DONE = Reply(0, 0, 0, 0, 0, 0, 0)


class Files(NamedTuple):
    """The descriptors that come with the request to make a VM; -1 for none."""

    control: int
    second: int
    memory: int
    program: int = -1
    image: int = -1


def serve(message: bytes, files: Files) -> None:
    """Make the VM that `message` describes and serve it."""
    control, second = (socket.socket(fileno=number) for number in (files.control, files.second))
    _close_others(files)
    try:
        server = _Server(message, files)
        threading.Thread(target=server.serve_second, args=(second,), daemon=True).start()
        confine.confine_system_calls()
    except BaseException as error:
        control.send(protocol.failure(error).pack())
        raise
    control.send(_DONE.pack())
    server.serve(control)


def _close_others(files: Files) -> None:
    """Keep what came with the request, and the standard streams, which lead nowhere."""
    for number in map(int, os.listdir("/proc/self/fd")):
        if number > 2 and number not in files:
            with contextlib.suppress(OSError):
                os.close(number)


def _packed(numbers: Sequence[int]) -> bytes:
    return struct.pack(f"={len(numbers)}Q", *numbers)


class _Server:
    """The VM, its snapshots by number, and the memory that is shared with who asks."""

    def __init__(self, message: bytes, files: Files) -> None:
        memory, in_size, out_size, console_size, stream, *_ = CREATE.unpack(message)
        self._config = VmConfig(memory, in_size, out_size, console_size)
        self._shared = memoryview(mmap.mmap(files.memory, in_size + out_size + console_size))
        program = None if files.program < 0 else Path(f"/proc/self/fd/{files.program}").read_bytes()
        image = None if files.image < 0 else Path(f"/proc/self/fd/{files.image}")
        allowed = {_KVM: os.O_RDWR, _PAGEMAP: os.O_RDONLY}
        confine.confine_files(allowed | ({str(image): os.O_RDONLY} if image else {}))
        self._vm = Vm(self._config, program, image, stream=stream)
        for number in (files.memory, files.program, files.image):
            if number >= 0:
                os.close(number)
        self._snapshots: dict[int, MemorySnapshot] = {}
        self._taken = self._epoch = self._table_version = 0
        self._killed = -1
        self._restoring = threading.Lock()
        self._operations: dict[int, Callable[[tuple[int, ...], bytes, list[int]], Reply]] = {
            Op.RUN: self._run,
            Op.RESTORE: self._restore,
            Op.SNAPSHOT: self._snapshot,
            Op.LOAD: self._load,
            Op.READ: lambda arguments, _text, _files: _DONE._replace(
                payload=self._vm.read(arguments[0], arguments[1])
            ),
            Op.WRITE: self._write,
            Op.DESCRIBE: lambda *_: _DONE._replace(payload=self._vm.describe_exit().encode()),
            Op.COUNTERS: lambda *_: _DONE._replace(payload=_packed(self._vm.counters())),
            Op.EXPORT: self._export,
        }

    def serve(self, control: socket.socket) -> None:
        """Answer until the socket closes."""
        while True:
            message, files, _, _ = socket.recv_fds(control, MESSAGE_LIMIT, 2)
            if not message:
                return
            operation, *arguments = REQUEST.unpack_from(message)
            if operation == Op.CLOSE:
                self._vm.close()
            else:
                text = message[REQUEST.size :]
                control.send(self._answer(operation, tuple(arguments), text, files).pack())

    def serve_second(self, second: socket.socket) -> None:
        """What is asked for while the guest runs; the end of the socket ends the process."""
        while True:
            message, files, _, _ = socket.recv_fds(second, MESSAGE_LIMIT, 2)
            if not message:
                os._exit(0)
            operation, *arguments = REQUEST.unpack_from(message)
            if operation == Op.KILL:
                self._kill(arguments[0])
            else:
                second.send(self._answer(operation, tuple(arguments), b"", files).pack())

    def _answer(
        self, operation: int, arguments: tuple[int, ...], text: bytes, files: list[int]
    ) -> Reply:
        try:
            return self._operations[operation](arguments, text, files)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
            return protocol.failure(error)
        finally:
            for number in files:
                os.close(number)

    def _run(self, arguments: tuple[int, ...], _text: bytes, _files: list[int]) -> Reply:
        deadline_ns, cpu_ns, table_version, written = arguments
        if table_version != self._table_version:
            self._vm.set_table_version(table_version)
            self._table_version = table_version
        if written:
            self._vm.buffers.to_guest[:written] = self._shared[:written]
            self._vm.wrote(written)
        left = self._vm.run(deadline_ns, cpu_ns)
        return Reply(0, 0, left.kind, left.value, left.console_used, left.cpu_ns, self._share(left))

    def _share(self, left: Exit) -> int:
        """Copy frame and console text to the shared memory; return the frame's size."""
        _, from_guest, console = self._vm.buffers
        start, used = self._config.in_size, 0
        if left.kind in (ExitKind.CALL, ExitKind.PARK):
            _, json_size, offset, size = HEADER.unpack_from(from_guest)
            used = min(len(from_guest), max(HEADER.size + json_size, offset + size))
            self._shared[start : start + used] = from_guest[:used]
        start += self._config.out_size
        self._shared[start : start + left.console_used] = console[: left.console_used]
        return used

    def _restore(self, arguments: tuple[int, ...], _text: bytes, _files: list[int]) -> Reply:
        number, epoch = arguments[:2]
        with self._restoring:
            self._vm.restore(self._snapshots[number])
            self._epoch = epoch
            self._kill_if_meant()
        return _DONE

    def _kill(self, epoch: int) -> None:
        """Kill the guest that runs after as many restores, which may be one that is yet to come."""
        with self._restoring:
            self._killed = max(self._killed, epoch)
            self._kill_if_meant()

    def _kill_if_meant(self) -> None:
        if self._killed == self._epoch:
            self._vm.kill()

    def _snapshot(self, _arguments: tuple[int, ...], text: bytes, _files: list[int]) -> Reply:
        for (number,) in struct.iter_unpack("=q", text):
            self._snapshots.pop(number, None)
        return self._keep(self._vm.snapshot())

    def _load(self, _arguments: tuple[int, ...], _text: bytes, files: list[int]) -> Reply:
        memory, state = files
        size = os.lseek(state, 0, os.SEEK_END)
        return self._keep(MemorySnapshot.load(self._config, memory, os.pread(state, size, 0)))

    def _keep(self, snapshot: MemorySnapshot) -> Reply:
        self._taken += 1
        self._snapshots[self._taken] = snapshot
        return _DONE._replace(value=self._taken)

    def _export(self, arguments: tuple[int, ...], _text: bytes, files: list[int]) -> Reply:
        memory, state = files
        self._snapshots[arguments[0]].save(memory, state)
        return _DONE

    def _write(self, arguments: tuple[int, ...], text: bytes, _files: list[int]) -> Reply:
        self._vm.write(arguments[0], text)
        return _DONE
