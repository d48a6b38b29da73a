"""File names in JSON: bytes that are not UTF-8 travel as U+0000 and two lower-case hex digits."""

from __future__ import annotations

import codecs
import re

__all__ = ["decode_name", "encode_name"]

# Only bytes from 0x80 on can fail to be UTF-8; anything else behind a NUL is no encoding of ours.
_ESCAPED = re.compile(rb"\x00([89a-f][0-9a-f])")


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    wrong = error.object[error.start : error.end]
    return "".join(f"\0{byte:02x}" for byte in wrong), error.end


codecs.register_error("hl_fs.escape", _escape)


def encode_name(name: bytes) -> str:
    """The JSON string for a name or path."""
    return name.decode("utf-8", "hl_fs.escape")


def decode_name(text: str) -> bytes:
    """The name or path that a JSON string stands for.

    Raises:
        ValueError: it has a lone surrogate, or a NUL that escapes nothing.
    """
    name = _ESCAPED.sub(lambda match: bytes.fromhex(match[1].decode()), text.encode("utf-8"))
    if b"\0" in name:
        raise ValueError("a path has no NUL")
    return name
