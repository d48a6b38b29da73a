"""What a guest's own programs are told about the limits of its network."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.kvm


def test_without_a_grant_there_is_no_network(run: Any, sandbox: Any) -> None:
    code = """
        import errno, socket
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                socket.socket(family)
            except OSError as error:
                print(errno.errorcode[error.errno])
    """
    assert run(sandbox("python"), code) == ["EAFNOSUPPORT"] * 2


def test_refused_destinations_are_permission_errors(run: Any, online: Any, echo: Any) -> None:
    code = """
        import socket
        from urllib.request import urlopen
        for address in (("127.0.0.1", port), ("10.0.0.1", 80), ("169.254.169.254", 80)):
            try:
                socket.create_connection(address)
            except PermissionError:
                print("refused")
        try:
            urlopen(f"http://127.0.0.1:{port}/")
        except OSError as error:
            print(type(error.reason).__name__)
    """
    guest = online(allow="all")
    assert run(guest, code, port=echo.port) == [*["refused"] * 3, "PermissionError"]
    assert echo.connections == 0


def test_no_spelling_of_a_special_address_is_connected_to(
    run: Any, online: Any, dns_stub: Any, canary: Any, ssrf_spellings: list[str]
) -> None:
    """Whatever the guest's C library and urllib make of it."""
    dns_stub.default = {"A": ["127.0.0.1"], "AAAA": ["::1", "::ffff:127.0.0.1"]}
    code = """
        import socket, hyperlight
        from http.client import HTTPException
        from urllib.request import urlopen
        refused = 0
        def attempt(connect, *arguments):
            global refused
            try:
                connect(*arguments)
            except (OSError, ValueError, HTTPException):
                refused += 1
            else:
                print("connected", *arguments)
        for spelling in spellings:
            host = spelling.strip("[]").replace("%25", "%")
            attempt(socket.create_connection, (host, port))
            attempt(urlopen, f"http://{spelling}:{port}/")
            attempt(hyperlight.http.get, f"http://{spelling}:{port}/")
        print(refused)
    """
    guest = online(allow="all", nameservers=[dns_stub.server])
    printed = run(guest, code, port=canary.port, spellings=ssrf_spellings)
    assert len(ssrf_spellings) >= 60
    assert printed == [str(3 * len(ssrf_spellings))]
    assert canary.connections() == 0


def test_a_rebinding_name_gains_nothing(run: Any, online: Any, dns_stub: Any, canary: Any) -> None:
    """The second answer is another one than the first, which was harmless."""
    dns_stub.answer("rebind.test", ["192.0.2.1"], ["127.0.0.1"])
    code = """
        import socket
        for _ in range(2):
            try:
                socket.create_connection(("rebind.test", port), timeout=0.05)
            except OSError:
                print("not connected")
    """
    allow = f"tcp://rebind.test:{canary.port} via 192.0.2.0/24"
    guest = online(allow=allow, nameservers=[dns_stub.server])
    assert run(guest, code, port=canary.port) == ["not connected"] * 2
    assert canary.connections() == 0


def test_budgets_hold_to_the_byte(run: Any, online: Any, echo: Any) -> None:
    code = """
        import errno, socket
        s = socket.create_connection(("127.0.0.1", port))
        received = 0
        try:
            while True:
                s.sendall(bytes(700))
                received += len(s.recv(700, socket.MSG_WAITALL))
        except OSError as error:
            print(received, errno.errorcode[error.errno])
    """
    guest = online(
        allow=f"tcp://127.0.0.1:{echo.port}", budgets={"received_bytes": 2000, "sent_bytes": 10_000}
    )
    assert run(guest, code, port=echo.port) == ["2000 EDQUOT"]


def test_connections_and_silence_are_limited(run: Any, online: Any, black_hole: Any) -> None:
    code = """
        import errno, socket
        s = socket.create_connection(("127.0.0.1", port))
        for ask in (lambda: socket.create_connection(("127.0.0.1", port)), lambda: s.recv(1)):
            try:
                ask()
            except OSError as error:
                print(errno.errorcode[error.errno])
    """
    guest = online(
        allow=f"tcp://127.0.0.1:{black_hole.port}",
        budgets={"connections": 1, "idle_seconds": 0.1},
    )
    assert run(guest, code, port=black_hole.port) == ["EDQUOT", "ETIMEDOUT"]
