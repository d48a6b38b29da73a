"""The page about debugging: its code runs as it stands and prints what it must."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.kvm
PAGE = Path(__file__).parents[1] / "docs" / "debugging.md"


@pytest.mark.parametrize(
    ("number", "printed"),
    [(0, "139 0x18\n_start\nas ever\n\n"), (1, "not yet\n True\n")],
)
def test_the_page_s_code_runs(tmp_path: Path, number: int, printed: str) -> None:
    code = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)[number]
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (result.stdout, result.stderr) == (printed, "")
