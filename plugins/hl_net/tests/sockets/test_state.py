"""Sockets and requests follow the state of their sandbox."""

from __future__ import annotations

import socket
import threading
from typing import Any

from hyperlight_core.hookspecs import SnapshotToken

POLLIN, POLLOUT, POLLERR, POLLHUP, POLLNVAL = 1, 4, 8, 16, 32


def _restore(guest: Any, token: Any) -> None:
    guest.plugin.snapshot_restored(token)


def _is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def _listen(guest: Any) -> tuple[int, int]:
    handle = guest.socket()
    guest.call("net.bind", handle=handle, address="127.0.0.1", port=0)
    guest.call("net.listen", handle=handle, backlog=5)
    return handle, guest.call("net.getsockname", handle=handle)["port"]


def test_socket_opened_after_the_snapshot_is_closed(
    make_guest: Any, snapshot: Any, serve: Any
) -> None:
    closed = threading.Event()

    def run(connection: Any) -> None:
        if connection.recv(1) == b"":
            closed.set()

    server = serve(run)
    guest = make_guest(allow=f"tcp://127.0.0.1:{server.port}")
    token = snapshot(guest)
    handle = guest.connect("127.0.0.1", server.port)
    _restore(guest, token)
    assert closed.wait(20)
    assert guest.refused("net.send", b"x", handle=handle).errno == "EBADF"
    assert guest.poll(handle, POLLIN) == POLLNVAL


def test_socket_open_at_the_snapshot_reads_as_reset(
    make_guest: Any, snapshot: Any, echo: Any
) -> None:
    guest = make_guest(allow=f"tcp://127.0.0.1:{echo.port}")
    handle = guest.connect("127.0.0.1", echo.port)
    token = snapshot(guest)
    guest.call("net.send", b"still fine", handle=handle)
    _restore(guest, token)
    assert guest.poll(handle, POLLIN) == POLLIN | POLLERR | POLLHUP
    assert guest.refused("net.recv", handle=handle, size=1).errno == "ECONNRESET"
    assert guest.refused("net.send", b"x", handle=handle).errno == "ECONNRESET"
    value = guest.call("net.getsockopt", handle=handle, option="SO_ERROR")["value"]
    assert value == 104  # ECONNRESET, errno(3)
    guest.call("net.close", handle=handle)


def test_request_open_at_the_snapshot_reads_as_reset(
    make_guest: Any, snapshot: Any, serve: Any
) -> None:
    def run(connection: Any) -> None:
        connection.recv(1 << 16)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
        connection.recv(1)

    url = f"http://127.0.0.1:{serve(run).port}/"
    guest = make_guest(allow=url)
    handle = guest.get(url)["handle"]
    token = snapshot(guest)
    _restore(guest, token)
    assert guest.refused("net.response_read", handle=handle, size=1).errno == "ECONNRESET"
    guest.call("net.close", handle=handle)


def test_handle_numbers_are_never_used_twice(make_guest: Any, snapshot: Any) -> None:
    guest = make_guest()
    token = snapshot(guest)
    stale = guest.socket()
    _restore(guest, token)
    assert guest.socket() > stale


def test_listener_is_bound_again(make_guest: Any, snapshot: Any) -> None:
    """On the same port, and without those who connected meanwhile."""
    guest = make_guest(listen=[0])
    handle, port = _listen(guest)
    token = snapshot(guest)
    with socket.create_connection(("127.0.0.1", port), 20) as before:
        _restore(guest, token)
        assert _is_closed(before)
        assert guest.call("net.getsockname", handle=handle)["port"] == port
        assert guest.refused("net.accept", handle=handle).errno == "EAGAIN"
        with socket.create_connection(("127.0.0.1", port), 20) as after:
            guest.poll(handle, POLLIN)
            accepted = guest.call("net.accept", handle=handle)
            assert accepted["port"] == after.getsockname()[1]


def test_clone_gets_the_listener_once_its_origin_is_gone(make_guest: Any, snapshot: Any) -> None:
    origin = make_guest(listen=[0])
    handle, port = _listen(origin)
    token = snapshot(origin)
    early = make_guest(listen=[0])
    _restore(early, token)
    assert early.refused("net.accept", handle=handle).errno == "ECONNRESET"
    origin.close()
    late = make_guest(listen=[0])
    _restore(late, token)
    assert late.call("net.getsockname", handle=handle)["port"] == port


def test_listener_stays_away_where_it_is_not_granted(make_guest: Any, snapshot: Any) -> None:
    origin = make_guest(listen=[0])
    handle, _ = _listen(origin)
    token = snapshot(origin)
    origin.close()
    clone = make_guest(listen=[])
    _restore(clone, token)
    assert clone.refused("net.accept", handle=handle).errno == "ECONNRESET"


def test_bound_datagram_socket_is_bound_again(make_guest: Any, snapshot: Any) -> None:
    guest = make_guest(listen=["udp://0"])
    handle = guest.socket("dgram")
    guest.call("net.bind", handle=handle, address="127.0.0.1", port=0)
    port = guest.call("net.getsockname", handle=handle)["port"]
    token = snapshot(guest)
    _restore(guest, token)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.sendto(b"x", ("127.0.0.1", port))
        assert guest.receive(handle) == b"x"


def test_restored_name_may_still_be_connected_to(
    make_guest: Any, snapshot: Any, echo: Any, dns_stub: Any
) -> None:
    """The guest's memory holds addresses that it resolved before the snapshot."""
    dns_stub.answer("a.test", ["127.0.0.1"])
    configuration = {
        "allow": f"tcp://a.test:{echo.port} via 127.0.0.1/32",
        "nameservers": [dns_stub.server],
    }
    origin = make_guest(**configuration)
    origin.call("net.resolve", name="a.test")
    token = snapshot(origin)
    clone = make_guest(**configuration)
    target = {"address": "127.0.0.1", "port": echo.port}
    assert clone.refused("net.connect", handle=clone.socket(), **target).errno == "EACCES"
    _restore(clone, token)
    handle = clone.connect("127.0.0.1", echo.port)
    clone.call("net.send", b"x", handle=handle)
    assert clone.receive(handle) == b"x"


def test_one_snapshot_serves_several_restores(make_guest: Any, snapshot: Any) -> None:
    guest = make_guest(listen=[0])
    handle, port = _listen(guest)
    token = snapshot(guest)
    for _ in range(3):
        guest.socket()
        _restore(guest, token)
        assert guest.call("net.getsockname", handle=handle)["port"] == port


def test_snapshot_without_the_plugin_closes_everything(make_guest: Any) -> None:
    guest = make_guest()
    handle = guest.socket()
    _restore(guest, SnapshotToken())
    assert guest.refused("net.close", handle=handle).errno == "EBADF"
