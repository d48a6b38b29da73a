"""Many connections of many guests at once: budgets hold to the byte, and nothing stays behind."""

from __future__ import annotations

import os
import threading
from typing import Any

GUESTS, CONNECTIONS, ROUNDS, SIZE = 8, 25, 8, 4000
POLLIN = 1


def _work(guest: Any, port: int, failures: list[BaseException]) -> None:
    try:
        handles = [guest.connect("127.0.0.1", port) for _ in range(CONNECTIONS)]
        for number in range(ROUNDS):
            block = bytes([number]) * SIZE
            for handle in handles:
                assert guest.call("net.send", block, handle=handle)["size"] == SIZE
            for handle in handles:
                assert guest.receive_exactly(handle, SIZE) == block
        for handle in handles:
            assert guest.refused("net.send", b"x", handle=handle).data["budget"] == "sent_bytes"
            guest.call("net.close", handle=handle)
    except BaseException as error:  # noqa: BLE001 (told to the test's own thread)
        failures.append(error)


def test_two_hundred_connections(make_guest: Any, echo: Any) -> None:
    budget = CONNECTIONS * ROUNDS * SIZE
    guests = [
        make_guest(
            allow=f"tcp://127.0.0.1:{echo.port}",
            budgets={"sent_bytes": budget, "received_bytes": budget},
        )
        for _ in range(GUESTS)
    ]
    failures: list[BaseException] = []
    threads = [
        threading.Thread(target=_work, args=(guest, echo.port, failures)) for guest in guests
    ]
    before = len(os.listdir("/proc/self/fd"))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert echo.connections == GUESTS * CONNECTIONS
    echo.finished(20)
    assert len(os.listdir("/proc/self/fd")) <= before
