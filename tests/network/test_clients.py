"""Unmodified client libraries in a guest reach what is granted, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.kvm


@pytest.fixture
def named(dns_stub: Any) -> Any:
    """A name server that knows a granted name and another one."""
    dns_stub.answer("server.test", ["127.0.0.1"])
    dns_stub.answer("other.test", ["127.0.0.1"])
    return dns_stub


@pytest.fixture
def web(online: Any, named: Any, nginx: Any) -> Any:
    """A guest that may reach nginx by its name."""
    return online(
        allow=[
            f"http://server.test:{nginx.http} via 127.0.0.1",
            f"https://server.test:{nginx.https} via 127.0.0.1",
        ],
        nameservers=[named.server],
    )


def test_urllib_gets_what_is_granted(run: Any, web: Any, nginx: Any) -> None:
    code = """
        from urllib.request import urlopen
        with urlopen(f"http://server.test:{port}/echo?a=1", timeout=20) as response:
            print(response.status, response.read().decode())
    """
    assert run(web, code, port=nginx.http) == ["200 GET http server.test /echo?a=1"]


def test_http_client_keeps_its_connection(run: Any, online: Any, http_server: Any) -> None:
    server = http_server()
    code = """
        from http.client import HTTPConnection
        connection = HTTPConnection("127.0.0.1", port)
        connection.request("POST", "/", body=bytes(300000))
        print(len(connection.getresponse().read()))
    """
    guest = online(allow=f"http://127.0.0.1:{server.port}")
    assert run(guest, code, port=server.port) == ["300000"]
    assert server.seen[0].body == bytes(300000)


def test_tls_is_spoken_in_the_guest(run: Any, web: Any, nginx: Any) -> None:
    """With CPython's own ssl; the certificate of an authority nobody vouched for is refused."""
    code = """
        import ssl
        from urllib.error import URLError
        from urllib.request import urlopen
        url = f"https://server.test:{port}/echo"
        trusted = ssl.create_default_context(cadata=authority)
        print(urlopen(url, context=trusted, timeout=20).read().decode())
        try:
            urlopen(url, timeout=20)
        except URLError as error:
            print(type(error.reason).__name__)
    """
    authority = nginx.authority.read_text()
    printed = run(web, code, port=nginx.https, authority=authority)
    assert printed == ["GET https server.test /echo", "SSLCertVerificationError"]


def test_certificate_authorities_come_with_the_image(run: Any, online: Any) -> None:
    code = "import ssl; print(ssl.create_default_context().cert_store_stats()['x509_ca'] > 0)"
    assert run(online(allow=[]), code) == ["True"]


def test_asyncio_streams_work_side_by_side(run: Any, online: Any, echo: Any) -> None:
    code = """
        import asyncio
        async def talk(number):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(bytes([number]) * 100_000)
            await writer.drain()
            received = await reader.readexactly(100_000)
            writer.close()
            await writer.wait_closed()
            return set(received) == {number}
        async def main():
            ticks = asyncio.create_task(asyncio.sleep(0.01, "ticked"))
            print(all(await asyncio.gather(*map(talk, range(20)))), await ticks)
        asyncio.run(main())
    """
    assert run(online(allow=f"tcp://127.0.0.1:{echo.port}"), code, port=echo.port) == [
        "True ticked"
    ]
    assert echo.connections == 20


def test_asyncio_tls(run: Any, web: Any, nginx: Any) -> None:
    code = """
        import asyncio, ssl
        async def main():
            context = ssl.create_default_context(cadata=authority)
            reader, writer = await asyncio.open_connection("server.test", port, ssl=context)
            writer.write(b"GET /echo HTTP/1.0\\r\\nHost: server.test\\r\\n\\r\\n")
            print((await reader.read()).split(b"\\r\\n\\r\\n")[1].decode())
            writer.close()
            await writer.wait_closed()
        asyncio.run(main())
    """
    authority = nginx.authority.read_text()
    assert run(web, code, port=nginx.https, authority=authority) == ["GET https server.test /echo"]


def test_httpx_works_unmodified(run: Any, online: Any, named: Any, nginx: Any) -> None:
    """Both ways, and a refused destination is its ConnectError."""
    guest = online(
        packages=["httpx"],
        allow=[
            f"http://server.test:{nginx.http} via 127.0.0.1",
            f"https://server.test:{nginx.https} via 127.0.0.1",
        ],
        nameservers=[named.server],
    )
    code = """
        import asyncio, ssl, httpx
        context = ssl.create_default_context(cadata=authority)
        def client(kind):
            return kind(verify=context, follow_redirects=True)
        with client(httpx.Client) as session:
            print(session.get(f"http://server.test:{http}/moved").text)
            try:
                session.get(f"http://other.test:{http}/")
            except httpx.ConnectError:
                print("refused")
        async def main():
            async with client(httpx.AsyncClient) as session:
                urls = [f"https://server.test:{https}/echo?{i}" for i in range(5)]
                for reply in await asyncio.gather(*map(session.get, urls)):
                    print(reply.text)
        asyncio.run(main())
    """
    values = {"http": nginx.http, "https": nginx.https, "authority": nginx.authority.read_text()}
    assert run(guest, code, **values) == [
        "GET http server.test /echo/after",
        "refused",
        *(f"GET https server.test /echo?{number}" for number in range(5)),
    ]


def test_hyperlight_http_asks_the_host(run: Any, online: Any, http_server: Any) -> None:
    server = http_server()
    code = """
        import hyperlight
        url = f"http://127.0.0.1:{port}/api"
        print(hyperlight.http.post(url, json={"a": 1}).json())
        print(hyperlight.http.get(url, credential="key").ok)
        print(len(hyperlight.http.put(url, data=bytes(1_000_000)).content))
        try:
            hyperlight.http.get(f"http://127.0.0.1:{port}/other")
        except PermissionError as error:
            print(error.data["rule"])
    """
    allow = f"http://127.0.0.1:{server.port}/api"
    secret = {"rules": allow, "value": "secret", "prefix": "Bearer "}
    guest = online(allow=allow, credentials={"key": secret})
    printed = run(guest, code, port=server.port)
    assert printed == ["{'a': 1}", "True", "1000000", f"GET http://127.0.0.1:{server.port}/other"]
    assert server.seen[1].header("authorization") == "Bearer secret"


def test_only_granted_names_are_resolved(run: Any, web: Any, named: Any) -> None:
    code = """
        import socket
        print(socket.getaddrinfo("server.test", 80, type=socket.SOCK_STREAM)[0][4])
        for name in ("other.test", "x.server.test", "server.test.evil"):
            try:
                socket.getaddrinfo(name, 80)
            except socket.gaierror:
                print("unknown")
    """
    assert run(web, code) == ["('127.0.0.1', 80)", "unknown", "unknown", "unknown"]
    assert set(named.queries) == {"server.test A", "server.test AAAA"}


def test_localhost_is_known_without_a_grant(run: Any, online: Any) -> None:
    code = """
        import socket
        print(sorted({found[4][0] for found in socket.getaddrinfo("localhost", 80)}))
    """
    assert run(online(allow=[]), code) == ["['127.0.0.1']"]


def test_the_readme_is_right_about_guests(run: Any, online: Any, nginx: Any) -> None:
    """With a server of the test in place of the one it names."""
    page = (Path(__file__).parents[2] / "plugins/hl_net/README.md").read_text()
    code = page.partition("## Use\n")[2].partition("```python\n")[2].partition("```")[0]
    origin = f"http://127.0.0.1:{nginx.http}"
    (nginx.files / "items").write_text("[]")
    guest = online(allow=origin)
    printed = run(guest, code.replace("https://api.example.com", origin))
    assert printed == ["200", "200", "GET https://elsewhere.example.com"]
    assert f"`{printed[2]}`" in page


def test_the_configuration_of_the_readme_makes_a_sandbox() -> None:
    page = (Path(__file__).parents[2] / "plugins/hl_net/README.md").read_text()
    code = page.partition("## Grant\n```python\n")[2].partition("```")[0]
    command = [sys.executable, "-c", f"{code}print('made')"]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (made.stdout, made.stderr) == ("made\n", "")
