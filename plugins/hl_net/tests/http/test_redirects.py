"""Redirects go through the same policy, and take no credentials to another origin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Servers = Callable[..., Any]


def test_redirect_is_followed(make_guest: Any, nginx: Any) -> None:
    origin = f"http://127.0.0.1:{nginx.http}"
    reply = make_guest(allow=origin).get(f"{origin}/moved")
    assert (reply["status"], reply["url"]) == (200, f"{origin}/echo/after")


def test_redirect_is_left_alone_if_the_guest_wants(make_guest: Any, nginx: Any) -> None:
    origin = f"http://127.0.0.1:{nginx.http}"
    reply = make_guest(allow=origin).get(f"{origin}/moved", follow_redirects=False)
    assert (reply["status"], reply["url"]) == (302, f"{origin}/moved")


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://metadata.google.internal/",
        "//169.254.169.254/latest/meta-data/",
        "http://[::ffff:169.254.169.254]/",
        "http://127.0.0.1:1/",
        "http://2852039166/",
        "http://0xa9fea9fe/",
        "https://evil.test/",
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
        "http://user@127.0.0.1/",
        "//evil.test\\@127.0.0.1/",
        "http:evil.test",
        "javascript:alert(1)",
    ],
)
def test_redirect_reaches_nothing_that_is_not_granted(
    make_guest: Any, http_server: Servers, location: str
) -> None:
    server = http_server()
    server.redirect("/go", location)
    error = make_guest(allow=server.url("/go")).refused(
        "net.request", method="GET", url=server.url("/go")
    )
    assert error.errno == "EACCES"


def test_redirect_does_not_leave_a_path_prefix(make_guest: Any, http_server: Servers) -> None:
    server = http_server()
    server.redirect("/v1/go", "../admin")
    guest = make_guest(allow=server.url("/v1"))
    error = guest.refused("net.request", method="GET", url=server.url("/v1/go"))
    assert error.rule == f"GET {server.url('/admin')}"
    assert [seen.target for seen in server.seen] == ["/v1/go"]


def test_redirects_have_a_budget(make_guest: Any, http_server: Servers) -> None:
    server = http_server()
    server.redirect("/loop", "/loop")
    guest = make_guest(allow=server.url(), budgets={"redirects": 3})
    error = guest.refused("net.request", method="GET", url=server.url("/loop"))
    assert error.data["budget"] == "redirects"
    assert len(server.seen) == 4


@pytest.mark.parametrize(
    ("status", "method", "then", "with_body"),
    [
        (301, "POST", "GET", False),
        (302, "POST", "GET", False),
        (303, "PUT", "GET", False),
        (303, "HEAD", "HEAD", False),
        (302, "PUT", "PUT", True),
        (307, "POST", "POST", True),
        (308, "POST", "POST", True),
    ],
)
def test_method_and_body_follow_the_status(
    make_guest: Any, http_server: Servers, status: int, method: str, then: str, with_body: bool
) -> None:
    server = http_server()
    server.redirect("/go", "/there", status)
    guest = make_guest(allow=server.url())
    headers = [["Content-Type", "text/plain"]]
    guest.call(
        "net.request",
        b"" if method == "HEAD" else b"body",
        method=method,
        url=server.url("/go"),
        body="none" if method == "HEAD" else "attached",
        headers=headers,
    )
    last = server.seen[-1]
    assert (last.method, last.target) == (then, "/there")
    assert last.body == (b"body" if with_body else b"")
    assert (last.header("content-type") is not None) is with_body


def test_streamed_body_is_not_sent_twice(make_guest: Any, http_server: Servers) -> None:
    server = http_server()
    server.redirect("/go", "/there", 307)
    guest = make_guest(allow=server.url())
    opened = guest.call("net.request", method="POST", url=server.url("/go"), body="streamed")
    guest.call("net.request_write", b"x", handle=opened["handle"], end=True)
    assert guest.call("net.response", handle=opened["handle"])["status"] == 307
    assert len(server.seen) == 1


def test_another_origin_gets_no_credentials(make_guest: Any, http_server: Servers) -> None:
    """Neither the host's, nor the guest's own; and coming back does not bring them back."""
    here, there = http_server(), http_server()
    here.redirect("/go", there.url("/over"))
    there.redirect("/over", here.url("/back"))
    rules = [here.url(), there.url()]
    guest = make_guest(
        allow=rules,
        credentials={
            "named": {"rules": rules, "header": "X-Named", "value": "n4med"},
            "automatic": {"rules": rules, "header": "X-Auto", "value": "4uto", "automatic": True},
        },
    )
    guest.get(
        here.url("/go"),
        credential="named",
        headers=[["Authorization", "mine"], ["Cookie", "c=1"], ["Accept", "text/plain"]],
    )
    first, over, back = here.seen[0], there.seen[0], here.seen[1]
    assert (first.header("x-named"), first.header("x-auto")) == ("n4med", "4uto")
    for later in (over, back):
        for name in ("x-named", "x-auto", "authorization", "cookie"):
            assert later.header(name) is None
        assert later.header("accept") == "text/plain"


def test_same_origin_keeps_credentials(make_guest: Any, http_server: Servers) -> None:
    server = http_server()
    server.redirect("/go", "/there")
    guest = make_guest(
        allow=server.url(), credentials={"key": {"rules": server.url(), "value": "k3y"}}
    )
    guest.get(server.url("/go"), credential="key")
    assert [seen.header("authorization") for seen in server.seen] == ["k3y", "k3y"]
