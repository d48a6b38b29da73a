"""net.request against real servers."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable
from typing import Any

import pytest


def test_guest_gets_a_page_in_one_call(make_guest: Any, nginx: Any) -> None:
    (nginx.files / "page.html").write_text("hello")
    guest = make_guest(allow=f"http://127.0.0.1:{nginx.http}")
    reply = guest.get(f"http://127.0.0.1:{nginx.http}/page.html")
    assert (reply["status"], reply["end"], reply["handle"]) == (200, True, None)
    assert reply.attachment == b"hello"
    assert dict(reply["headers"])["Content-Length"] == "5"


def test_headers_of_the_connection_are_not_shown(make_guest: Any, nginx: Any) -> None:
    guest = make_guest(allow=f"http://127.0.0.1:{nginx.http}")
    names = {
        name.lower() for name, _ in guest.get(f"http://127.0.0.1:{nginx.http}/echo")["headers"]
    }
    assert "content-type" in names
    assert not names & {"connection", "transfer-encoding", "keep-alive"}


def test_https_with_an_authority_of_our_own(make_guest: Any, nginx: Any, dns_stub: Any) -> None:
    dns_stub.answer("server.test", ["127.0.0.1"])
    guest = make_guest(
        allow=f"https://server.test:{nginx.https} via 127.0.0.1/32",
        nameservers=[dns_stub.server],
        authorities=[nginx.authority],
    )
    status, body = guest.fetch(f"https://server.test:{nginx.https}/echo?q=1")
    assert (status, body) == (200, b"GET https server.test /echo?q=1")


@pytest.mark.parametrize("own_authority", [False, True])
def test_https_refuses_a_server_that_is_not_the_one(
    make_guest: Any, nginx: Any, dns_stub: Any, own_authority: bool
) -> None:
    """Signed by an authority nobody trusts, or for another name."""
    dns_stub.answer("other.test", ["127.0.0.1"])
    guest = make_guest(
        allow=f"https://other.test:{nginx.https} via 127.0.0.1/32",
        nameservers=[dns_stub.server],
        authorities=[nginx.authority] if own_authority else [],
    )
    error = guest.refused("net.request", method="GET", url=f"https://other.test:{nginx.https}/")
    assert error.errno == "EPROTO"
    assert "certificate" in error.message


def test_large_body_comes_in_several_calls(make_guest: Any, nginx: Any) -> None:
    content = bytes(range(256)) * (20 << 12)
    (nginx.files / "large").write_bytes(content)
    guest = make_guest(allow=f"http://127.0.0.1:{nginx.http}")
    status, body = guest.fetch(f"http://127.0.0.1:{nginx.http}/large")
    assert status == 200
    assert hashlib.sha256(body).digest() == hashlib.sha256(content).digest()


def test_body_is_attached(make_guest: Any, http_server: Callable[..., Any]) -> None:
    server = http_server()
    guest = make_guest(allow=server.url())
    reply = guest.call(
        "net.request", b"\0\1\2" * 1000, method="POST", url=server.url("/x"), body="attached"
    )
    assert guest.body(reply) == b"\0\1\2" * 1000
    assert server.seen[0].header("content-length") == "3000"


@pytest.mark.parametrize("size", [None, 250_000])
def test_body_is_streamed_both_ways(
    make_guest: Any, http_server: Callable[..., Any], size: int | None
) -> None:
    server = http_server()
    guest = make_guest(allow=server.url())
    opened = guest.call(
        "net.request", method="PUT", url=server.url("/x"), body="streamed", body_size=size
    )
    assert (opened["status"], opened["end"]) == (None, False)
    parts = [bytes([number]) * 25_000 for number in range(10)]
    for part in parts:
        sent = guest.call("net.request_write", part, handle=opened["handle"])
        assert sent["size"] == len(part)
    guest.call("net.request_write", handle=opened["handle"], end=True)
    reply = guest.call("net.response", handle=opened["handle"])
    assert reply["status"] == 200
    assert guest.body(reply) == b"".join(parts)
    assert server.seen[0].header("transfer-encoding") == (None if size else "chunked")


def test_streamed_body_must_have_the_size_that_was_announced(
    make_guest: Any, http_server: Callable[..., Any]
) -> None:
    server = http_server()
    guest = make_guest(allow=server.url())
    opened = guest.call(
        "net.request", method="PUT", url=server.url(), body="streamed", body_size=10
    )
    error = guest.refused("net.request_write", b"x" * 11, handle=opened["handle"])
    assert error.code == -32602


def test_answer_before_the_body_has_ended_is_seen(
    make_guest: Any, serve: Callable[..., Any]
) -> None:
    def refuse_at_once(connection: Any) -> None:
        connection.recv(1 << 16)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\n\r\nmuch")

    server = serve(refuse_at_once)
    url = f"http://127.0.0.1:{server.port}/"
    guest = make_guest(allow=url)
    opened = guest.call("net.request", method="PUT", url=url, body="streamed")
    guest.call("net.request_write", b"x" * 1000, handle=opened["handle"])
    reply = guest.call("net.response", handle=opened["handle"])
    assert reply["status"] == 413
    assert guest.body(reply) == b"much"


def test_repeated_headers_stay_apart(make_guest: Any, http_server: Callable[..., Any]) -> None:
    server = http_server()
    headers = make_guest(allow=server.url()).get(server.url())["headers"]
    assert [value for name, value in headers if name.lower() == "set-cookie"] == ["a=1", "b=2"]


def test_head_has_no_body(make_guest: Any, nginx: Any) -> None:
    guest = make_guest(allow=f"http://127.0.0.1:{nginx.http}")
    url = f"http://127.0.0.1:{nginx.http}/echo"
    reply = guest.call("net.request", method="HEAD", url=url)
    assert (reply["status"], reply["end"], reply.attachment) == (200, True, b"")


@pytest.mark.parametrize(
    "name",
    [
        "Connection",
        "Keep-Alive",
        "Proxy-Authorization",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
        "Host",
        "Content-Length",
        "Expect",
        "HTTP2-Settings",
        "proxy-connection",
    ],
)
def test_headers_of_the_connection_are_the_hosts(
    make_guest: Any, http_server: Callable[..., Any], name: str
) -> None:
    server = http_server()
    guest = make_guest(allow=server.url())
    error = guest.refused("net.request", method="GET", url=server.url(), headers=[[name, "x"]])
    assert error.code == -32602
    assert server.seen == []


@pytest.mark.parametrize(
    "header",
    [
        ["A\r\nB", "x"],
        ["A", "x\r\nHost: evil"],
        ["A", "x\nB: y"],
        ["A", "x\0"],
        ["A ", "x"],
        ["", "x"],
        ["A:", "x"],
        ["A", " x"],
        ["A", "é"],
        ["A", "x" * 40_000],
    ],
)
def test_malformed_header_is_never_sent(
    make_guest: Any, http_server: Callable[..., Any], header: list[str]
) -> None:
    server = http_server()
    guest = make_guest(allow=server.url())
    error = guest.refused("net.request", method="GET", url=server.url(), headers=[header])
    assert error.code == -32602
    assert server.seen == []


@pytest.mark.parametrize("method", ["get", "GET ", "G\r\nET", "", "GET / HTTP/1.1"])
def test_malformed_method_is_refused(make_guest: Any, method: str) -> None:
    error = make_guest(allow="all").refused("net.request", method=method, url="http://a.example/")
    assert error.code == -32602


@pytest.mark.parametrize(
    "answer",
    [
        b"not HTTP at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"",
    ],
)
def test_answer_that_is_no_http_is_an_error(
    make_guest: Any, http_server: Callable[..., Any], answer: bytes
) -> None:
    server = http_server()
    server.raw("/", answer)
    error = make_guest(allow=server.url()).refused("net.request", method="GET", url=server.url())
    assert error.errno in ("EPROTO", "ECONNRESET")


def test_body_that_is_cut_off_is_an_error(make_guest: Any, http_server: Callable[..., Any]) -> None:
    server = http_server()
    server.raw("/", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
    guest = make_guest(allow=server.url())
    with pytest.raises(Exception, match="not valid HTTP"):
        guest.fetch(server.url())


def test_refused_connection_is_named(make_guest: Any) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
        error = make_guest(allow=url).refused("net.request", method="GET", url=url)
    assert error.errno == "ECONNREFUSED"


def test_killed_sandbox_does_not_wait(make_guest: Any, black_hole: Any) -> None:
    url = f"http://127.0.0.1:{black_hole.port}/"
    guest = make_guest(allow=url)
    guest.kill()
    assert guest.refused("net.request", method="GET", url=url).errno == "EINTR"


def test_foreign_handle_is_no_request(make_guest: Any) -> None:
    guest = make_guest()
    assert guest.refused("net.response", handle=99).errno == "EBADF"
    assert guest.refused("net.response_read", handle=guest.socket(), size=1).errno == "EBADF"


def test_contradictory_body_is_refused(make_guest: Any) -> None:
    guest = make_guest(allow="all")
    for attachment, body in ((b"x", {}), (b"", {"body": "attached", "body_size": 3})):
        error = guest.refused(
            "net.request", attachment, method="POST", url="http://a.example/", **body
        )
        assert error.code == -32602
