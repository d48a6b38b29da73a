"""Guests that come to life again from one snapshot on disk: their clocks and random numbers."""

from __future__ import annotations

import ast
import time
from pathlib import Path

import pytest

from hyperlight_core import Sandbox, load_snapshot

pytestmark = pytest.mark.kvm

DRAW = """
import os, random, secrets, time, uuid
print([time.time(), random.random(), secrets.token_hex(), os.urandom(8), str(uuid.uuid4()),
       own.random()])
"""


def test_each_has_the_right_time_and_randomness_of_its_own(tmp_path: Path) -> None:
    """What the program seeded itself goes on as it was."""
    with Sandbox() as sandbox:
        sandbox.run("import random, secrets, uuid; own = random.Random(7); random.seed(7)")
        sandbox.snapshot().save(tmp_path / "saved")
    start, drawn = load_snapshot(tmp_path / "saved"), []
    for _ in range(2):
        with Sandbox(start=start) as sandbox:
            before = time.time()
            drawn.append(ast.literal_eval(sandbox.run(DRAW).stdout))
            assert before - 1 <= drawn[-1][0] <= time.time() + 1
            sandbox.reset()
            drawn.append(ast.literal_eval(sandbox.run(DRAW).stdout))
    for values in list(zip(*drawn, strict=True))[1:5]:
        assert len(set(values)) == 4
    assert len({values[5] for values in drawn}) == 1
