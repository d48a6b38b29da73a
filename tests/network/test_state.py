"""A guest's sockets follow the state of its sandbox."""

from __future__ import annotations

import socket
from typing import Any

import pytest

pytestmark = pytest.mark.kvm

CONNECT = (
    "import socket\ns = socket.create_connection(('127.0.0.1', {port}))\ns.send(b'x')\ns.recv(1)"
)
SEND = """
try:
    s.send(b"y")
    print(s.recv(1))
except ConnectionResetError:
    print("reset")
"""


def test_a_reset_closes_connections(online: Any, echo: Any) -> None:
    guest = online(allow=f"tcp://127.0.0.1:{echo.port}")
    assert guest.run(CONNECT.format(port=echo.port)).stderr == ""
    guest.reset()
    echo.finished(20)


def test_a_connection_of_a_snapshot_reads_as_reset(run: Any, online: Any, echo: Any) -> None:
    guest = online(allow=f"tcp://127.0.0.1:{echo.port}")
    assert guest.run(CONNECT.format(port=echo.port)).stderr == ""
    snapshot = guest.snapshot()
    assert run(guest, SEND) == ["b'y'"]
    guest.restore(snapshot)
    assert run(guest, SEND) == ["reset"]
    echo.finished(20)


def test_a_wait_from_before_a_restore_ends(run: Any, online: Any, black_hole: Any) -> None:
    """A thread that waited for a connection hears of its end."""
    code = """
        import socket, threading
        heard = []
        def wait():
            try:
                s.recv(1)
            except ConnectionResetError:
                heard.append("reset")
        s = socket.create_connection(("127.0.0.1", port))
        waiter = threading.Thread(target=wait)
        waiter.start()
    """
    guest = online(allow=f"tcp://127.0.0.1:{black_hole.port}")
    run(guest, code, port=black_hole.port)
    guest.restore(guest.snapshot())
    assert run(guest, "waiter.join(); print(heard)") == ["['reset']"]


def test_a_listener_listens_again(run: Any, online: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    guest = online(listen=[port])
    code = "import socket; s = socket.create_server(('127.0.0.1', port))"
    run(guest, code, port=port)
    snapshot = guest.snapshot()
    run(guest, "s.close()")
    guest.restore(snapshot)
    with socket.create_connection(("127.0.0.1", port)) as client:
        run(guest, "c, _ = s.accept(); c.sendall(b'again'); c.close()")
        assert client.recv(9) == b"again"
