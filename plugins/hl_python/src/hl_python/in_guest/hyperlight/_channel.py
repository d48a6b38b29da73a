"""Frames over the guest's two devices: see struct hl_frame in hl_abi.h for the layout."""

from __future__ import annotations

import mmap
import os
from struct import Struct

ABI_VERSION = 2
#: ABI version, size of the JSON, offset and size of the attachment.
HEADER = Struct("<4I")
_SIZE = HEADER.size
#: Untouched pages of a buffer cost nothing; a larger frame is read in a second step.
_BUFFER_SIZE = (1 << 20) + 4096


def frame(json: bytes, attachment: bytes = b"") -> bytes:
    """One frame, ready to be written."""
    if not attachment:
        return HEADER.pack(ABI_VERSION, len(json), 0, 0) + json
    end = _SIZE + len(json)
    header = HEADER.pack(ABI_VERSION, len(json), end, len(attachment))
    return b"".join((header, json, attachment))


def _memory(size: int) -> mmap.mmap:
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


class Receiver:
    """Reads frames from a descriptor into one buffer that is never given back."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._buffer = _memory(_BUFFER_SIZE)
        self._parts = (self._buffer,)

    def receive(self) -> tuple[str, bytes]:
        """The JSON text and the attachment of the next frame; an empty text if there is none."""
        have = os.readv(self.descriptor, self._parts)
        if have < _SIZE:
            return "", b""
        _, json_size, offset, size = HEADER.unpack_from(self._buffer)
        end = max(_SIZE + json_size, offset + size if size else 0)
        if have < end:
            self._read_rest(have, end)
        text = str(self._buffer[_SIZE : _SIZE + json_size], "utf-8")
        return text, self._buffer[offset : offset + size] if size else b""

    def _read_rest(self, have: int, end: int) -> None:
        if end > len(self._buffer):
            larger = _memory(end)
            larger[:have] = self._buffer[:have]
            self._buffer, self._parts = larger, (larger,)
        while have < end:
            with memoryview(self._buffer) as view, view[have:end] as rest:
                count = os.readv(self.descriptor, (rest,))
            if not count:
                raise EOFError("a frame is cut short")
            have += count
