"""Files: the Python API of hl_fs beside plain os calls; the same work in a guest and outside."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from floors import ROOT, native_python
from measure import Result

from hyperlight_core import Sandbox

ENTRIES, STATS = 100_000, 10_000
#: For the rows of bench_fs.py: the ratio to plain calls that is to be reached.
RATE_TARGET, TIME_TARGET = 0.8, 3.0
#: Runs in the guest on a mount and outside on the folder; prints one JSON object.
WORK = """
import json, os, random, time
folder = {folder!r}
BLOCK, SIZE = 65536, 64 << 20
def best(work, rounds=5):
    taken = []
    for _ in range(rounds):
        began = time.perf_counter(); work(); taken.append(time.perf_counter() - began)
    return min(taken)
def write():
    for at in range(0, SIZE, BLOCK): os.pwrite(file, data, at)
def read():
    os.lseek(file, 0, 0)
    while os.readv(file, [buffer]): pass
def anywhere():
    for at in offsets: os.preadv(file, [page], at)
def stat():
    for _ in range({stats}): os.stat(small)
def whole():
    for _ in range(500):
        one = os.open(small, os.O_RDONLY); os.read(one, 1024); os.close(one)
def listing():
    with os.scandir(folder + "/many") as entries: assert sum(1 for _ in entries) == {entries}
file = os.open(folder + "/big", os.O_RDWR | os.O_CREAT)
data, buffer, page, small = bytes(BLOCK), bytearray(BLOCK), bytearray(4096), folder + "/small"
offsets = random.Random(1).sample(range(0, SIZE, 4096), 1000)
found = {{"64 KiB write": SIZE / best(write) / 1e9, "64 KiB read": SIZE / best(read) / 1e9,
         "4 KiB random read": best(anywhere) / 1000 * 1e6,
         "10,000 x stat, each": best(stat, 3) / {stats} * 1e6,
         "open, read, close of 1 KiB": best(whole) / 500 * 1e6,
         "listing 100,000 entries, each": best(listing, 3) / {entries} * 1e6}}
print(json.dumps(found))
"""


def measure() -> Iterator[Result]:
    """Throughput and time per operation."""
    yield from _python_api()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "small").write_bytes(bytes(1024))
        (folder / "many").mkdir()
        for number in range(ENTRIES):
            (folder / "many" / str(number)).touch()
        outside = json.loads(native_python(WORK.format(folder=name, entries=ENTRIES, stats=STATS)))
        mounts = [{"host": name, "guest": "/data", "mode": "rw"}]
        limits = {"list_entries": None}
        plugins = {"fs": {"mounts": mounts, "limits": limits}}
        with Sandbox(plugins=plugins, timeout=None) as sandbox:
            result = sandbox.run(WORK.format(folder="/data", entries=ENTRIES, stats=STATS))
        if result.exit_code:
            raise RuntimeError(result.stderr)
        inside = json.loads(result.stdout)
    for what, value in inside.items():
        rate = what.startswith("64 KiB")
        yield Result(
            f"guest, {what}",
            value,
            "GB/s" if rate else "us",
            outside[what],
            "plain os calls outside",
            1.0 if what == "64 KiB read" else None,
            higher_is_better=rate,
            target_is_value=rate,
        )


def _python_api() -> Iterator[Result]:
    script = ROOT / "plugins" / "hl_fs" / "benchmarks" / "bench_fs.py"
    command = [sys.executable, str(script)]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    for line in found.stdout.splitlines():
        row = json.loads(line)
        rate = row["unit"] == "MB/s"
        yield Result(
            row["name"],
            row["value"],
            row["unit"],
            row["floor"],
            "plain os calls",
            RATE_TARGET if rate else TIME_TARGET,
            higher_is_better=rate,
        )
