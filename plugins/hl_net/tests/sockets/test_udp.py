"""UDP: only with granted peers, both ways."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

POLLIN = 1


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    """A datagram socket of somebody else."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        made.settimeout(20)
        yield made


def test_datagrams_to_a_granted_peer(make_guest: Any, peer: socket.socket) -> None:
    port = peer.getsockname()[1]
    guest = make_guest(allow=f"udp://127.0.0.1:{port}")
    handle = guest.socket("dgram")
    guest.call("net.send", b"ask", handle=handle, address="127.0.0.1", port=port)
    data, sender = peer.recvfrom(100)
    assert data == b"ask"
    peer.sendto(b"answer", sender)
    assert guest.poll(handle, POLLIN) == POLLIN
    reply = guest.call("net.recv", handle=handle, size=100)
    assert reply.attachment == b"answer"
    assert (reply["address"], reply["port"], reply["length"]) == ("127.0.0.1", port, 6)


def test_connected_datagram_socket(make_guest: Any, peer: socket.socket) -> None:
    port = peer.getsockname()[1]
    guest = make_guest(allow=f"udp://127.0.0.1:{port}")
    handle = guest.socket("dgram")
    guest.call("net.connect", handle=handle, address="127.0.0.1", port=port)
    guest.call("net.send", b"ask", handle=handle)
    data, sender = peer.recvfrom(100)
    peer.sendto(data.upper(), sender)
    assert guest.receive(handle) == b"ASK"


def test_destination_needs_a_rule(make_guest: Any, peer: socket.socket) -> None:
    port = peer.getsockname()[1]
    guest = make_guest(allow=f"tcp://127.0.0.1:{port}")
    handle = guest.socket("dgram")
    error = guest.refused("net.send", b"x", handle=handle, address="127.0.0.1", port=port)
    assert (error.errno, error.rule) == ("EACCES", f"udp://127.0.0.1:{port}")
    error = guest.refused("net.connect", handle=handle, address="127.0.0.1", port=port)
    assert error.errno == "EACCES"


def test_strangers_are_not_heard(make_guest: Any, peer: socket.socket) -> None:
    port = peer.getsockname()[1]
    guest = make_guest(allow=f"udp://127.0.0.1:{port}")
    handle = guest.socket("dgram")
    guest.call("net.send", b"ask", handle=handle, address="127.0.0.1", port=port)
    _, sender = peer.recvfrom(100)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"forged", sender)
        assert guest.poll(handle, POLLIN) == POLLIN
        assert guest.refused("net.recv", handle=handle, size=100).errno == "EAGAIN"
        stranger.sendto(b"forged", sender)
        peer.sendto(b"true", sender)
        assert guest.receive(handle) == b"true"


def test_listening_socket_hears_everybody_and_may_answer(
    make_guest: Any, peer: socket.socket
) -> None:
    guest = make_guest(listen=["udp://0"])
    handle = guest.socket("dgram")
    guest.call("net.bind", handle=handle, address="0.0.0.0", port=0)  # noqa: S104
    own = guest.call("net.getsockname", handle=handle)
    peer.sendto(b"hello", (own["address"], own["port"]))
    guest.poll(handle, POLLIN)
    heard = guest.call("net.recv", handle=handle, size=100)
    assert heard.attachment == b"hello"
    guest.call("net.send", b"hi", handle=handle, address=heard["address"], port=heard["port"])
    assert peer.recv(100) == b"hi"
    other = guest.refused("net.send", b"hi", handle=handle, address="127.0.0.1", port=9)
    assert other.errno == "EACCES"


def test_long_datagram_is_cut_and_its_length_told(make_guest: Any, peer: socket.socket) -> None:
    port = peer.getsockname()[1]
    guest = make_guest(allow=f"udp://127.0.0.1:{port}")
    handle = guest.socket("dgram")
    guest.call("net.connect", handle=handle, address="127.0.0.1", port=port)
    guest.call("net.send", b"ask", handle=handle)
    _, sender = peer.recvfrom(100)
    peer.sendto(b"0123456789", sender)
    guest.poll(handle, POLLIN)
    reply = guest.call("net.recv", handle=handle, size=4)
    assert (reply.attachment, reply["size"], reply["length"]) == (b"0123", 4, 10)


def test_no_destination_is_an_error(make_guest: Any) -> None:
    guest = make_guest(allow="all")
    error = guest.refused("net.send", b"x", handle=guest.socket("dgram"))
    assert error.errno == "EDESTADDRREQ"


def test_datagram_beyond_the_budget_is_not_sent(make_guest: Any, peer: socket.socket) -> None:
    port = peer.getsockname()[1]
    guest = make_guest(allow=f"udp://127.0.0.1:{port}", budgets={"sent_bytes": 5})
    handle = guest.socket("dgram")
    target = {"handle": handle, "address": "127.0.0.1", "port": port}
    guest.call("net.send", b"123", **target)
    assert guest.refused("net.send", b"123", **target).data["budget"] == "sent_bytes"
    assert guest.refused("net.send", b"1", **target).data["budget"] == "sent_bytes"
    assert peer.recv(100) == b"123"
    peer.setblocking(False)
    with pytest.raises(BlockingIOError):
        peer.recv(100)
