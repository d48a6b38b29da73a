"""Measures CapFs against the same work by plain os calls, in one run, as JSON rows.

Each row is one object a line: name, value, unit, floor (the plain os calls, same unit) and ratio.
For throughput the ratio is value / floor, for time per operation it is the same, so more is worse.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from hl_fs import CapFs, Limits, Mount, OpenFlag

BLOCK = 64 << 10
FILE = 64 << 20
SMALL = 1 << 10
STATS = 10_000
ENTRIES = 100_000
ROUNDS = 15
CREATE = OpenFlag.WRITE | OpenFlag.CREATE | OpenFlag.TRUNCATE


def best(work: Callable[[], object], floor: Callable[[], object]) -> tuple[float, float]:
    """The shortest time of each in seconds, taken in turns so that both see the same machine."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for function, seconds in zip((work, floor), times, strict=True):
            start = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - start)
    return min(times[0]), min(times[1])


def row(name: str, value: float, floor: float, unit: str) -> None:
    """Print one result."""
    measured = {"name": name, "value": round(value, 3), "unit": unit, "floor": round(floor, 3)}
    print(json.dumps({**measured, "ratio": round(value / floor, 3)}), flush=True)


def throughput(
    name: str, size: int, work: Callable[[], object], floor: Callable[[], object]
) -> None:
    """Measure work that moves `size` bytes."""
    ours, plain = best(work, floor)
    row(name, size / ours / 1e6, size / plain / 1e6, "MB/s")


def latency(name: str, count: int, work: Callable[[], object], floor: Callable[[], object]) -> None:
    """Measure `count` operations."""
    ours, plain = best(work, floor)
    row(name, ours / count * 1e6, plain / count * 1e6, "us/op")


def sequential(fs: CapFs, host: Path) -> None:
    """Reads and writes of 64 KiB, one behind the other, and reads of 4 KiB anywhere."""
    data, buffer = bytes(BLOCK), bytearray(BLOCK)
    ours = fs.open("/data/big", CREATE | OpenFlag.READ)
    plain = os.open(host / "plain", os.O_RDWR | os.O_CREAT)
    offsets = range(0, FILE, BLOCK)
    throughput(
        "fs.write.64k",
        FILE,
        lambda: [fs.write(ours, data, at) for at in offsets],
        lambda: [os.pwrite(plain, data, at) for at in offsets],
    )
    throughput(
        "fs.read_into.64k",
        FILE,
        lambda: [fs.read_into(ours, buffer, at) for at in offsets],
        lambda: [os.preadv(plain, [buffer], at) for at in offsets],
    )
    throughput(
        "fs.read.64k",
        FILE,
        lambda: [fs.read(ours, BLOCK, at) for at in offsets],
        lambda: [os.pread(plain, BLOCK, at) for at in offsets],
    )
    page = bytearray(4096)
    anywhere = random.Random(1).sample(range(0, FILE, 4096), 8192)  # noqa: S311 - no secret
    latency(
        "fs.read_into.4k.random",
        len(anywhere),
        lambda: [fs.read_into(ours, page, at) for at in anywhere],
        lambda: [os.preadv(plain, [page], at) for at in anywhere],
    )
    fs.close_handle(ours)
    os.close(plain)


def metadata(fs: CapFs, host: Path) -> None:
    """10,000 stats, and small files opened, read and closed."""
    (host / "small").write_bytes(bytes(SMALL))
    plain = str(host / "small")

    def whole() -> None:
        for _ in range(STATS):
            handle = fs.open("/read/small", OpenFlag.READ)
            fs.read(handle, SMALL)
            fs.close_handle(handle)

    def whole_plain() -> None:
        for _ in range(STATS):
            handle = os.open(plain, os.O_RDONLY)
            os.read(handle, SMALL)
            os.close(handle)

    latency(
        "fs.stat.10k",
        STATS,
        lambda: [fs.stat("/read/small") for _ in range(STATS)],
        lambda: [os.stat(plain) for _ in range(STATS)],  # noqa: PTH116 - the floor
    )
    latency("fs.open_read_close.1k", STATS, whole, whole_plain)


def listing(fs: CapFs, host: Path) -> None:
    """A directory of 100,000 entries."""
    (host / "many").mkdir()
    for number in range(ENTRIES):
        (host / "many" / f"{number:06}").touch()

    def plain() -> None:
        with os.scandir(host / "many") as entries:
            if sum(entry.is_file() for entry in entries) != ENTRIES:
                raise RuntimeError("the plain listing is not whole")

    def ours() -> None:
        if sum(entry.kind == "file" for entry in fs.scandir("/read/many")) != ENTRIES:
            raise RuntimeError("the listing is not whole")

    latency("fs.scandir.100k", ENTRIES, ours, plain)


def main() -> int:
    """Run every measurement in a fresh directory."""
    with tempfile.TemporaryDirectory() as name:
        limits = Limits(list_entries=None)
        mounts = [Mount("/data", name, "rw"), Mount("/read", name)]
        with CapFs(mounts, limits) as fs:
            for measure in (sequential, metadata, listing):
                measure(fs, Path(name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
