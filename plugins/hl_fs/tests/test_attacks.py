"""Every attack of the list, by C and by Python; tests/test_mount_attacks.py has the guests."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .attacks import ATTACKS, Grant, Host


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_attack(attack: Callable[[Grant, Host], None], grant: Grant, host: Host) -> None:
    attack(grant, host)
