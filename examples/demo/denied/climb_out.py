"""Climb out of the mount by its parent folder."""

import sys
from pathlib import Path

print((Path(sys.argv[1]) / ".." / "secret.txt").read_text())
