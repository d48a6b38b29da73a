"""What guests try, written once for every way into hl_fs: by C, by Python, from inside a guest."""

from . import escapes, limits, weaknesses
from .world import ATTACKS, EVERYTHING, Files, Grant, Host, errno_of

__all__ = [
    "ATTACKS",
    "EVERYTHING",
    "Files",
    "Grant",
    "Host",
    "errno_of",
    "escapes",
    "limits",
    "weaknesses",
]
