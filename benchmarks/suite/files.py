"""Files: a large file read through a mount in 64 KiB pieces, beside the same outside."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from floors import native_python
from measure import Result

from hyperlight_core import Sandbox

SIZE = 64 * 2**20
READ = """
import os, time
def read(path):
    descriptor = os.open(path, os.O_RDONLY)
    began, size = time.perf_counter(), 0
    buffer = bytearray(65536)
    while got := os.readv(descriptor, [buffer]):
        size += got
    os.close(descriptor)
    return size / (time.perf_counter() - began) / 1e9
print(max(read({path!r}) for _ in range(5)))
"""


def measure() -> Iterator[Result]:
    """Throughput of sequential reads."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large"
        path.write_bytes(os.urandom(SIZE))
        outside = float(native_python(READ.format(path=str(path))))
        mounts = [{"host": folder, "guest": "/data", "mode": "ro"}]
        with Sandbox(plugins={"fs": {"mounts": mounts}}, timeout=None) as sandbox:
            inside = float(sandbox.run(READ.format(path="/data/large")).stdout)
    yield Result(
        "64 KiB reads from a mount",
        inside,
        "GB/s",
        outside,
        "native read",
        1.0,
        higher_is_better=True,
        target_is_value=True,
    )
