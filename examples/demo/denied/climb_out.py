"""Climb out of the mount with ..."""

import sys
from pathlib import Path

print((Path(sys.argv[1]) / ".." / "secret.txt").read_text())
