"""What the demo's sandbox stands on: folders of the host, and what is granted of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orders import CATALOGUE, Article, write_orders

__all__ = ["DENIED", "REPORT", "Stage", "article"]

_HERE = Path(__file__).parent
REPORT = _HERE / "report.py"
#: Scripts that work on the host and must not work in the sandbox; each says what it tries.
DENIED = sorted((_HERE / "denied").glob("*.py"))


def article(sku: str) -> Article:
    """Look up an article."""
    return CATALOGUE[sku]


@dataclass(frozen=True)
class Stage:
    """The folders: `data` is to be read, `out` written, and what is beside them is a secret."""

    data: Path
    out: Path

    @classmethod
    def build(cls, folder: Path) -> Stage:
        """Make everything below `folder`, an empty folder."""
        stage = cls(folder / "data", folder / "out")
        stage.data.mkdir()
        stage.out.mkdir()
        write_orders(stage.data / "orders.csv")
        (folder / "secret.txt").write_text("the host's secret\n")
        (stage.data / "shortcut").symlink_to(folder / "secret.txt")
        return stage

    def plugins(self) -> dict[str, Any]:
        """The sandbox's abilities, all of them."""
        mounts = [
            {"host": str(self.data), "guest": "/data", "mode": "ro"},
            {"host": str(self.out), "guest": "/out", "mode": "rw"},
        ]
        return {"fs": {"mounts": mounts}, "tools": {"functions": {"article": article}}}
