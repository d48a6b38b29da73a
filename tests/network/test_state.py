"""A guest's sockets follow the state of its sandbox."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from hyperlight_core.errors import SandboxKilledError, SandboxTimeoutError

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


@pytest.mark.parametrize("wait", ["s.recv(1)", "select.select([s], [], [])", "lookup()"])
def test_a_waiting_guest_is_stopped_in_time(sandbox: Any, black_hole: Any, wait: str) -> None:
    """Also while the host waits for it; afterwards it works as before."""
    silent = f"127.0.0.1:{black_hole.port}"
    network = {"allow": [f"tcp://{silent}", "tcp://slow.test:80"], "nameservers": [silent]}
    guest = sandbox("python", plugins={"net": network}, timeout=0.3)
    code = f"""
import select, socket
lookup = lambda: socket.getaddrinfo("slow.test", 80)
s = socket.create_connection(("127.0.0.1", {black_hole.port}))
{wait}
"""
    with pytest.raises(SandboxTimeoutError):
        guest.run(code)
    guest.reset()
    assert guest.run("print('back')").stdout == "back\n"


def test_a_waiting_guest_is_killed(online: Any, black_hole: Any) -> None:
    waiting = threading.Event()
    functions = {"waiting": waiting.set}
    guest = online(
        allow=f"tcp://127.0.0.1:{black_hole.port}", plugins={"tools": {"functions": functions}}
    )
    code = f"""
import hyperlight, socket
s = socket.create_connection(("127.0.0.1", {black_hole.port}))
hyperlight.tools.waiting()
s.recv(1)
"""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(guest.run, code)
        assert waiting.wait(60)
        guest.kill()
        with pytest.raises(SandboxKilledError):
            running.result(60)
