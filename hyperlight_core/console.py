"""Console output of a guest: reads its records, up to a limit."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TypeAlias

from hyperlight_core.errors import HyperlightError, OutputExceededError, ProtocolError

__all__ = ["STDERR", "STDOUT", "Console", "StreamCallback"]

STDOUT, STDERR = 1, 2
_RECORD = struct.Struct("<2I")

#: Called with "stdout" or "stderr" and the bytes as they arrive.
StreamCallback: TypeAlias = Callable[[str, bytes], None]


class Console:
    """Collects console output up to a limit.

    Args:
        limit: in bytes, or None.
        callback: told each piece as it arrives.

    Attributes:
        size: bytes collected.
    """

    __slots__ = ("_callback", "_limit", "_pieces", "size")

    def __init__(self, limit: int | None = None, callback: StreamCallback | None = None) -> None:
        self._limit = limit
        self._callback = callback
        self._pieces: list[tuple[int, bytes]] = []
        self.size = 0

    def take(self, records: bytes) -> None:
        """Add the records of the console buffer, a copy.

        Raises:
            ProtocolError: the records are malformed.
            OutputExceededError: this is more than the limit; what fits was added.
        """
        at, end = 0, len(records)
        while at < end:
            if end - at < _RECORD.size:
                raise ProtocolError("a console record is cut off")
            stream, size = _RECORD.unpack_from(records, at)
            at += _RECORD.size
            if not STDOUT <= stream <= STDERR or size > end - at:
                raise ProtocolError("a console record names no stream or is cut off")
            self._add(stream, records[at : at + size])
            at += size

    def _add(self, stream: int, text: bytes) -> None:
        size, limit = self.size + len(text), self._limit
        if limit is not None and size > limit:
            text = text[: max(0, limit - self.size)]
        self.size += len(text)
        self._pieces.append((stream, text))
        if self._callback is not None and text:
            self._callback("stdout" if stream == STDOUT else "stderr", text)
        if self.size != size:
            raise OutputExceededError(f"the guest wrote more than {limit} bytes")

    def text(self, stream: int, since: int = 0) -> bytes:
        """All of one stream, or what came since `length` was that."""
        return b"".join([text for owner, text in self._pieces[since:] if owner == stream])

    @property
    def length(self) -> int:
        """How many pieces there are."""
        return len(self._pieces)

    def add_to(self, error: HyperlightError) -> None:
        """Say in the exception what was printed before it."""
        error.stdout = self.text(STDOUT).decode(errors="replace")
        error.stderr = self.text(STDERR).decode(errors="replace")
