"""URLs are read in one way or not at all."""

from __future__ import annotations

import ipaddress

import pytest
from hl_net.urls import parse_host, parse_url
from hypothesis import given
from hypothesis import strategies as st


def test_url_is_brought_into_normal_form() -> None:
    url = parse_url("HTTPS://API.Example.COM.:443/a%2Fb?q=1#part")
    assert (url.scheme, url.host, url.port) == ("https", "api.example.com", 443)
    assert (url.path, url.query) == ("/a%2Fb", "?q=1")
    assert str(url) == "https://api.example.com/a%2Fb?q=1"


def test_host_header_has_the_port_unless_it_is_the_default() -> None:
    assert parse_url("http://a.example:80/").authority == "a.example"
    assert parse_url("http://a.example:8080/").authority == "a.example:8080"
    assert parse_url("http://[2606:4700::1111]:8080/").authority == "[2606:4700::1111]:8080"


def test_internationalised_name_is_ascii() -> None:
    assert parse_host("bücher.example") == "xn--bcher-kva.example"
    assert parse_host("BÜCHER.example") == "xn--bcher-kva.example"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "api.example.com",
        "ftp://a.example/",
        "file:///etc/passwd",
        "gopher://a.example/",
        "http:/a.example/",
        "http:a.example",
        "http:///a.example",
        "http://",
        "http://user@a.example/",
        "http://user:password@a.example/",
        "http://a.example@b.example/",
        "http://a.example\\@b.example/",
        "http://a.example\\.b.example/",
        "http://a.example:80:80/",
        "http://a.example:0/",
        "http://a.example:65536/",
        "http://a.example:+80/",
        "http://a.example:\uff18\uff10/",
        "http://a.example /",
        "http://a.example/ b",
        "http://a.example/\r\nHost: b.example",
        "http://a.example/\x00",
        "http://a.example/%zz",
        "http://a.example/%u002e",
        "http://a.example/é",
        "http://a..example/",
        "http://.a.example/",
        "http://-a.example/",
        "http://a.example-/",
        "http://a%2eexample/",
        "http://[::1/",
        "http://[127.0.0.1]/",
        "http://[::1%25lo]/",
        "http://[fe80::1%lo]/",
        "http://[v1.a]/",
        "http://a.example:80#@b.example/ x",
        " http://a.example/",
        "http://a.example/\n",
        "\thttp://a.example/",
        "http\u017f://a.example/",
        "http://" + "a" * 64 + ".example/",
        "http://" + "a." * 130 + "example/",
        "http://a.example/" + "a" * 9000,
    ],
)
def test_unclear_url_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_url(text)


@given(st.text(max_size=60).map(lambda text: "http://" + text))
def test_what_is_read_reads_the_same_again(text: str) -> None:
    try:
        url = parse_url(text)
    except ValueError:
        return
    assert parse_url(str(url)) == url


@given(st.ip_addresses())
def test_every_address_is_itself(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    text = f"[{address}]" if address.version == 6 else str(address)
    host = parse_url(f"http://{text}/").host
    assert host in (address, getattr(address, "ipv4_mapped", None))
