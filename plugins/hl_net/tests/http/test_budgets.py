"""Budgets of HTTP hold to the byte, and deadlines end every wait."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

Servers = Callable[..., Any]


def _drip(connection: Any, stopping: Any) -> None:
    """A head at once, then a byte after another until the test ends."""
    connection.recv(1 << 16)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while not stopping.wait(0.02):
        connection.sendall(b".")


@pytest.mark.parametrize(("limit", "fits"), [(5000, True), (4999, False)])
def test_response_has_a_size_limit(make_guest: Any, nginx: Any, limit: int, fits: bool) -> None:
    (nginx.files / "sized").write_bytes(b"x" * 5000)
    origin = f"http://127.0.0.1:{nginx.http}"
    guest = make_guest(allow=origin, budgets={"response_bytes": limit})
    if fits:
        assert guest.fetch(f"{origin}/sized") == (200, b"x" * 5000)
    else:
        reply = guest.get(f"{origin}/sized")
        assert reply.attachment == b"x" * limit
        error = guest.refused("net.response_read", handle=reply["handle"], size=1)
        assert error.data["budget"] == "response_bytes"


@pytest.mark.parametrize("streamed", [False, True])
def test_request_has_a_size_limit(make_guest: Any, http_server: Servers, streamed: bool) -> None:
    server = http_server()
    guest = make_guest(allow=server.url(), budgets={"request_bytes": 100})

    def post(size: int) -> None:
        if not streamed:
            body = {"method": "POST", "url": server.url(), "body": "attached"}
            guest.call("net.request", b"x" * size, **body)
            return
        opened = guest.call("net.request", method="POST", url=server.url(), body="streamed")
        guest.call("net.request_write", b"x" * size, handle=opened["handle"], end=True)
        guest.call("net.response", handle=opened["handle"])

    post(100)
    with pytest.raises(Exception, match="request_bytes"):
        post(101)
    assert [len(seen.body) for seen in server.seen] == [100]


def test_bytes_of_a_run_are_counted_on_the_wire(make_guest: Any, serve: Servers) -> None:
    """Of a response that is larger than the budget, just the budget is read."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"

    def respond(connection: Any) -> None:
        connection.recv(1 << 16)
        connection.sendall(head + b"x" * 100_000)
        connection.recv(1)

    server = serve(respond)
    url = f"http://127.0.0.1:{server.port}/"
    guest = make_guest(allow=url, budgets={"received_bytes": 10_000})
    reply = guest.get(url)
    received = len(reply.attachment)
    while received + len(head) < 10_000:
        received += guest.call("net.response_read", handle=reply["handle"], size=997)["size"]
    assert received + len(head) == 10_000
    error = guest.refused("net.response_read", handle=reply["handle"], size=997)
    assert error.data["budget"] == "received_bytes"
    error = guest.refused("net.request", method="GET", url=url)
    assert error.data == {"budget": "received_bytes", "limit": 10_000, "errno": "EDQUOT"}


def test_next_run_has_budgets_of_its_own(make_guest: Any, http_server: Servers) -> None:
    server = http_server()
    guest = make_guest(allow=server.url(), budgets={"connections": 2})
    for run in (1, 2):
        guest.run = run
        for _ in range(2):
            guest.get(server.url())
        error = guest.refused("net.request", method="GET", url=server.url())
        assert error.data["budget"] == "connections"


def test_requests_in_flight_have_a_limit(make_guest: Any, serve: Servers) -> None:
    def respond(connection: Any) -> None:
        connection.recv(1 << 16)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        connection.recv(1)

    url = f"http://127.0.0.1:{serve(respond).port}/"
    guest = make_guest(allow=url, budgets={"requests_in_flight": 2})
    handles = [guest.get(url)["handle"] for _ in range(2)]
    error = guest.refused("net.request", method="GET", url=url)
    assert (error.data["budget"], error.errno) == ("requests_in_flight", "EMFILE")
    guest.call("net.close", handle=handles[0])
    guest.get(url)


@pytest.mark.parametrize("budget", ["first_byte_seconds", "total_seconds"])
def test_server_that_never_answers_is_given_up(
    make_guest: Any, black_hole: Any, budget: str
) -> None:
    url = f"http://127.0.0.1:{black_hole.port}/"
    guest = make_guest(allow=url, budgets={budget: 0.2})
    error = guest.refused("net.request", method="GET", url=url)
    assert (error.errno, error.data["budget"]) == ("ETIMEDOUT", budget)


def test_silence_in_the_middle_of_a_body_is_given_up(make_guest: Any, serve: Servers) -> None:
    def respond(connection: Any) -> None:
        connection.recv(1 << 16)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc")
        connection.recv(1)

    url = f"http://127.0.0.1:{serve(respond).port}/"
    guest = make_guest(allow=url, budgets={"idle_seconds": 0.2})
    with pytest.raises(Exception, match="idle_seconds"):
        guest.fetch(url)


def test_dripping_server_does_not_outlast_the_total_deadline(
    make_guest: Any, serve: Servers
) -> None:
    """It never is idle, and yet it ends."""
    servers: list[Any] = []
    servers.append(serve(lambda connection: _drip(connection, servers[0].stopping)))
    url = f"http://127.0.0.1:{servers[0].port}/"
    guest = make_guest(allow=url, budgets={"idle_seconds": 10, "total_seconds": 0.5})
    begun = time.monotonic()
    with pytest.raises(Exception, match="total_seconds"):
        guest.fetch(url)
    assert time.monotonic() - begun >= 0.5


def test_tls_handshake_counts_as_connecting(make_guest: Any, black_hole: Any) -> None:
    url = f"https://127.0.0.1:{black_hole.port}/"
    guest = make_guest(allow=url, budgets={"connect_seconds": 0.2})
    error = guest.refused("net.request", method="GET", url=url)
    assert error.data["budget"] == "connect_seconds"


def test_lookup_counts_as_connecting(make_guest: Any) -> None:
    """A DNS server that never answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        guest = make_guest(
            allow="http://a.test",
            nameservers=[f"127.0.0.1:{silent.getsockname()[1]}"],
            budgets={"connect_seconds": 0.2},
        )
        error = guest.refused("net.request", method="GET", url="http://a.test/")
    assert error.data["budget"] == "connect_seconds"


def test_sandbox_timeout_ends_a_wait(make_guest: Any, black_hole: Any) -> None:
    url = f"http://127.0.0.1:{black_hole.port}/"
    guest = make_guest(deadline=time.monotonic() + 0.2, allow=url)
    assert guest.refused("net.request", method="GET", url=url).errno == "ETIMEDOUT"


def test_connection_of_an_error_is_closed(make_guest: Any, serve: Servers) -> None:
    closed = threading.Event()

    def respond(connection: Any) -> None:
        connection.recv(1 << 16)
        connection.sendall(b"nonsense\r\n\r\n")
        if connection.recv(1) == b"":
            closed.set()

    url = f"http://127.0.0.1:{serve(respond).port}/"
    guest = make_guest(allow=url)
    guest.refused("net.request", method="GET", url=url)
    assert closed.wait(10)
