"""Starts the process of a VM, through a zygote, and ends it."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence

from hyperlight_core.errors import HypervisorError
from hyperlight_core.isolation import protocol

__all__ = ["Process"]


_NO_WAIT = socket.MSG_DONTWAIT


class _Zygote:
    """See `zygote.py`; one for this process, while it lives."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._requests, theirs = protocol.pair()
        weakref.finalize(self, self._requests.close)
        # It ends with the thread that made it, prctl(2), so that is one that stays.
        threading.Thread(
            target=self._keep, args=(theirs,), name="hyperlight-zygote", daemon=True
        ).start()

    def _keep(self, theirs: socket.socket) -> None:
        with theirs:
            number = theirs.fileno()
            module = "hyperlight_core.isolation.zygote"
            process = subprocess.Popen(
                [sys.executable, "-I", "-m", module, str(number), str(self.owner)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[number],
                cwd="/",
                env={},
                start_new_session=True,
            )
        process.wait()

    def fork(self, message: bytes, files: Sequence[int]) -> int:
        """A descriptor of a new process, pidfd_open(2).

        Raises:
            BrokenPipeError: the zygote has ended.
            HypervisorError: the new process has, already.
        """
        socket.send_fds(self._requests, [message], files)
        answer, received, _, _ = socket.recv_fds(self._requests, 16, 1)
        if not answer:
            raise BrokenPipeError
        if not received:
            raise HypervisorError(errno.ESRCH, "the process of the VM ended at its start")
        return received[0]


_zygote: _Zygote | None = None
_lock = threading.Lock()


def _fork(message: bytes, files: Sequence[int]) -> int:
    global _zygote  # noqa: PLW0603 - one for the process, made when it is first needed
    with _lock:
        if _zygote is None or _zygote.owner != os.getpid():
            _zygote = _Zygote()
        try:
            return _zygote.fork(message, files)
        except (BrokenPipeError, ConnectionResetError):
            _zygote = _Zygote()  # nobody's VMs are left that the old one made
            return _zygote.fork(message, files)


class Process:
    """A process with a VM; it is ended when this object is gone.

    Args:
        message: what VM to make.
        files: descriptors for it, behind those of its two sockets.

    Attributes:
        control: what is asked for one after the other.
        second: what is asked for while the guest runs.
    """

    def __init__(self, message: bytes, files: Sequence[int]) -> None:
        self.control, control = protocol.pair()
        self.second, second = protocol.pair()
        self._asking = threading.Lock()
        with control, second:
            try:
                self._descriptor = _fork(message, [control.fileno(), second.fileno(), *files])
            except BaseException:
                self.control.close()
                self.second.close()
                raise
        self._end = weakref.finalize(
            self, _end, os.getpid(), self._descriptor, self.control, self.second
        )

    @property
    def descriptor(self) -> int:
        """Of the process, pidfd_open(2)."""
        return self._descriptor

    def end(self) -> None:
        """End it at once, whatever it does."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)

    def close_vm(self) -> None:
        """Have the VM's memory freed; the snapshots stay."""
        with contextlib.suppress(OSError):
            self.control.send(protocol.REQUEST.pack(protocol.Op.CLOSE, 0, 0, 0, 0), _NO_WAIT)

    def send_second(self, *words: int) -> None:
        """Say something that has no answer, unless the process has ended."""
        message = protocol.REQUEST.pack(*words, *[0] * (5 - len(words)))
        with contextlib.suppress(OSError):
            self.second.send(message, _NO_WAIT)

    def ask_second(
        self, words: Sequence[int], files: Sequence[int], patience: float
    ) -> protocol.Reply:
        """Ask for something, with a descriptor, while the guest may run.

        Raises:
            HyperlightError: what it answers.
        """
        with self._asking:
            self.second.settimeout(patience)
            try:
                message = protocol.REQUEST.pack(*words, *[0] * (5 - len(words)))
                socket.send_fds(self.second, [message], files)
                reply = protocol.parse_reply(self.second.recv(protocol.MESSAGE_LIMIT))
            except OSError as error:
                self.end()
                raise HypervisorError(32, "the process of the VM has ended") from error
        if reply.code:
            raise protocol.error_of(reply)
        return reply


def _end(owner: int, descriptor: int, *sockets: socket.socket) -> None:
    """A fork of the owner has copies of all of these, and is not to end what is not its own."""
    if os.getpid() == owner:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    os.close(descriptor)
    for item in sockets:
        item.close()
