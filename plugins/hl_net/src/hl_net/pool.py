"""Connections of one sandbox that are kept for its next request to the same place."""

from __future__ import annotations

import time

from hl_net.configuration import Budgets
from hl_net.stream import Place, Stream

__all__ = ["Pool"]

_KEPT = 8  # connections at most; each is a descriptor of the host's


class Pool:
    """The idle connections of one sandbox, the one used last behind the others.

    A connection is kept with the address that was checked when it was made, and given out only to
    be decided about again.
    """

    def __init__(self, budgets: Budgets) -> None:
        self._idle_seconds, self._total_seconds = budgets.idle_seconds, budgets.total_seconds
        self._streams: list[Stream] = []

    def __len__(self) -> int:
        return len(self._streams)

    def put(self, stream: Stream) -> None:
        """Keep a connection that has nothing left to say."""
        stream.reused, stream.idle_since = True, time.monotonic()
        self._streams.append(stream)
        if len(self._streams) > _KEPT:
            self.drop_oldest()

    def take(self, place: Place) -> Stream | None:
        """A connection to `place` that the server has not closed, if there is one."""
        now, found = time.monotonic(), None
        for stream in tuple(self._streams):
            idle, life = now - stream.idle_since, now - stream.opened
            if idle > self._idle_seconds or life > self._total_seconds:
                self._streams.remove(stream)
                stream.close()
            elif stream.place == place:
                found = stream
        if found is None:
            return None
        self._streams.remove(found)
        if found.is_silent():
            return found
        found.close()
        return self.take(place)

    def drop_oldest(self) -> None:
        """Close the connection that has been idle for longest."""
        self._streams.pop(0).close()

    def close(self) -> None:
        """Close all of them."""
        while self._streams:
            self.drop_oldest()
