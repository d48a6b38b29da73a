"""Write to the read-only mount."""

import sys
from pathlib import Path

with open(Path(sys.argv[1]) / "orders.csv", "a") as file:
    file.write("forged,2026-01-01,XX,none,1\n")
print("wrote")
