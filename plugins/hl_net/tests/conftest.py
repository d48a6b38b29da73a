"""A guest's side of the host calls, and the servers that stand for the network: all on loopback."""

from __future__ import annotations

import contextlib
import os
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hl_net import NetConfiguration
from hl_net.plugin import NetPlugin

from hyperlight_core import wire
from hyperlight_core.hookspecs import SnapshotToken
from hyperlight_core.table import HostFunctionTable

BUFFER = 1 << 20
POLLIN, POLLOUT, POLLERR, POLLHUP = 1, 4, 8, 16


class CallError(Exception):
    """The JSON-RPC error a guest got."""

    def __init__(self, error: wire.ErrorObject) -> None:
        super().__init__(error.message)
        self.code, self.message = error.code, error.message
        self.data: dict[str, Any] = error.data or {}
        self.errno = self.data.get("errno")
        self.rule = self.data.get("rule")


@dataclass
class Reply:
    """A result and its attachment."""

    result: dict[str, Any]
    attachment: bytes

    def __getitem__(self, name: str) -> Any:
        return self.result[name]


class Guest:
    """Calls host functions as a guest does: frames in two buffers, through core's own table."""

    def __init__(self, plugin: NetPlugin, deadline: float | None = None) -> None:
        self.plugin, self.table = plugin, HostFunctionTable(plugin.host_functions())
        self._out, self._in = memoryview(bytearray(BUFFER)), memoryview(bytearray(BUFFER))
        self.wake_fd, self._killer = os.pipe()
        self.run, self.deadline, self.cancelled = 1, deadline, False

    def call(self, method: str, attachment: bytes = b"", /, **params: Any) -> Reply:
        wire.write_frame(self._out, wire.request_text(method, params, 7), attachment)
        self.table.dispatch(self._out, self._in, self)
        frame = wire.read_frame(self._in)
        response = wire.parse_response(frame.text, 7)
        if response.error is not None:
            raise CallError(response.error)
        return Reply(response.result, bytes(frame.attachment))

    def refused(self, method: str, attachment: bytes = b"", /, **params: Any) -> CallError:
        """The error of a call that must fail."""
        with pytest.raises(CallError) as caught:
            self.call(method, attachment, **params)
        return caught.value

    def get(self, url: str, **params: Any) -> Reply:
        return self.call("net.request", **{"method": "GET", "url": url, **params})

    def fetch(self, url: str, **params: Any) -> tuple[int, bytes]:
        """Status and whole body of a GET request."""
        reply = self.get(url, **params)
        return reply["status"], self.body(reply)

    def body(self, reply: Reply) -> bytes:
        """The whole body of a response."""
        parts, handle, end = [reply.attachment], reply["handle"], reply["end"]
        while not end:
            part = self.call("net.response_read", handle=handle, size=BUFFER)
            parts.append(part.attachment)
            end = part["end"]
        return b"".join(parts)

    def socket(self, kind: str = "stream", family: str = "inet") -> int:
        return int(self.call("net.socket", family=family, type=kind)["handle"])

    def poll(self, handle: int, events: int, timeout_ms: int | None = 20_000) -> int:
        """The events that are there on one handle; 0 when the time is up."""
        reply = self.call("net.poll", interest=[[handle, events]], timeout_ms=timeout_ms)
        return int(dict(reply["ready"]).get(handle, 0))

    def connect(self, address: str, port: int, family: str = "inet") -> int:
        """A connected socket."""
        handle = self.socket(family=family)
        try:
            self.call("net.connect", handle=handle, address=address, port=port)
        except CallError as error:
            if error.errno != "EINPROGRESS":
                raise
            self.poll(handle, POLLOUT)
            assert self.call("net.getsockopt", handle=handle, option="SO_ERROR")["value"] == 0
        return handle

    def receive(self, handle: int, size: int = BUFFER - 4096) -> bytes:
        """Wait for bytes and take them."""
        self.poll(handle, POLLIN)
        return self.call("net.recv", handle=handle, size=size).attachment

    def receive_exactly(self, handle: int, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.receive(handle, size - len(data))
            assert part
            data += part
        return data

    def kill(self) -> None:
        self.cancelled = True
        os.write(self._killer, b"x")

    def close(self) -> None:
        """Close it, once."""
        if self.wake_fd >= 0:
            self.plugin.closed()
            os.close(self.wake_fd)
            os.close(self._killer)
            self.wake_fd = -1


@pytest.fixture
def make_guest() -> Iterator[Callable[..., Guest]]:
    """Make guests, each with its own plugin instance, of a configuration."""
    with contextlib.ExitStack() as stack:

        def make(deadline: float | None = None, **configuration: Any) -> Guest:
            plugin = NetPlugin(NetConfiguration.model_validate(configuration))
            guest = Guest(plugin, deadline)
            stack.callback(guest.close)
            return guest

        yield make


@pytest.fixture
def snapshot() -> Callable[[Guest], SnapshotToken]:
    """Take a snapshot of a guest's network."""

    def take(guest: Guest) -> SnapshotToken:
        token = SnapshotToken()
        guest.plugin.snapshot_taken(token)
        return token

    return take


class TcpServer(socketserver.ThreadingTCPServer):
    """Runs `serve(connection)` in a thread for every connection; counts them."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(self, serve: Callable[[socket.socket], None], address: str) -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._serve, self.connections, self.stopping = serve, 0, threading.Event()
        self._open, self._changed = 0, threading.Condition()
        super().__init__((address, 0), socketserver.BaseRequestHandler)
        self.address, self.port = self.server_address[:2]
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def finish_request(self, request: Any, client_address: Any) -> None:
        with contextlib.suppress(OSError):
            self._serve(request)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changed:
            self.connections, self._open = self.connections + 1, self._open + 1
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    def finished(self, timeout: float) -> None:
        """Wait until every connection has ended."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._open == 0, timeout)

    def stop(self) -> None:
        self.stopping.set()
        self.shutdown()
        self.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[..., TcpServer]]:
    """Start TCP servers that end with the test."""
    with contextlib.ExitStack() as stack:

        def start(
            function: Callable[[socket.socket], None], address: str = "127.0.0.1"
        ) -> TcpServer:
            server = TcpServer(function, address)
            stack.callback(server.stop)
            return server

        yield start


@pytest.fixture
def echo(serve: Callable[..., TcpServer]) -> TcpServer:
    """A server that sends back what it gets."""

    def run(connection: socket.socket) -> None:
        while data := connection.recv(1 << 16):
            connection.sendall(data)

    return serve(run)


@pytest.fixture
def black_hole(serve: Callable[..., TcpServer]) -> TcpServer:
    """A server that takes connections and bytes, and never answers."""

    def run(connection: socket.socket) -> None:
        while connection.recv(1 << 16):
            pass

    return serve(run)


class DnsStub:
    """A DNS server whose answers to one name may change from one query to the next."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, str], list[list[str]]] = {}
        self.queries: list[str] = []
        self.default: dict[str, list[str]] = {}  # by kind, for every other name
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.server = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def answer(self, name: str, *answers: list[str], kind: str = "A") -> None:
        """Give these lists of addresses one after another; the last one for ever."""
        self._answers[name, kind] = list(answers)

    def current(self, name: str, kind: str = "A") -> list[str]:
        """What the next query gets."""
        return self._answers.get((name, kind), [[]])[0]

    def _run(self) -> None:
        while True:
            query, client = self._socket.recvfrom(4096)
            if not query:
                return
            self._socket.sendto(self._reply(dns.message.from_wire(query)).to_wire(), client)

    def _reply(self, query: dns.message.Message) -> dns.message.Message:
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.queries.append(f"{name} {kind}")
        response = dns.message.make_response(query)
        answers = self._answers.get((name, kind)) or [self.default.get(kind, [])]
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        if addresses:
            rrset = dns.rrset.from_text(question.name, 0, "IN", kind, *addresses)
            response.answer.append(rrset)
        elif not self.default and not any(known == name for known, _ in self._answers):
            response.set_rcode(dns.rcode.NXDOMAIN)
        return response

    def stop(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()


@pytest.fixture
def dns_stub() -> Iterator[DnsStub]:
    """A DNS server of the test's own."""
    stub = DnsStub()
    yield stub
    stub.stop()
