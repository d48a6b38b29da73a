"""Names in JSON: every name that bytes can form survives, and nothing else gets in."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hl_fs.names import decode_name, encode_name


@settings(deadline=None)  # the machine may be busy
@given(st.binary().filter(lambda name: b"\0" not in name))
def test_every_name_survives(name: bytes) -> None:
    assert decode_name(encode_name(name)) == name


@pytest.mark.parametrize(
    ("name", "text"),
    [(b"caf\xe9", "caf\0e9"), ("café".encode(), "café"), (b"\xf0\x9f", "\0f0\0" + "9f")],
)
def test_only_bytes_outside_of_utf_8_are_escaped(name: bytes, text: str) -> None:
    assert encode_name(name) == text


@pytest.mark.parametrize("text", ["\0", "a\0b", "\0" + "00", "\0" + "2f", "\0" + "E9", "\ud800"])
def test_no_nul_and_no_disguised_slash_gets_in(text: str) -> None:
    with pytest.raises(ValueError, match=r"NUL|surrogates"):
        decode_name(text)
