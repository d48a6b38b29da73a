"""Frames and JSON-RPC texts: what is written is read back, and what a guest forges is refused."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperlight_core import wire
from hyperlight_core.errors import ProtocolError

HEADER_FILE = Path(__file__).parents[2] / "vmm_c" / "include" / "hl_abi.h"

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def memory(size: int = 0x4000) -> memoryview:
    """A buffer as the guest sees it, full of what an earlier frame left there."""
    return memoryview(bytearray(b"\xaa" * size))


def forged(*header: int, size: int = 0x4000) -> memoryview:
    """A buffer that starts with any header at all."""
    buffer = memory(size)
    struct.pack_into("<4I", buffer, 0, *header)
    return buffer


# ---- frames ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("macro", "value"),
    [("HL_ABI_VERSION", wire.ABI_VERSION), ("HL_FRAME_BULK_OFFSET", wire.BULK_OFFSET)],
)
def test_constants_are_those_of_the_header_file(macro: str, value: int) -> None:
    found = re.search(rf"#define {macro} (\w+)", HEADER_FILE.read_text())
    assert found
    assert int(found[1], 0) == value


def test_the_header_has_the_fields_of_struct_hl_frame() -> None:
    found = re.search(r"struct hl_frame \{(.*?)\};", HEADER_FILE.read_text(), re.DOTALL)
    assert found
    assert re.findall(r"uint32_t (\w+);", found[1]) == [
        "abi_version",
        "json_size",
        "attachment_offset",
        "attachment_size",
    ]
    assert wire.HEADER_SIZE == 16


@given(st.binary(max_size=0x1800), st.binary(max_size=0x1800))
def test_a_frame_is_read_as_it_was_written(text: bytes, attachment: bytes) -> None:
    buffer = memory()
    end = wire.write_frame(buffer, text, attachment)
    frame = wire.read_frame(buffer)
    assert (frame.text, bytes(frame.attachment)) == (text, attachment)
    assert set(buffer[end:]) == {0xAA}


def test_an_attachment_lies_at_the_bulk_offset_or_behind_longer_json() -> None:
    buffer = memory()
    assert wire.write_frame(buffer, b"{}", b"data") == wire.BULK_OFFSET + 4
    assert wire.write_frame(buffer, b" " * 0x1000, b"data") == 16 + 0x1000 + 4


def test_an_attachment_that_is_in_place_stays_there() -> None:
    buffer = memory()
    buffer[wire.BULK_OFFSET : wire.BULK_OFFSET + 4] = b"data"
    wire.write_frame(buffer, b"{}", placed=4)
    assert bytes(wire.read_frame(buffer).attachment) == b"data"


def test_an_attachment_is_a_view_and_cannot_be_written() -> None:
    buffer = memory()
    wire.write_frame(buffer, b"{}", b"data")
    attachment = wire.read_frame(buffer).attachment
    assert attachment.readonly
    buffer[wire.BULK_OFFSET] = ord("D")
    assert bytes(attachment) == b"Data"


@pytest.mark.parametrize(
    ("text", "attachment", "placed"),
    [
        (b" " * 0x3FF1, b"", 0),
        (b"{}", b" " * 0x3001, 0),
        (b"{}", b"", 0x3001),
        (b" " * 0x1000, b"", 1),
    ],
    ids=["JSON", "attachment", "attachment in place", "JSON over the attachment in place"],
)
def test_a_frame_that_does_not_fit_is_not_written(
    text: bytes, attachment: bytes, placed: int
) -> None:
    buffer = memory()
    with pytest.raises(ProtocolError, match="does not fit"):
        wire.write_frame(buffer, text, attachment, placed=placed)
    assert set(buffer) == {0xAA}


@pytest.mark.parametrize(
    "header",
    [
        (0, 2, 0, 0),
        (3, 2, 0, 0),
        (0xFFFFFFFF, 2, 0, 0),
        (2, 0x3FF1, 0, 0),
        (2, 0xFFFFFFFF, 0, 0),
        (2, 0xFFFFFFF0, 0, 0),
        (2, 2, 0x1000, 0x3001),
        (2, 2, 0x4000, 1),
        (2, 2, 0xFFFFFFFF, 0xFFFFFFFF),
        (2, 2, 0xFFFFF000, 0x1001),
        (2, 2, 0x1000, 0xFFFFFFFF),
        (2, 2, 0, 1),
        (2, 2, 17, 1),
    ],
    ids=[
        "version 0",
        "version of the future",
        "largest version",
        "JSON one byte too long",
        "largest JSON",
        "JSON whose end wraps to zero",
        "attachment one byte too long",
        "attachment behind the buffer",
        "largest attachment",
        "attachment whose end wraps",
        "attachment larger than memory",
        "attachment over the header",
        "attachment over the JSON",
    ],
)
def test_a_lying_header_is_refused(header: tuple[int, int, int, int]) -> None:
    with pytest.raises(ProtocolError):
        wire.read_frame(forged(*header))


@pytest.mark.parametrize("size", [0, 1, 15])
def test_a_buffer_smaller_than_a_header_is_refused(size: int) -> None:
    with pytest.raises(ProtocolError, match="no room"):
        wire.read_frame(memory(size))


def test_the_offset_of_no_attachment_means_nothing() -> None:
    assert len(wire.read_frame(forged(2, 2, 0xFFFFFFFF, 0)).attachment) == 0


@given(st.tuples(*[st.integers(0, 2**32 - 1)] * 4), st.integers(0, 64))
def test_any_header_reads_inside_the_buffer_or_is_refused(
    header: tuple[int, int, int, int], size: int
) -> None:
    buffer = forged(*header, size=64)[: max(16, size)]
    try:
        frame = wire.read_frame(buffer)
    except ProtocolError:
        return
    assert len(frame.text) + len(frame.attachment) <= len(buffer) - wire.HEADER_SIZE


# ---- JSON --------------------------------------------------------------------------------------


@given(JSON_VALUES)
def test_json_is_read_as_the_standard_library_reads_it(value: Any) -> None:
    text = json.dumps(value).encode()
    assert wire.parse_json(text) == json.loads(text)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"{}x",
        b"{} {}",
        b"{'a':1}",
        b'{"a":1,}',
        b"[1,]",
        b"01",
        b"1.",
        b"+1",
        b"// comment\n1",
        b'"\n"',
        b'"\\x41"',
        b"__import__('os')",
        b"\x80\x04N.",
        b'{"a":1,"a":2}',
        b'{"a":1,"\\u0061":2}',
        b'[{"b":{"a":1,"a":1}}]',
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"1e309",
        b"-1e309",
        b"1E309",
        b"1e+309",
        b"1e0000309",
        b"[0.1, %b]" % (b"9" * 310 + b".0"),
        b"18446744073709551616",
        b"-9223372036854775809",
        b"9" * 5000,
        b'"\\ud800"',
        b'"\\udc00"',
        b'"\\udc00\\ud800"',
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'"\xc0\x80"',
        b'\xef\xbb\xbf""',
        '""'.encode("utf-16"),
        b"[" * (wire.DEPTH_LIMIT + 1) + b"]" * (wire.DEPTH_LIMIT + 1),
        b'{"a":' * (wire.DEPTH_LIMIT + 1) + b"1" + b"}" * (wire.DEPTH_LIMIT + 1),
        b"[" * 1_000_000,
        b"{" + b",".join(b'"%d":0' % n for n in range(wire.MEMBER_LIMIT + 1)) + b"}",
        b"[" + b",".join([b'{"":0}'] * (wire.MEMBER_LIMIT + 1)) + b"]",
    ],
    ids=lambda text: f"{text[:24]!r}-{len(text)}",
)
def test_json_that_the_rules_forbid_is_refused(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        wire.parse_json(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'"\\u0000"', "\0"),
        (b'"\\ud83d\\ude00"', "\N{GRINNING FACE}"),
        (b"9223372036854775807", 2**63 - 1),
        (b"18446744073709551615", 2**64 - 1),
        (b"-9223372036854775808", -(2**63)),
        (b"1e308", 1e308),
        (b'"1e999"', "1e999"),
        (b'"99999999999999999999"', "99999999999999999999"),
        (b"0.12345678901234567890", 0.12345678901234567890),
        (b"1e-400", 0.0),
        (b" \n[ ] ", []),
        (b'{"":{"":0}}', {"": {"": 0}}),
    ],
)
def test_json_that_the_rules_allow_is_read(text: bytes, value: Any) -> None:
    assert wire.parse_json(text) == value


def test_nesting_up_to_the_limit_is_read() -> None:
    assert wire.parse_json(b"[" * wire.DEPTH_LIMIT + b"]" * wire.DEPTH_LIMIT)


def test_as_many_members_as_the_limit_are_read() -> None:
    text = b"{" + b",".join(b'"%d":0' % n for n in range(wire.MEMBER_LIMIT)) + b"}"
    assert len(wire.parse_json(text)) == wire.MEMBER_LIMIT


@pytest.mark.parametrize("quoted", [b":", b'\\":', b"\\\\:", b'\\\\\\":'])
def test_colons_in_strings_are_no_members(quoted: bytes) -> None:
    """Also next to escaped quotes and backslashes, which hide where a string ends."""
    text = b'["%b"]' % (quoted * (wire.MEMBER_LIMIT + 1))
    assert wire.parse_json(text) == json.loads(text)


# ---- JSON-RPC 2.0 ------------------------------------------------------------------------------


def request(**members: Any) -> wire.Message:
    """A parsed request with these members besides the version."""
    return wire.parse_request({"jsonrpc": "2.0"} | members)


def test_a_request_without_an_id_is_a_notification() -> None:
    assert request(method="a.b").is_notification
    assert not request(method="a.b", id=None).is_notification
    assert not request(method="a.b", id=0).is_notification


@pytest.mark.parametrize("given_id", [0, -1, 2**64 - 1, "", "x" * wire.TEXT_LIMIT, None])
def test_ids_that_json_rpc_allows(given_id: Any) -> None:
    assert request(method="a.b", id=given_id).id == given_id


@pytest.mark.parametrize(
    "message",
    [
        None,
        1,
        "x",
        {},
        {"method": "a"},
        {"jsonrpc": "2.0"},
        {"jsonrpc": "1.0", "method": "a"},
        {"jsonrpc": 2.0, "method": "a"},
        {"jsonrpc": "2.0", "method": 1},
        {"jsonrpc": "2.0", "method": None},
        {"jsonrpc": "2.0", "method": "x" * (wire.TEXT_LIMIT + 1)},
        {"jsonrpc": "2.0", "method": "a", "params": None},
        {"jsonrpc": "2.0", "method": "a", "params": "x"},
        {"jsonrpc": "2.0", "method": "a", "params": 1},
        {"jsonrpc": "2.0", "method": "a", "id": 1.5},
        {"jsonrpc": "2.0", "method": "a", "id": True},
        {"jsonrpc": "2.0", "method": "a", "id": []},
        {"jsonrpc": "2.0", "method": "a", "id": {}},
        {"jsonrpc": "2.0", "method": "a", "id": "x" * (wire.TEXT_LIMIT + 1)},
        {"jsonrpc": "2.0", "method": "a", "extra": 1},
    ],
    ids=repr,
)
def test_what_is_no_request_is_refused(message: Any) -> None:
    with pytest.raises(ProtocolError, match="not a JSON-RPC"):
        wire.parse_request(message)


def test_a_response_with_a_result_or_an_error_is_read() -> None:
    assert wire.parse_response(b'{"jsonrpc":"2.0","id":7,"result":null}', 7).result is None
    failed = wire.parse_response(
        b'{"jsonrpc":"2.0","id":7,"error":{"code":-32000,"message":"m","data":{"type":"E"}}}', 7
    )
    assert failed.error == wire.ErrorObject(code=-32000, message="m", data={"type": "E"})


def test_an_error_may_have_no_id_because_the_request_was_not_understood() -> None:
    text = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"m"}}'
    assert wire.parse_response(text, 7).error


@pytest.mark.parametrize(
    "text",
    [
        b"[]",
        b"{}",
        b'{"jsonrpc":"2.0","id":7}',
        b'{"jsonrpc":"2.0","result":1}',
        b'{"jsonrpc":"2.0","id":8,"result":1}',
        b'{"jsonrpc":"2.0","id":"7","result":1}',
        b'{"jsonrpc":"2.0","id":null,"result":1}',
        b'{"jsonrpc":"2.0","id":7,"result":1,"error":{"code":1,"message":"m"}}',
        b'{"jsonrpc":"2.0","id":7,"result":1,"error":null}',
        b'{"jsonrpc":"2.0","id":7,"error":null}',
        b'{"jsonrpc":"2.0","id":7,"error":"m"}',
        b'{"jsonrpc":"2.0","id":7,"error":{"code":"1","message":"m"}}',
        b'{"jsonrpc":"2.0","id":7,"error":{"code":1}}',
        b'{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"m","more":1}}',
        b'{"jsonrpc":"2.0","id":7,"result":1,"extra":1}',
    ],
)
def test_what_is_no_answer_to_the_request_is_refused(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        wire.parse_response(text, 7)


def test_a_request_to_the_guest_is_json_rpc() -> None:
    text = wire.request_text("run", {"code": "1", "argv": ("a",)}, 3)
    assert json.loads(text) == {
        "jsonrpc": "2.0",
        "id": 3,
        "method": "run",
        "params": {"code": "1", "argv": ["a"]},
    }


@pytest.mark.parametrize("value", [object(), "\ud800"], ids=["object", "lone surrogate"])
def test_parameters_that_are_not_json_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="not JSON"):
        wire.request_text("run", {"value": value}, 1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_does_not_have_goes_as_null(value: float) -> None:
    assert json.loads(wire.request_text("run", {"x": value}, 1))["params"] == {"x": None}


def test_an_error_keeps_its_message_and_data() -> None:
    text = wire.error_text("id", -32001, "no", {"errno": "EACCES"})
    assert json.loads(text)["error"] == {
        "code": -32001,
        "message": "no",
        "data": {"errno": "EACCES"},
    }
    assert "data" not in json.loads(wire.error_text(None, -32700, "bad"))["error"]


def test_an_error_message_with_a_lone_surrogate_is_still_sent() -> None:
    assert json.loads(wire.error_text(1, 1, "a\ud800b"))["error"]["message"] == "a?b"
