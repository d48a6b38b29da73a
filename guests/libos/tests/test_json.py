"""The guests' JSON reader and writer agree with Python's, under the address sanitizer."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SDK = HERE.parent.parent / "sdk"
KEY = 'ké"'

Probe = Callable[[bytes], dict[str, str]]


@pytest.fixture(scope="session")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Probe:
    """What the reader says of a text: words by name."""
    program = tmp_path_factory.mktemp("json") / "probe"
    options = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover", "-I", str(SDK)]
    source = str(HERE / "json_probe.c")
    subprocess.run(["gcc", *options, "-o", str(program), source], check=True)

    def probe(text: bytes) -> dict[str, str]:
        ended = subprocess.run([str(program)], input=text, capture_output=True, check=True)
        return {
            name: rest
            for name, _, rest in (x.partition(" ") for x in ended.stdout.decode().splitlines())
        }

    return probe


STRINGS = ["a", '\x1f"\\/é€\U0001f600', "x" * 3000, ""]
INTEGERS = [0, -1, 2**63 - 1, -(2**63)]


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("value", STRINGS)
def test_strings_are_read_and_written(probe: Probe, value: str, *, ascii_only: bool) -> None:
    text = json.dumps({"z": [1, {"q": {}}], KEY: value}, ensure_ascii=ascii_only, indent=1)
    read = probe(text.encode())
    assert bytes.fromhex(read["string"]).decode() == value
    assert json.loads(bytes.fromhex(read["again"])) == {"a": value, "b": -(2**63)}


@pytest.mark.parametrize("value", INTEGERS)
def test_integers_are_read(probe: Probe, value: int) -> None:
    assert probe(json.dumps({KEY: value}).encode())["int"] == str(value)


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 1.5, 1e3, "1", None, True])
def test_what_is_no_integer_is_not_read_as_one(probe: Probe, value: object) -> None:
    assert "int" not in probe(json.dumps({KEY: value}).encode())


def test_bytes_that_are_not_text_survive_in_names(probe: Probe) -> None:
    name = b"caf\xe9/\xf0\x9f\x98\x80/\xed\xa0\x80/\xff"
    coded = "caf\0e9/\U0001f600/\0ed\0a0\0" + "80/\0ff"
    read = probe(json.dumps({KEY: coded}).encode())
    assert bytes.fromhex(read["name"]) == name
    assert json.loads(bytes.fromhex(read["again"]))["a"] == coded


@pytest.mark.parametrize("coded", ["\0", "\0g0", "\0" + "00", "a\0f"])
def test_a_broken_name_is_refused(probe: Probe, coded: str) -> None:
    assert "name" not in probe(json.dumps({KEY: coded}).encode())


def test_nesting_has_a_bound(probe: Probe) -> None:
    assert "valid" in probe(b"[" * 64 + b"]" * 64)
    assert "invalid" in probe(b"[" * 65 + b"]" * 65)


def test_elements_are_counted(probe: Probe) -> None:
    assert probe(b' [ 1 , [ 2 , 3 ] , {"a" : [ ] } ] ')["elements"] == "3"
    assert probe(b"[]")["elements"] == "0"


@pytest.mark.parametrize(
    "text", [b'"\xff"', b'"\xed\xa0\x80"', b'"\xc0\x80"', b'"\\ud800"', b'"\\']
)
def test_what_is_not_text_is_refused(probe: Probe, text: bytes) -> None:
    assert "invalid" in probe(text)


def _accepts(text: bytes) -> bool:
    try:
        json.loads(text.decode(), parse_constant=lambda _: 1 / 0)
    except (ValueError, ZeroDivisionError):
        return False
    return True


def test_damaged_documents_are_judged_as_python_judges_them(probe: Probe) -> None:
    chance = random.Random(1)  # noqa: S311 - the same damage in every run
    base = b'{"k":[1,-2.5e3,"a\\n\\u00e9",true,false,null,{"x":{}}],"z":""}'
    for _ in range(300):
        text = bytearray(base)
        for _ in range(chance.randint(1, 3)):
            place = chance.randrange(len(text))
            text[place : place + chance.randint(0, 1)] = bytes(
                chance.choices(b'{}[]",:\\u019dea \n-.tfn\xc3\xa9', k=chance.randint(0, 1))
            )
        assert ("valid" in probe(bytes(text))) == _accepts(bytes(text)), bytes(text)
