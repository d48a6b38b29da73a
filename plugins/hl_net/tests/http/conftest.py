"""HTTP servers on loopback: nginx with a test authority, and one whose answers a test writes."""

from __future__ import annotations

import contextlib
import http.server
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme

NGINX = """
daemon on; pid {folder}/nginx.pid; error_log {folder}/error.log; {user}
events {{ worker_connections 256; }}
http {{
  access_log {folder}/access.log;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  server {{
    listen 127.0.0.1:{http}; listen 127.0.0.1:{https} ssl;
    ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/server.pem;
    root {folder}/www;
    location /echo {{ return 200 "$request_method $scheme $host $request_uri"; }}
    location /moved {{ return 302 /echo/after; }}
  }}
}}
"""


@dataclass(frozen=True)
class Nginx:
    """A running nginx.

    Attributes:
        http: port for HTTP.
        https: port for HTTPS, with a certificate for server.test and 127.0.0.1.
        authority: PEM file of the certificate authority.
        files: what it serves.
    """

    http: int
    https: int
    authority: Path
    files: Path


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for found in sockets:
            found.bind(("127.0.0.1", 0))
        return [found.getsockname()[1] for found in sockets]


@pytest.fixture(scope="session")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """A real web server, HTTP and HTTPS."""
    folder = tmp_path_factory.mktemp("nginx")
    (folder / "www").mkdir()
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    issued = authority.issue_cert("server.test", "127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    http_port, https_port = _free_ports(2)
    user = "user root;" if os.geteuid() == 0 else ""
    configuration = NGINX.format(folder=folder, http=http_port, https=https_port, user=user)
    (folder / "nginx.conf").write_text(configuration)
    # It comes back from the background once it listens.
    subprocess.run(["nginx", "-c", folder / "nginx.conf"], check=True)
    yield Nginx(http_port, https_port, folder / "authority.pem", folder / "www")
    os.kill(int((folder / "nginx.pid").read_text()), signal.SIGQUIT)


@dataclass
class Seen:
    """One request as a server got it."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return {key.lower(): value for key, value in self.headers}.get(name)


@dataclass
class HttpServer:
    """A server whose answers are functions of its request handler, by path; records requests."""

    routes: dict[str, Callable[[Any], None]] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    address: str = "127.0.0.1"
    port: int = 0

    def url(self, path: str = "/", host: str | None = None) -> str:
        return f"http://{host or self.address}:{self.port}{path}"

    def redirect(self, path: str, location: str, status: int = 302) -> None:
        """Answer `path` with a redirect."""

        def respond(handler: Any) -> None:
            handler.send_response(status)
            handler.send_header("Location", location)
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        self.routes[path] = respond

    def raw(self, path: str, answer: bytes) -> None:
        """Answer `path` with these very bytes."""
        self.routes[path] = lambda handler: handler.wfile.write(answer)


def _cut_off() -> bytes:
    raise ConnectionResetError("the request ended in its middle")


def _body(handler: http.server.BaseHTTPRequestHandler) -> bytes:
    if handler.headers.get("Transfer-Encoding") != "chunked":
        return handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
    body = b""
    while size := int(handler.rfile.readline() or _cut_off(), 16):
        body += handler.rfile.read(size)
        handler.rfile.readline()
    handler.rfile.readline()
    return body


def _handler_class(server: HttpServer) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.close_connection = True
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.body = _body(self)
                # `path` has no two slashes at its beginning.
                target = self.requestline.split(" ")[1]
                server.seen.append(Seen(self.command, target, self.headers.items(), self.body))
                server.routes.get(self.path.partition("?")[0], _mirror)(self)

        def log_message(self, *args: Any) -> None:
            pass

    for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        setattr(Handler, f"do_{method}", Handler.answer)
    return Handler


def _mirror(handler: Any) -> None:
    """Answer with the request's body."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(handler.body)))
    handler.send_header("Set-Cookie", "a=1")
    handler.send_header("Set-Cookie", "b=2")
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(handler.body)


@pytest.fixture
def http_server() -> Iterator[Callable[..., HttpServer]]:
    """Start HTTP servers that end with the test."""
    with contextlib.ExitStack() as stack:

        def start(address: str = "127.0.0.1", port: int = 0) -> HttpServer:
            server = HttpServer(address=address)
            running = http.server.ThreadingHTTPServer((address, port), _handler_class(server))
            running.daemon_threads, server.port = True, running.server_address[1]
            stack.callback(running.server_close)
            stack.callback(running.shutdown)
            threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
            return server

        yield start
