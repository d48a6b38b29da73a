"""A capability filesystem: files beneath a few granted directories, and nothing else."""

from hl_fs.capfs import CapFs
from hl_fs.values import (
    Entry,
    EscapeError,
    Kind,
    Limits,
    Mount,
    OpenFlag,
    Permission,
    Snapshot,
    Space,
    Status,
    Usage,
)

__all__ = [
    "CapFs",
    "Entry",
    "EscapeError",
    "Kind",
    "Limits",
    "Mount",
    "OpenFlag",
    "Permission",
    "Snapshot",
    "Space",
    "Status",
    "Usage",
]
