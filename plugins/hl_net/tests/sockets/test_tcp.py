"""TCP: connections out, listening, waiting."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest

POLLIN, POLLOUT, POLLERR, POLLHUP, POLLNVAL = 1, 4, 8, 16, 32


def test_bytes_go_out_and_come_back(make_guest: Any, echo: Any) -> None:
    guest = make_guest(allow=f"tcp://127.0.0.1:{echo.port}")
    handle = guest.connect("127.0.0.1", echo.port)
    assert guest.call("net.send", b"hello", handle=handle)["size"] == 5
    assert guest.receive_exactly(handle, 5) == b"hello"


def test_connecting_never_blocks(make_guest: Any, echo: Any) -> None:
    guest = make_guest(allow=f"tcp://127.0.0.1:{echo.port}")
    handle = guest.socket()
    target = {"handle": handle, "address": "127.0.0.1", "port": echo.port}
    assert guest.refused("net.connect", **target).errno == "EINPROGRESS"
    assert guest.poll(handle, POLLOUT) == POLLOUT
    guest.call("net.connect", **target)  # done
    assert guest.refused("net.connect", **target).errno == "EISCONN"


def test_ipv6(make_guest: Any, serve: Any) -> None:
    server = serve(lambda connection: connection.sendall(connection.recv(9)), "::1")
    guest = make_guest(allow=f"tcp://[::1]:{server.port}")
    handle = guest.connect("::1", server.port, family="inet6")
    guest.call("net.send", b"six", handle=handle)
    assert guest.receive_exactly(handle, 3) == b"six"
    assert guest.call("net.getpeername", handle=handle).result == {
        "address": "::1",
        "port": server.port,
    }


def test_mapped_address_is_the_ipv4_one(make_guest: Any, echo: Any) -> None:
    guest = make_guest(allow=f"tcp://127.0.0.1:{echo.port}")
    handle = guest.connect("::ffff:127.0.0.1", echo.port, family="inet6")
    guest.call("net.send", b"x", handle=handle)
    assert guest.receive(handle) == b"x"


def test_refusal_names_the_missing_rule(make_guest: Any, echo: Any) -> None:
    guest = make_guest(allow="all")
    handle = guest.socket()
    error = guest.refused("net.connect", handle=handle, address="127.0.0.1", port=echo.port)
    assert (error.errno, error.code) == ("EACCES", -32001)
    assert error.rule == f"tcp://127.0.0.1:{echo.port}"
    assert echo.connections == 0


def test_refused_connection_shows_in_poll(make_guest: Any) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        guest = make_guest(allow=f"tcp://127.0.0.1:{port}")
        handle = guest.socket()
        guest.refused("net.connect", handle=handle, address="127.0.0.1", port=port)
        assert guest.poll(handle, POLLOUT) & POLLERR
        value = guest.call("net.getsockopt", handle=handle, option="SO_ERROR")["value"]
    assert value == 111  # ECONNREFUSED, errno(3)


def test_nothing_to_receive_is_eagain(make_guest: Any, black_hole: Any) -> None:
    guest = make_guest(allow=f"tcp://127.0.0.1:{black_hole.port}")
    handle = guest.connect("127.0.0.1", black_hole.port)
    assert guest.refused("net.recv", handle=handle, size=10).errno == "EAGAIN"


def test_full_buffer_is_eagain(make_guest: Any, serve: Any) -> None:
    reading = threading.Event()

    def run(connection: Any) -> None:
        reading.wait(20)
        while connection.recv(1 << 16):
            pass

    server = serve(run)
    guest = make_guest(allow=f"tcp://127.0.0.1:{server.port}")
    handle = guest.connect("127.0.0.1", server.port)
    with pytest.raises(Exception, match="temporarily unavailable"):
        _send_until_refused(guest, handle)
    assert guest.poll(handle, POLLOUT, 0) == 0
    reading.set()
    assert guest.poll(handle, POLLOUT) == POLLOUT


def _send_until_refused(guest: Any, handle: int) -> None:
    while True:
        guest.call("net.send", b"x" * 500_000, handle=handle)


def test_end_of_a_connection_is_nothing_received(make_guest: Any, serve: Any) -> None:
    server = serve(lambda connection: connection.sendall(b"bye"))
    guest = make_guest(allow=f"tcp://127.0.0.1:{server.port}")
    handle = guest.connect("127.0.0.1", server.port)
    assert guest.receive_exactly(handle, 3) == b"bye"
    assert guest.receive(handle) == b""


def test_half_closed_connection_still_receives(make_guest: Any, echo: Any) -> None:
    guest = make_guest(allow=f"tcp://127.0.0.1:{echo.port}")
    handle = guest.connect("127.0.0.1", echo.port)
    guest.call("net.send", b"last", handle=handle)
    guest.call("net.shutdown", handle=handle, how="write")
    assert guest.receive_exactly(handle, 4) == b"last"
    assert guest.receive(handle) == b""
    assert guest.refused("net.send", b"x", handle=handle).errno == "EPIPE"


def test_guest_serves_on_a_granted_port(make_guest: Any) -> None:
    guest = make_guest(listen=[0])
    listener = guest.socket()
    guest.call("net.bind", handle=listener, address="0.0.0.0", port=0)  # noqa: S104
    guest.call("net.listen", handle=listener, backlog=5)
    name = guest.call("net.getsockname", handle=listener)
    assert name["address"] == "127.0.0.1"
    assert guest.refused("net.accept", handle=listener).errno == "EAGAIN"
    with socket.create_connection(("127.0.0.1", name["port"]), 20) as client:
        assert guest.poll(listener, POLLIN) == POLLIN
        accepted = guest.call("net.accept", handle=listener)
        assert accepted["port"] == client.getsockname()[1]
        client.sendall(b"ping")
        assert guest.receive_exactly(accepted["handle"], 4) == b"ping"
        guest.call("net.send", b"pong", handle=accepted["handle"])
        assert client.recv(4) == b"pong"


def test_listening_needs_a_rule(make_guest: Any) -> None:
    guest = make_guest(listen=[1])
    handle = guest.socket()
    error = guest.refused("net.bind", handle=handle, address="127.0.0.1", port=8080)
    assert (error.errno, error.rule) == ("EACCES", "tcp://127.0.0.1:8080")
    assert guest.refused("net.listen", handle=guest.socket(), backlog=1).errno == "EACCES"


def test_binding_to_any_port_and_connecting_is_no_listening(make_guest: Any, echo: Any) -> None:
    guest = make_guest(allow=f"tcp://127.0.0.1:{echo.port}")
    handle = guest.socket()
    guest.call("net.bind", handle=handle, address="0.0.0.0", port=0)  # noqa: S104
    assert guest.refused("net.listen", handle=handle, backlog=1).errno == "EACCES"
    target = {"address": "127.0.0.1", "port": echo.port}
    assert guest.refused("net.connect", handle=handle, **target).errno == "EINPROGRESS"
    assert guest.poll(handle, POLLOUT) == POLLOUT


def test_hosts_address_is_not_shown(make_guest: Any, echo: Any) -> None:
    guest = make_guest(allow=f"tcp://127.0.0.1:{echo.port}")
    handle = guest.connect("127.0.0.1", echo.port)
    name = guest.call("net.getsockname", handle=handle)
    assert name["address"] == "0.0.0.0"  # noqa: S104
    assert name["port"] > 0


@pytest.mark.parametrize(
    ("option", "value"), [("SO_KEEPALIVE", 1), ("TCP_NODELAY", 1), ("TCP_KEEPIDLE", 30)]
)
def test_option_of_the_allow_list(make_guest: Any, option: str, value: int) -> None:
    guest = make_guest()
    handle = guest.socket()
    guest.call("net.setsockopt", handle=handle, option=option, value=value)
    assert guest.call("net.getsockopt", handle=handle, option=option)["value"] == value


@pytest.mark.parametrize(
    ("option", "value", "errno"),
    [
        ("SO_BINDTODEVICE", 1, "ENOPROTOOPT"),
        ("SO_REUSEPORT", 1, "ENOPROTOOPT"),
        ("SO_BROADCAST", 1, "ENOPROTOOPT"),
        ("SO_MARK", 1, "ENOPROTOOPT"),
        ("IP_TTL", 1, "ENOPROTOOPT"),
        ("SO_ERROR", 1, "ENOPROTOOPT"),
        ("SO_KEEPALIVE", 2, "EINVAL"),
        ("SO_RCVBUF", 1 << 30, "EINVAL"),
        ("SO_SNDBUF", -1, "EINVAL"),
    ],
)
def test_other_options_are_refused(make_guest: Any, option: str, value: int, errno: str) -> None:
    guest = make_guest()
    error = guest.refused("net.setsockopt", handle=guest.socket(), option=option, value=value)
    assert error.errno == errno


def test_address_reuse_is_not_passed_on(make_guest: Any) -> None:
    """Two programs that set it may share a UDP port."""
    guest = make_guest()
    handle = guest.socket("dgram")
    guest.call("net.setsockopt", handle=handle, option="SO_REUSEADDR", value=1)
    assert guest.call("net.getsockopt", handle=handle, option="SO_REUSEADDR")["value"] == 0


def test_poll_waits_for_several_sockets(make_guest: Any, serve: Any) -> None:
    speak = threading.Event()

    def run(connection: Any) -> None:
        speak.wait(20)
        connection.sendall(b"now")
        connection.recv(1)

    server = serve(run)
    guest = make_guest(allow=f"tcp://127.0.0.1:{server.port}")
    handles = [guest.connect("127.0.0.1", server.port) for _ in range(3)]
    interest = [[handle, POLLIN] for handle in handles]
    assert guest.call("net.poll", interest=interest, timeout_ms=0)["ready"] == []
    speak.set()
    seen: set[int] = set()
    while seen != set(handles):
        waiting = [[handle, POLLIN] for handle in handles if handle not in seen]
        seen |= {pair[0] for pair in guest.call("net.poll", interest=waiting)["ready"]}


def test_poll_returns_when_the_time_is_up(make_guest: Any, black_hole: Any) -> None:
    guest = make_guest(allow=f"tcp://127.0.0.1:{black_hole.port}")
    handle = guest.connect("127.0.0.1", black_hole.port)
    begun = time.monotonic()
    assert guest.poll(handle, POLLIN, 50) == 0
    assert time.monotonic() - begun >= 0.05


def test_poll_ends_when_the_sandbox_is_killed(make_guest: Any, black_hole: Any) -> None:
    guest = make_guest(allow=f"tcp://127.0.0.1:{black_hole.port}")
    handle = guest.connect("127.0.0.1", black_hole.port)
    killer = threading.Timer(0.05, guest.kill)
    killer.start()
    error = guest.refused("net.poll", interest=[[handle, POLLIN]], timeout_ms=None)
    killer.join()
    assert error.errno == "EINTR"


def test_poll_says_which_handles_are_none(make_guest: Any) -> None:
    ready = make_guest().call("net.poll", interest=[[99, POLLIN]], timeout_ms=None)["ready"]
    assert ready == [[99, POLLNVAL]]


def test_closed_handle_means_nothing(make_guest: Any) -> None:
    guest = make_guest()
    handle = guest.socket()
    guest.call("net.close", handle=handle)
    assert guest.refused("net.close", handle=handle).errno == "EBADF"
    assert guest.refused("net.recv", handle=handle, size=1).errno == "EBADF"
    assert guest.socket() != handle


@pytest.mark.parametrize(
    "params",
    [
        {"address": "localhost", "port": 80},
        {"address": "127.1", "port": 80},
        {"address": "fe80::1%lo", "port": 80},
        {"address": "", "port": 80},
        {"address": "127.0.0.1", "port": -1},
        {"address": "127.0.0.1", "port": 65536},
        {"address": "127.0.0.1", "port": "80"},
        {"address": "127.0.0.1", "port": 80.0},
        {"address": "127.0.0.1"},
        {"address": "127.0.0.1", "port": 80, "extra": 1},
    ],
)
def test_malformed_parameters_are_refused(make_guest: Any, params: dict[str, Any]) -> None:
    guest = make_guest(allow="all")
    assert guest.refused("net.connect", handle=guest.socket(), **params).code == -32602


def test_ipv6_address_is_not_for_an_ipv4_socket(make_guest: Any) -> None:
    guest = make_guest(allow="tcp://[::1]:80")
    error = guest.refused("net.connect", handle=guest.socket(), address="::1", port=80)
    assert error.errno == "EAFNOSUPPORT"


def test_closing_the_sandbox_closes_its_connections(make_guest: Any, serve: Any) -> None:
    closed = threading.Event()

    def run(connection: Any) -> None:
        if connection.recv(1) == b"":
            closed.set()

    server = serve(run)
    guest = make_guest(allow=f"tcp://127.0.0.1:{server.port}")
    guest.connect("127.0.0.1", server.port)
    guest.close()
    assert closed.wait(20)
