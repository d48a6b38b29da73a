"""What is made of an OpenRPC document for compilers, type checkers and people."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field

from hyperlight_core.errors import ConfigurationError, DeniedError
from hyperlight_core.functions import HostFunction, Model
from hyperlight_core.openrpc import openrpc_document
from hyperlight_core.schema.c_header import c_header
from hyperlight_core.schema.reference import reference_page
from hyperlight_core.schema.stubs import python_stubs


class Empty(Model):
    pass


class Point(Model):
    x: int
    y: int = 0


class Route(Model):
    points: list[Point]


class DrawRequest(Model):
    name: str = Field(description="Seen on | the map.", max_length=9)
    count: int
    path: Route
    fill: bool = False
    text: str | None = None
    color: Literal["red", "blue"] | None = None
    default: int | None = None
    odd_name: Any = Field(default=None, alias="odd-name")


class DrawReply(Model):
    at: Point
    size: int | None = None


def function(name: str, request: Any = Empty, response: Any = Empty, **more: Any) -> HostFunction:
    return HostFunction(name, lambda _: None, request, response, **more)


@pytest.fixture
def document() -> dict[str, Any]:
    functions = [
        function("art.draw", DrawRequest, DrawReply, doc="Draw */ it.", errors=(DeniedError,)),
        function("art.list", response=DrawReply, doc="All."),
        function("art.deep.int", DrawRequest, doc="Below."),
        function("art.not-a-name"),
    ]
    return openrpc_document(functions)


# ---- stubs -------------------------------------------------------------------------------------

GOOD = """
import hyperlight
point = hyperlight.art.draw(name="a", count=1, path={"points": [{"x": 1}]}, fill=True)["at"]
total: int = point["x"] + hyperlight.art.list()["at"].get("y", 0)
hyperlight.art.deep.int(name="a", count=1, path={"points": []}, color="red", default=None)
hyperlight.call("art.draw")
"""
WRONG = {
    "name=1, count=1, path={'points': []}": "arg-type",
    "name='a', count=1, path={'points': [{}]}": "typeddict-item",
    "name='a', path={'points': []}": "call-arg",
    "name='a', count=1, path={'points': []}, color='green'": "arg-type",
    "name='a', count=1, path={'points': []}, fill=None": "arg-type",
}


def check(folder: Path, code: str) -> str:
    """What mypy says of a guest's script."""
    (folder / "script.py").write_text(code)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(folder / "cache")]
    command += ["--config-file", "", "script.py", "hyperlight.pyi"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout


def test_stubs_tell_a_type_checker_right_from_wrong(
    tmp_path: Path, document: dict[str, Any]
) -> None:
    (tmp_path / "hyperlight.pyi").write_text(python_stubs(document))
    assert "Success" in check(tmp_path, GOOD)
    calls = "".join(f"hyperlight.art.draw({arguments})\n" for arguments in WRONG)
    said = check(tmp_path, f"import hyperlight\n{calls}")
    faults = re.findall(r"^script\.py:(\d+): error: .*\[(.*)\]$", said, re.MULTILINE)
    assert faults == [(str(line), kind) for line, kind in enumerate(WRONG.values(), start=2)]


def test_stubs_leave_out_what_python_cannot_name(document: dict[str, Any]) -> None:
    stubs = python_stubs(document)
    assert "odd-name" not in stubs
    assert "not-a-name" not in stubs


# ---- header ------------------------------------------------------------------------------------

PROGRAM = """
#include "functions.h"
#include <stdio.h>
int main(void) {
    const int64_t number = -7;
    const int yes = 1;
    struct hl_art_draw_params least = {.name = HL_TEXT("a\\"\\n"), .count = 1,
                                       .path = HL_TEXT("{\\"points\\":[]}")};
    struct hl_art_draw_params most = least;
    most.fill = &yes;
    most.text = HL_TEXT("");
    most.default_ = &number;
    most.odd_name = HL_TEXT("[1]");
    char text[200];
    printf("%s %.*s\\n", HL_ART_DRAW, (int)hl_art_draw_params(&least, text, sizeof text), text);
    printf("%.*s\\n", (int)hl_art_draw_params(&most, text, sizeof text), text);
    printf("%zu\\n", hl_art_draw_params(&most, text, 20));
    return 0;
}
"""


def test_the_header_builds_what_the_models_take(tmp_path: Path, document: dict[str, Any]) -> None:
    """A text that does not fit has the size 0."""
    sdk = Path(__file__).parents[2] / "guests" / "sdk"
    (tmp_path / "functions.h").write_text(c_header(document))
    (tmp_path / "main.c").write_text(PROGRAM)
    command = ["gcc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", f"-I{sdk}", "-o", "main"]
    subprocess.run([*command, "main.c"], cwd=tmp_path, check=True)
    done = subprocess.run(["./main"], cwd=tmp_path, capture_output=True, text=True, check=True)
    least, most, size = done.stdout.splitlines()
    name, _, text = least.partition(" ")
    assert name == "art.draw"
    assert DrawRequest.model_validate_json(text) == DrawRequest(
        name='a"\n', count=1, path=Route(points=[])
    )
    made = DrawRequest.model_validate_json(most)
    assert (made.fill, made.text, made.default, made.odd_name) == (True, "", -7, [1])
    assert size == "0"


def test_two_names_that_are_one_in_c_are_refused() -> None:
    document = openrpc_document([function("a.b_c"), function("a.b.c")])
    with pytest.raises(ConfigurationError, match="hl_a_b_c"):
        c_header(document)


# ---- page --------------------------------------------------------------------------------------


def test_a_page_has_everything_a_caller_needs(document: dict[str, Any]) -> None:
    lines = reference_page(document, "art").splitlines()
    assert lines[0] == "# art"
    assert "## art.draw" in lines
    assert "| `name` | string, at most 9 characters |  | Seen on \\| the map. |" in lines
    assert "| `fill` | boolean | `false` |  |" in lines
    assert '| `color` | `"red"`, `"blue"` or null | `null` |  |' in lines
    assert "| `points` | array of `Point` |  |  |" in lines
    assert "Errors: -32001 (The policy does not allow it.)" in lines
