"""What the tests of core share."""

from __future__ import annotations

from pathlib import Path

import pytest

from hyperlight_core.guests import GuestImage
from hyperlight_core.pytest_plugin import MakeGuest

GUESTS = Path(__file__).parent / "guests"


@pytest.fixture(scope="session")
def hostile(guest: MakeGuest) -> GuestImage:
    """A native guest that does what the test says: count, write, crash, lie."""
    return guest((GUESTS / "hostile.c").read_text(encoding="utf-8"))
