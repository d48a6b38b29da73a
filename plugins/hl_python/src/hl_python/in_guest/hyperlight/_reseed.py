"""Gives the random number generators of a guest that was copied a state of their own."""

from __future__ import annotations

import os
import sys


def reseed() -> None:
    """Seed what has been imported; what comes later takes its seed from the kernel anyway."""
    modules = sys.modules
    if "random" in modules:
        modules["random"].seed(os.urandom(32))
    if "numpy.random.mtrand" in modules:
        modules["numpy.random.mtrand"].seed()
    if "_ssl" in modules:
        modules["_ssl"].RAND_add(os.urandom(32), 32.0)
