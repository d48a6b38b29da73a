"""Many connections of several guests at once: every byte is right, and nothing is left behind.

`make load` keeps them up for half a minute, as HL_LOAD_SECONDS asks for.
"""

from __future__ import annotations

import gc
import os
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.kvm

SECONDS = float(os.environ.get("HL_LOAD_SECONDS", "0"))
GUESTS, CONNECTIONS, ROUNDS, SIZE = 8, 25, 5, 20_000
WHOLE = CONNECTIONS * ROUNDS * SIZE
#: MiB by which this process may grow, however long it goes on.
GROWTH = 32
CODE = """
    import asyncio, errno, os
    async def talk(number, reader, writer):
        data = number.to_bytes(2, "big") * (size // 2)
        for _ in range(rounds):
            writer.write(data)
            assert await reader.readexactly(size) == data
        return rounds * size
    async def main():
        streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(connections)]
        talks = [talk(number, *pair) for number, pair in enumerate(streams)]
        print(sum(await asyncio.gather(*talks)))
        try:
            os.write(streams[0][1].get_extra_info("socket").fileno(), b"x")
        except OSError as error:
            print(errno.errorcode[error.errno])
        for _, writer in streams:
            writer.close()
        await asyncio.gather(*(w.wait_closed() for _, w in streams), return_exceptions=True)
    asyncio.run(main())
"""


def _held() -> tuple[int, int]:
    """Descriptors and threads of this process."""
    gc.collect()
    return len(os.listdir("/proc/self/fd")), threading.active_count()


def _memory() -> int:
    """Resident memory of this process in MiB."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) >> 10


@pytest.mark.timeout(300 + SECONDS)
def test_two_hundred_connections_of_eight_guests(run: Any, online: Any, echo: Any) -> None:
    """Each guest uses up its budget, and not one byte more, again and again."""
    budgets = {"sent_bytes": WHOLE, "received_bytes": WHOLE, "connections": CONNECTIONS}
    guests = [online(allow=f"tcp://127.0.0.1:{echo.port}", budgets=budgets) for _ in range(GUESTS)]
    values = {"port": echo.port, "connections": CONNECTIONS, "rounds": ROUNDS, "size": SIZE}
    for guest in guests:  # what a guest's first wait opens stays open
        run(guest, "import select, socket; select.select([], [socket.socket()], [])")
    before, end = _held(), time.monotonic() + SECONDS
    sizes: list[int] = []
    while len(sizes) < 2 or time.monotonic() < end:
        with ThreadPoolExecutor(GUESTS) as pool:
            printed = list(pool.map(lambda guest: run(guest, CODE, **values), guests))
        assert printed == [[str(WHOLE), "EDQUOT"]] * GUESTS
        echo.finished(20)
        sizes.append(_memory())
    assert echo.connections == len(sizes) * GUESTS * CONNECTIONS
    descriptors, threads = _held()
    assert descriptors <= before[0]
    assert threads <= before[1]  # a lookup that another test gave up may have ended meanwhile
    assert sizes[-1] - sizes[0] <= GROWTH, sizes
