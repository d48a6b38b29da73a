"""A snapshot on disk: its sockets are reset or listen again, and nothing in the file is a grant."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

import pytest

from hyperlight_core.errors import ConfigurationError
from hyperlight_core.hookspecs import SnapshotToken

POLLIN, POLLERR, POLLHUP = 1, 8, 16
BOUND = {"address": "127.0.0.1", "port": 0, "backlog": 5}
LISTENER = {"protocol": "tcp", "family": "inet", "bound": BOUND}


@pytest.fixture
def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@pytest.fixture
def saved(snapshot: Callable[[Any], SnapshotToken]) -> Callable[[Any], SnapshotToken]:
    """What a snapshot on disk brings to another process."""

    def save(guest: Any) -> SnapshotToken:
        return SnapshotToken(on_disk=json.loads(json.dumps(snapshot(guest).on_disk)))

    return save


def _restore(guest: Any, handles: dict[str, Any], next_number: object = 9) -> None:
    """Start from a file that somebody has altered."""
    content = {"net": {"next_number": next_number, "handles": handles}}
    guest.plugin.snapshot_restored(SnapshotToken(on_disk=content))


def test_socket_open_at_the_snapshot_reads_as_reset(make_guest: Any, saved: Any, echo: Any) -> None:
    allow = f"tcp://127.0.0.1:{echo.port}"
    origin = make_guest(allow=allow)
    handles = [origin.connect("127.0.0.1", echo.port), origin.socket(), origin.socket("dgram")]
    loaded = make_guest(allow=allow)
    loaded.plugin.snapshot_restored(saved(origin))
    for handle in handles:
        assert loaded.poll(handle, POLLIN) == POLLIN | POLLERR | POLLHUP
        assert loaded.refused("net.recv", handle=handle, size=1).errno == "ECONNRESET"
        assert loaded.refused("net.send", b"x", handle=handle).errno == "ECONNRESET"
        loaded.call("net.close", handle=handle)
        assert loaded.refused("net.close", handle=handle).errno == "EBADF"
    origin.call("net.send", b"still there", handle=handles[0])
    assert origin.receive(handles[0]) == b"still there"


def test_number_of_a_former_life_is_never_another_socket(
    make_guest: Any, saved: Any, echo: Any
) -> None:
    allow = f"tcp://127.0.0.1:{echo.port}"
    origin = make_guest(allow=allow)
    old = [origin.socket() for _ in range(3)]
    origin.call("net.close", handle=old[2])
    loaded = make_guest(allow=allow)
    loaded.plugin.snapshot_restored(saved(origin))
    new = loaded.connect("127.0.0.1", echo.port)
    assert new > max(old)
    again = make_guest(allow=allow)
    again.plugin.snapshot_restored(saved(loaded))
    assert again.refused("net.recv", handle=new, size=1).errno == "ECONNRESET"
    assert again.socket() > new


def test_request_open_at_the_snapshot_reads_as_reset(
    make_guest: Any, saved: Any, serve: Any
) -> None:
    def run(connection: Any) -> None:
        connection.recv(1 << 16)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
        connection.recv(1)

    url = f"http://127.0.0.1:{serve(run).port}/"
    origin, loaded = make_guest(allow=url), make_guest(allow=url)
    handle = origin.get(url)["handle"]
    loaded.plugin.snapshot_restored(saved(origin))
    assert loaded.refused("net.response_read", handle=handle, size=1).errno == "ECONNRESET"
    loaded.call("net.close", handle=handle)


def test_listener_is_bound_again_where_it_is_granted(
    make_guest: Any, saved: Any, free_port: int
) -> None:
    origin = make_guest(listen=[free_port])
    handle = origin.socket()
    origin.call("net.bind", handle=handle, address="127.0.0.1", port=free_port)
    origin.call("net.listen", handle=handle, backlog=5)
    token = saved(origin)
    busy, stranger = make_guest(listen=[free_port]), make_guest()
    busy.plugin.snapshot_restored(token)
    assert busy.refused("net.accept", handle=handle).errno == "ECONNRESET"
    origin.close()
    stranger.plugin.snapshot_restored(token)
    assert stranger.refused("net.accept", handle=handle).errno == "ECONNRESET"
    loaded = make_guest(listen=[free_port])
    loaded.plugin.snapshot_restored(token)
    with socket.create_connection(("127.0.0.1", free_port), 20):
        loaded.poll(handle, POLLIN)
        loaded.call("net.accept", handle=handle)


def test_altered_file_does_not_choose_the_port_of_a_listener(
    make_guest: Any, saved: Any, free_port: int
) -> None:
    """Port 0 is granted, which is any that the host chooses."""
    guest = make_guest(listen=[0])
    _restore(guest, {"3": LISTENER, "4": {**LISTENER, "bound": {**BOUND, "port": free_port}}})
    assert guest.call("net.getsockname", handle=3)["port"] not in (0, free_port)
    assert guest.refused("net.accept", handle=4).errno == "ECONNRESET"
    kept = saved(guest).on_disk["net"]["handles"]["3"]["bound"]
    assert kept == BOUND


def test_altered_file_does_not_give_a_granted_name_an_address(
    make_guest: Any, saved: Any, dns_stub: Any, echo: Any
) -> None:
    """Names are looked up anew, whatever the guest remembers."""
    dns_stub.answer("a.test", ["127.0.0.1"])
    configuration = {
        "allow": f"tcp://a.test:{echo.port} via 127.0.0.1/32",
        "nameservers": [dns_stub.server],
    }
    origin, loaded = make_guest(**configuration), make_guest(**configuration)
    origin.call("net.resolve", name="a.test")
    token = saved(origin)
    assert "a.test" not in json.dumps(token.on_disk)
    loaded.plugin.snapshot_restored(token)
    target = {"address": "127.0.0.1", "port": echo.port}
    assert loaded.refused("net.connect", handle=loaded.socket(), **target).errno == "EACCES"


def test_altered_file_has_no_more_handles_than_granted(make_guest: Any) -> None:
    guest = make_guest(listen=[0], budgets={"open_handles": 3})
    with pytest.raises(ConfigurationError, match="4 open sockets and requests"):
        _restore(guest, {str(number): LISTENER for number in range(1, 5)})
    assert guest.poll(1, POLLIN) == 32  # POLLNVAL: none was opened


@pytest.mark.parametrize(
    ("handles", "next_number"),
    [
        ({}, 0),
        ({}, 2**53),
        ({}, "9"),
        ({}, True),
        ([], 9),
        ({"9": None}, 9),
        ({"0": None}, 9),
        ({"-1": None}, 9),
        ({"1e0": None}, 9),
        ({"1" * 5000: None}, 9),
        ({"1": {}}, 9),
        ({"1": {"protocol": "raw", "family": "inet"}}, 9),
        ({"1": {"protocol": "tcp", "family": "unix"}}, 9),
        ({"1": {"protocol": "tcp", "family": 16}}, 9),
        ({"1": {**LISTENER, "bound": {**BOUND, "address": "localhost"}}}, 9),
        ({"1": {**LISTENER, "bound": {**BOUND, "address": "fe80::1%lo"}}}, 9),
        ({"1": {**LISTENER, "bound": {**BOUND, "address": 1}}}, 9),
        ({"1": {**LISTENER, "bound": {**BOUND, "port": 65536}}}, 9),
        ({"1": {**LISTENER, "bound": {**BOUND, "backlog": "5"}}}, 9),
        ({"1": {**LISTENER, "path": "/run/docker.sock"}}, 9),
    ],
)
def test_malformed_file_is_refused(make_guest: Any, handles: Any, next_number: object) -> None:
    with pytest.raises(ConfigurationError, match="sockets of the snapshot"):
        _restore(make_guest(listen=[0]), handles, next_number)


def test_snapshot_without_a_network_begins_with_none(make_guest: Any) -> None:
    guest = make_guest()
    guest.plugin.snapshot_restored(SnapshotToken(on_disk={"fs": 7}))
    assert guest.socket() == 1
