"""The examples of the README run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from hl_fs import Limits

README = (Path(__file__).parents[1] / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_example_without_a_sandbox_runs(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (example,) = [text for text in EXAMPLES if "hyperlight_core" not in text]
    command = [sys.executable, "-c", example]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "['new'] 7\n"


def test_every_limit_is_in_the_readme_with_its_default() -> None:
    table = README.partition("| limit |")[2].partition("\n\n")[0]
    for name in Limits.__dataclass_fields__:
        assert f"`{name}`" in table
    for text in ("1,024", "4,096; 64", "16 MiB", "10,000", "4 GiB", "16 GiB, 1,000,000"):
        assert text in table
    limits = Limits()
    assert (limits.handles, limits.path_bytes, limits.depth) == (1024, 4096, 64)
    assert (limits.call_bytes, limits.list_entries) == (16 << 20, 10_000)
    assert (limits.file_bytes, limits.mount_bytes) == (4 << 30, 16 << 30)
    assert limits.mount_files == 1_000_000
