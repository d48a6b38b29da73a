"""Plain sockets in a guest behave as Linux's do, and waiting for them goes with everything else."""

from __future__ import annotations

import subprocess
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

pytestmark = pytest.mark.kvm


@pytest.fixture
def talk(run: Any, online: Any, echo: Any) -> Any:
    """Runs code that has a connection to the echo server."""

    def talk(code: str) -> list[str]:
        guest = online(allow=f"tcp://127.0.0.1:{echo.port}")
        begin = f"import socket\ns = socket.create_connection(('127.0.0.1', {echo.port}))"
        assert guest.run(begin).stderr == ""
        return list(run(guest, code))

    return talk


# ---- connections ---------------------------------------------------------------------------------


def test_bytes_are_peeked_at_counted_and_waited_for(talk: Any) -> None:
    code = """
        import array, fcntl, termios, select
        s.sendall(b"abcdef")
        print(s.recv(2, socket.MSG_PEEK | socket.MSG_WAITALL))
        count = array.array("i", [0])
        while count[0] < 6:
            select.select([s], [], [])
            fcntl.ioctl(s, termios.FIONREAD, count)
        print(count[0], s.recv(3), s.recv(9))
        s.sendall(b"x" * 200_000)
        print(len(s.recv(200_000, socket.MSG_WAITALL)))
        try:
            s.recv(1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            print("nothing")
    """
    assert talk(code) == ["b'ab'", "6 b'abc' b'def'", "200000", "nothing"]


def test_messages_are_gathered_and_scattered(talk: Any) -> None:
    code = """
        print(s.sendmsg([b"ab", b"", b"cde"]))
        first, second = bytearray(2), bytearray(3)
        print(s.recvmsg_into([first, second], 0, socket.MSG_WAITALL)[:3], first, second)
    """
    assert talk(code) == ["5", "(5, [], 0) bytearray(b'ab') bytearray(b'cde')"]


def test_one_direction_is_shut_down_and_a_broken_pipe_is_told(talk: Any) -> None:
    code = """
        s.send(b"last")
        s.shutdown(socket.SHUT_WR)
        print(s.makefile("rb").read())
        try:
            s.send(b"x")
        except BrokenPipeError:
            print("broken pipe")
    """
    assert talk(code) == ["b'last'", "broken pipe"]


def test_options_are_those_of_the_allow_list(talk: Any) -> None:
    code = """
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        print(s.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        print(s.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM)
        for option in (socket.SO_BINDTODEVICE, socket.SO_MARK):
            try:
                s.setsockopt(socket.SOL_SOCKET, option, 1)
            except OSError as error:
                print(error.strerror)
    """
    assert talk(code) == ["1", "True", "Protocol not available", "Protocol not available"]


def test_timeouts_of_the_program_and_of_the_socket_end_a_wait(talk: Any) -> None:
    code = """
        import struct
        s.settimeout(0.01)
        try:
            s.recv(1)
        except TimeoutError:
            print("timed out")
        s.settimeout(None)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("qq", 0, 10_000))
        try:
            s.recv(1)
        except BlockingIOError:
            print("again")
    """
    assert talk(code) == ["timed out", "again"]


def test_a_signal_interrupts_a_wait(talk: Any) -> None:
    code = """
        import signal
        def ring(*_):
            raise InterruptedError("rang")
        signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        try:
            s.recv(1)
        except InterruptedError as error:
            print(error)
    """
    assert talk(code) == ["rang"]


def test_a_refused_connection_is_told(run: Any, online: Any, free_port: int) -> None:
    code = """
        import errno, select, socket
        try:
            socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            print("refused")
        s = socket.socket()
        s.setblocking(False)
        print(errno.errorcode[s.connect_ex(("127.0.0.1", port))])
        select.select([], [s], [])
        print(errno.errorcode[s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)])
    """
    guest = online(allow=f"tcp://127.0.0.1:{free_port}")
    assert run(guest, code, port=free_port) == ["refused", "EINPROGRESS", "ECONNREFUSED"]


def test_ipv6(run: Any, online: Any, serve: Any) -> None:
    server = serve(lambda connection: connection.sendall(connection.recv(9)), "::1")
    code = """
        import socket
        s = socket.create_connection(("::1", port))
        s.send(b"six")
        print(s.recv(9), s.getpeername()[0])
        s = socket.socket(socket.AF_INET6)
        try:
            s.connect(("::ffff:127.0.0.1", port))
        except PermissionError:
            print("the mapped address is another one")
    """
    assert run(online(allow=f"tcp://[::1]:{server.port}"), code, port=server.port) == [
        "b'six' ::1",
        "the mapped address is another one",
    ]


# ---- datagrams -----------------------------------------------------------------------------------


def test_datagrams_keep_their_bounds(run: Any, online: Any, udp_echo: int) -> None:
    code = """
        import socket
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        here = ("127.0.0.1", port)
        s.sendto(b"one", here)
        s.sendmsg([b"tw", b"o"], [], 0, here)
        print(s.recv(9, socket.MSG_PEEK), s.recvfrom(9) == (b"one", here), s.recv(9))
        s.connect(here)
        s.send(b"truncated")
        data, _, flags, sender = s.recvmsg(4)
        print(data, flags == socket.MSG_TRUNC, sender == here)
        s.send(b"")
        print(s.recv(9))
        try:
            s.sendto(b"x", ("127.0.0.1", port ^ 1))
        except PermissionError:
            print("refused")
    """
    assert run(online(allow=f"udp://127.0.0.1:{udp_echo}"), code, port=udp_echo) == [
        "b'one' True b'two'",
        "b'trun' True True",
        "b''",
        "refused",
    ]


def test_the_name_server_is_a_peer_like_others(run: Any, online: Any, dns_stub: Any) -> None:
    """Some resolvers compare where an answer comes from with where they connected to."""
    dns_stub.answer("a.test", ["192.0.2.1"])
    code = """
        import socket
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.connect(("127.0.0.53", 53))
        s.send(bytes.fromhex("000101000001000000000000016104746573740000010001"))
        answer, sender = s.recvfrom(512)
        print(s.getpeername() == sender, sender, answer[-4:] == bytes([192, 0, 2, 1]))
    """
    guest = online(allow="tcp://a.test:80 via 192.0.2.0/24", nameservers=[dns_stub.server])
    assert run(guest, code) == ["True ('127.0.0.53', 53) True"]


def test_asyncio_datagrams(run: Any, online: Any, udp_echo: int) -> None:
    code = """
        import asyncio
        class Client(asyncio.DatagramProtocol):
            def __init__(self):
                self.received = asyncio.get_running_loop().create_future()
            def connection_made(self, transport):
                transport.sendto(b"hello")
            def datagram_received(self, data, address):
                self.received.set_result(data)
        async def main():
            loop = asyncio.get_running_loop()
            transport, client = await loop.create_datagram_endpoint(
                Client, remote_addr=("127.0.0.1", port))
            print(await client.received)
            transport.close()
        asyncio.run(main())
    """
    guest = online(allow=f"udp://127.0.0.1:{udp_echo}")
    assert run(guest, code, port=udp_echo) == ["b'hello'"]


# ---- listening -----------------------------------------------------------------------------------


def test_a_server_and_a_client_in_two_threads_of_a_guest_talk(
    run: Any, online: Any, free_port: int
) -> None:
    code = """
        import socket, threading
        listener = socket.create_server(("127.0.0.1", port))
        def serve():
            for _ in range(50):
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(connection.recv(100)[::-1])
        server = threading.Thread(target=serve)
        server.start()
        answers = set()
        for _ in range(50):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(b"abc")
                answers.add(client.recv(100))
        server.join()
        print(answers)
    """
    guest = online(allow=f"tcp://127.0.0.1:{free_port}", listen=[free_port])
    assert run(guest, code, port=free_port) == ["{b'cba'}"]


def test_a_web_server_in_a_guest_answers_curl(online: Any, free_port: int) -> None:
    listening = threading.Event()

    def ready() -> None:
        listening.set()

    guest = online(listen=[free_port], plugins={"tools": {"functions": {"ready": ready}}})
    code = f"""
import hyperlight
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.path.encode())
    def log_message(self, *_):
        pass
server = HTTPServer(("", {free_port}), Handler)
hyperlight.tools.ready()
for _ in range(3):
    server.handle_request()
"""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(guest.run, code)
        assert listening.wait(60)
        for path in ("/a", "/b", "/c"):
            curl = ["curl", "--silent", "--max-time", "60", f"http://127.0.0.1:{free_port}{path}"]
            assert subprocess.run(curl, capture_output=True, check=True).stdout == path.encode()
        assert (running.result().exit_code, running.result().stderr) == (0, "")


def test_only_granted_ports_are_listened_on(run: Any, online: Any, free_port: int) -> None:
    code = """
        import socket
        for address in (("127.0.0.1", port ^ 1), ("0.0.0.0", port ^ 1), ("127.0.0.1", 0)):
            try:
                socket.create_server(address)
            except PermissionError:
                print("refused")
    """
    guest = online(listen=[free_port])
    assert run(guest, code, port=free_port) == ["refused"] * 3


# ---- waiting -------------------------------------------------------------------------------------


def test_sockets_pipes_and_events_are_waited_for_together(talk: Any) -> None:
    code = """
        import os, select, threading
        to_read, to_write = os.pipe()
        event = os.eventfd(0)
        poll, epoll = select.poll(), select.epoll()
        for one in (to_read, event, s.fileno()):
            poll.register(one, select.POLLIN)
            epoll.register(one, select.EPOLLIN)
        def ready():
            found = {one for one, _ in epoll.poll()}
            assert found == {one for one, _ in poll.poll()}
            assert found == set(select.select([to_read, event, s.fileno()], [], [])[0])
            return [name for one, name in
                    ((to_read, "pipe"), (event, "event"), (s.fileno(), "socket")) if one in found]
        threading.Thread(target=os.write, args=(to_write, b"x")).start()
        print(ready())
        os.read(to_read, 1)
        s.send(b"x")
        print(ready())
        os.eventfd_write(event, 1)
        print(ready())
        print(s.recv(1), ready())
        os.eventfd_read(event)
        print(poll.poll(0), epoll.poll(0), select.select([s], [s], [], 0) == ([], [s], []))
    """
    assert talk(code) == [
        "['pipe']",
        "['socket']",
        "['event', 'socket']",
        "b'x' ['event']",
        "[] [] True",
    ]


def test_edges_are_told_once(talk: Any) -> None:
    code = """
        import select
        s.setblocking(False)
        epoll = select.epoll()
        epoll.register(s, select.EPOLLIN | select.EPOLLET)
        for _ in range(3):
            s.send(b"ab")
            print(len(epoll.poll()), len(epoll.poll(0)), s.recv(9))
    """
    assert talk(code) == ["1 0 b'ab'"] * 3


def test_busy_threads_do_not_keep_a_socket_waiting(talk: Any) -> None:
    code = """
        import os, threading
        received = []
        reader = threading.Thread(target=lambda: received.append(s.recv(9)))
        reader.start()
        s.send(b"x")
        while not received:
            os.getppid()
        reader.join()
        print(received)
    """
    assert talk(code) == ["[b'x']"]


def test_waiting_costs_few_host_calls(sandbox: Any, black_hole: Any) -> None:
    calls: Counter[str] = Counter()
    guest = sandbox(
        "python",
        plugins={"net": {"allow": f"tcp://127.0.0.1:{black_hole.port}"}},
        after_host_call=lambda record: calls.update([record.method]),
    )
    code = f"""
import asyncio
async def main():
    reader, writer = await asyncio.open_connection("127.0.0.1", {black_hole.port})
    try:
        await asyncio.wait_for(reader.read(), 0.2)
    except TimeoutError:
        print("silence")
asyncio.run(main())
"""
    result = guest.run(code)
    assert (result.stdout, result.stderr) == ("silence\n", "")
    assert 1 <= calls["net.poll"] <= 20
