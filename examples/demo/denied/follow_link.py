"""Climb out through a symbolic link."""

import sys
from pathlib import Path

print((Path(sys.argv[1]) / "shortcut").read_text())
