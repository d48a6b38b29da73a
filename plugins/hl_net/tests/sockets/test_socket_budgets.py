"""Budgets of sockets hold to the byte; over budget is an error and a closed socket."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest

POLLIN, POLLOUT, POLLERR, POLLHUP = 1, 4, 8, 16


def _allow(server: Any) -> str:
    return f"tcp://127.0.0.1:{server.port}"


def test_sent_bytes_hold_to_the_byte(make_guest: Any, serve: Any) -> None:
    received, done = [], threading.Event()

    def run(connection: Any) -> None:
        while data := connection.recv(1 << 16):
            received.append(data)
        done.set()

    server = serve(run)
    guest = make_guest(allow=_allow(server), budgets={"sent_bytes": 1000})
    handle = guest.connect("127.0.0.1", server.port)
    assert guest.call("net.send", b"x" * 900, handle=handle)["size"] == 900
    assert guest.call("net.send", b"x" * 900, handle=handle)["size"] == 100
    error = guest.refused("net.send", b"x", handle=handle)
    assert (error.code, error.errno, error.data["budget"]) == (-32002, "EDQUOT", "sent_bytes")
    assert done.wait(20)  # the connection was closed
    assert sum(map(len, received)) == 1000


def test_received_bytes_hold_to_the_byte(make_guest: Any, serve: Any) -> None:
    server = serve(lambda connection: connection.sendall(b"x" * 5000))
    guest = make_guest(allow=_allow(server), budgets={"received_bytes": 1000})
    handle = guest.connect("127.0.0.1", server.port)
    assert len(guest.receive_exactly(handle, 1000)) == 1000
    assert guest.refused("net.recv", handle=handle, size=10).errno == "EDQUOT"
    assert guest.poll(handle, POLLIN) == POLLIN | POLLERR | POLLHUP
    value = guest.call("net.getsockopt", handle=handle, option="SO_ERROR")["value"]
    assert value == 122  # EDQUOT, errno(3)


def test_open_handles_have_a_limit(make_guest: Any) -> None:
    guest = make_guest(budgets={"open_handles": 3})
    handles = [guest.socket() for _ in range(3)]
    error = guest.refused("net.socket", family="inet", type="stream")
    assert (error.errno, error.data["budget"]) == ("EMFILE", "open_handles")
    guest.call("net.close", handle=handles[0])
    guest.socket()


def test_connections_of_a_run_have_a_limit(make_guest: Any, echo: Any) -> None:
    guest = make_guest(allow=_allow(echo), budgets={"connections": 2})
    for run in (1, 2):
        guest.run = run
        for _ in range(2):
            guest.call("net.close", handle=guest.connect("127.0.0.1", echo.port))
        target = {"address": "127.0.0.1", "port": echo.port}
        error = guest.refused("net.connect", handle=guest.socket(), **target)
        assert error.data["budget"] == "connections"


@pytest.mark.parametrize("budget", ["idle_seconds", "total_seconds"])
def test_silent_connection_is_closed(make_guest: Any, black_hole: Any, budget: str) -> None:
    guest = make_guest(allow=_allow(black_hole), budgets={budget: 0.1})
    handle = guest.connect("127.0.0.1", black_hole.port)
    assert guest.poll(handle, POLLIN, None) == POLLIN | POLLERR | POLLHUP
    error = guest.refused("net.recv", handle=handle, size=1)
    assert (error.errno, error.data["budget"]) == ("ETIMEDOUT", budget)


def test_connecting_has_a_deadline(make_guest: Any) -> None:
    """A listener whose backlog is full answers no further connection."""
    with socket.socket() as listener, socket.socket() as filler:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        filler.connect(listener.getsockname())
        port = listener.getsockname()[1]
        guest = make_guest(allow=f"tcp://127.0.0.1:{port}", budgets={"connect_seconds": 0.1})
        handle = guest.socket()
        guest.refused("net.connect", handle=handle, address="127.0.0.1", port=port)
        assert guest.poll(handle, POLLOUT, None) == POLLOUT | POLLERR | POLLHUP
        value = guest.call("net.getsockopt", handle=handle, option="SO_ERROR")["value"]
    assert value == 110  # ETIMEDOUT, errno(3)


def test_connection_that_was_made_unnoticed_has_no_connect_deadline(
    make_guest: Any, echo: Any
) -> None:
    """The guest was busy, never polled, and its connection was ready long ago."""
    guest = make_guest(allow=_allow(echo), budgets={"connect_seconds": 0.05})
    handle = guest.socket()
    guest.refused("net.connect", handle=handle, address="127.0.0.1", port=echo.port)
    threading.Event().wait(0.1)
    guest.call("net.send", b"x", handle=handle)
    assert guest.receive(handle) == b"x"


def test_accepted_connections_count(make_guest: Any) -> None:
    guest = make_guest(listen=[0], budgets={"connections": 1})
    listener = guest.socket()
    guest.call("net.bind", handle=listener, address="127.0.0.1", port=0)
    guest.call("net.listen", handle=listener, backlog=5)
    address = ("127.0.0.1", guest.call("net.getsockname", handle=listener)["port"])
    with socket.create_connection(address, 20), socket.create_connection(address, 20) as second:
        guest.poll(listener, POLLIN)
        guest.call("net.accept", handle=listener)
        guest.poll(listener, POLLIN)
        assert guest.refused("net.accept", handle=listener).data["budget"] == "connections"
        assert second.recv(1) == b""
