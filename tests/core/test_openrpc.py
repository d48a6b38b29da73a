"""Host functions as an OpenRPC document."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from pydantic import Field

from hyperlight_core.errors import DeniedError
from hyperlight_core.functions import Model, functions_of, host_function
from hyperlight_core.openrpc import openrpc_document


class Point(Model):
    """A place."""

    x: int
    y: int = 0


class MoveRequest(Model):
    """Where to go."""

    to: Point
    speed: float = Field(default=1.0, gt=0)


class MoveResponse(Model):
    """Where it got to."""

    at: Point


class Robot:
    """Offers one function."""

    @host_function("robot.move", errors=[DeniedError])
    def move(self, request: MoveRequest) -> MoveResponse:
        """Move somewhere.

        Not part of the summary.
        """
        return MoveResponse(at=request.to)


@pytest.fixture
def document() -> dict[str, Any]:
    return openrpc_document(functions_of(Robot()))


def test_a_method_has_its_parameters_by_name(document: dict[str, Any]) -> None:
    (method,) = document["methods"]
    assert (method["name"], method["summary"]) == ("robot.move", "Move somewhere.")
    assert method["paramStructure"] == "by-name"
    assert [(p["name"], p["required"]) for p in method["params"]] == [
        ("to", True),
        ("speed", False),
    ]
    assert method["params"][1]["schema"]["exclusiveMinimum"] == 0


def test_every_reference_leads_to_a_schema(document: dict[str, Any]) -> None:
    """Nested models are shared components, also where a request and a response both use one."""
    references = re.findall(r'"\$ref": "([^"]+)"', json.dumps(document))
    assert references
    for reference in references:
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]


def test_errors_carry_their_codes(document: dict[str, Any]) -> None:
    assert document["methods"][0]["errors"] == [
        {"code": -32001, "message": "The policy does not allow it."}
    ]


def test_no_functions_make_an_empty_document() -> None:
    assert openrpc_document([])["methods"] == []
