"""The process that the processes of VMs are forked from: it has loaded what they need, and no more.

It is started as a program, so that nothing of who started it is in its memory, and has one thread.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys

from hyperlight_core.isolation import confine
from hyperlight_core.isolation.child import Files, serve
from hyperlight_core.isolation.protocol import CREATE, MESSAGE_LIMIT

__all__ = ["main"]


def main(number: int, parent: int) -> None:
    """Make processes until the socket `number` closes or `parent` ends."""
    confine.die_with_parent(parent)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that nobody need wait for them, wait(2)
    gc.freeze()
    requests = socket.socket(fileno=number)
    while True:
        message, files, _, _ = socket.recv_fds(requests, MESSAGE_LIMIT, len(Files._fields))
        if not message:
            return
        _fork(requests, message, files)
        for file in files:
            os.close(file)


def _fork(requests: socket.socket, message: bytes, files: list[int]) -> None:
    me = os.getpid()
    child = os.fork()
    if not child:
        _become_child(me, message, files)
    try:
        descriptor = os.pidfd_open(child)
    except ProcessLookupError:
        requests.send(b"ended")
        return
    socket.send_fds(requests, [b"made"], [descriptor])
    os.close(descriptor)


def _become_child(zygote: int, message: bytes, files: list[int]) -> None:
    try:
        confine.die_with_parent(zygote)
        *_, has_program, has_image = CREATE.unpack(message)
        optional = iter(files[3:])
        program = next(optional) if has_program else -1
        image = next(optional) if has_image else -1
        serve(message, Files._make((*files[:3], program, image)))
    finally:
        os._exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
