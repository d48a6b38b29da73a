"""Used from a guest, with nothing changed anywhere else."""

from __future__ import annotations

from typing import Any

import pytest

from hyperlight_core import Sandbox

CODE = """
import hyperlight
print(hyperlight.sqlite.query(sql="select sum(price) from orders")["rows"])
try:
    hyperlight.sqlite.query(sql="select * from customers")
except hyperlight.InvalidParamsError as error:
    print(error)
"""


@pytest.mark.kvm
def test_a_guest_queries_the_database(configuration: dict[str, Any]) -> None:
    with Sandbox("python", plugins={"sqlite": configuration}) as sandbox:
        result = sandbox.run(CODE)
    assert result.stderr == ""
    total, refusal = result.stdout.splitlines()
    assert total == "[[10.0]]"
    assert "prohibited" in refusal
