"""Many connections of several guests at once: every byte is right, and nothing is left behind."""

from __future__ import annotations

import gc
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

pytestmark = pytest.mark.kvm

GUESTS, CONNECTIONS, ROUNDS, SIZE = 8, 25, 10, 20_000
CODE = """
    import asyncio
    async def talk(number):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        data = number.to_bytes(2, "big") * (size // 2)
        for _ in range(rounds):
            writer.write(data)
            assert await reader.readexactly(size) == data
        writer.close()
        await writer.wait_closed()
        return rounds * size
    async def main():
        print(sum(await asyncio.gather(*(talk(number) for number in range(connections)))))
    asyncio.run(main())
"""


def test_two_hundred_connections_of_eight_guests(run: Any, online: Any, echo: Any) -> None:
    whole = CONNECTIONS * ROUNDS * SIZE
    guests = [
        online(
            allow=f"tcp://127.0.0.1:{echo.port}",
            budgets={"sent_bytes": whole, "received_bytes": whole, "connections": CONNECTIONS},
        )
        for _ in range(GUESTS)
    ]
    values = {"port": echo.port, "connections": CONNECTIONS, "rounds": ROUNDS, "size": SIZE}
    for guest in guests:  # what a guest's first wait opens stays open
        run(guest, "import select, socket; select.select([], [socket.socket()], [])")
    before = len(os.listdir("/proc/self/fd"))
    with ThreadPoolExecutor(GUESTS) as pool:
        printed = list(pool.map(lambda guest: run(guest, CODE, **values), guests))
    assert printed == [[str(whole)]] * GUESTS
    assert echo.connections == GUESTS * CONNECTIONS
    echo.finished(20)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before
