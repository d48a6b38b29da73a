"""A guest whose snapshot goes to disk loses what the host had open for it."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from hyperlight_core import Sandbox, load_snapshot

pytestmark = pytest.mark.kvm

OPEN = """
import os, socket
file = open("/data/file", "rb", buffering=0)
folder = os.open("/data", os.O_RDONLY)
connection = socket.create_connection(("127.0.0.1", port))
connection.send(b"x"), connection.recv(1)
listener = socket.create_server(("127.0.0.1", listening))
"""
LOST = """
import errno
new = open("/data/other", "rb", buffering=0)
fresh = socket.create_connection(("127.0.0.1", port))
def tried(call, *arguments):
    try: return call(*arguments)
    except OSError as error: return errno.errorcode[error.errno]
print(tried(file.read), tried(os.fstat, folder), tried(os.listdir, folder))
print(tried(connection.recv, 1), tried(connection.send, b"x"))
print(new.read(), fresh.send(b"y"), fresh.recv(1))
tried(file.close), tried(os.close, folder), connection.close()
print(file.closed, open("/data/file").read())
"""


def test_what_was_open_is_lost_in_another_process_and_never_something_else(
    tmp_path: Path, echo: Any, free_port: int
) -> None:
    """Files are stale, connections reset, listeners listen again; new ones are what they should."""
    (tmp_path / "data").mkdir()
    for name in ("file", "other"):
        (tmp_path / "data" / name).write_text(name)
    plugins = {
        "fs": {"mounts": [{"host": str(tmp_path / "data"), "guest": "/data"}]},
        "net": {"allow": f"tcp://127.0.0.1:{echo.port}", "listen": [free_port]},
    }
    with Sandbox(plugins=plugins) as sandbox:
        opened = sandbox.run(f"port, listening = {echo.port}, {free_port}\n{OPEN}")
        assert (opened.stderr, opened.exit_code) == ("", 0)
        sandbox.snapshot().save(tmp_path / "saved")
    with Sandbox(plugins=plugins, start=load_snapshot(tmp_path / "saved")) as sandbox:
        for _ in range(2):
            lost = sandbox.run(LOST)
            assert (lost.stderr, lost.stdout.splitlines()) == (
                "",
                [
                    "ESTALE ESTALE ESTALE",
                    "ECONNRESET ECONNRESET",
                    "b'other' 1 b'y'",
                    "True file",
                ],
            )
            sandbox.reset()
        with socket.create_connection(("127.0.0.1", free_port), 20) as client:
            sandbox.run("c, _ = listener.accept(); c.sendall(b'again'); c.close()")
            assert client.recv(9) == b"again"
