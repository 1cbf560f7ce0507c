"""How many handshakes there may be at once, and that no client takes all of them.

A handshake costs a millisecond of the processor. After a network outage thousands of clients come
back together; taking a bounded number at a time, those end in time, rather than all too late.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import attrs
import trio

_SHARE = 10
"""One client has at most this part of all places."""


@attrs.frozen
class HandshakesStatistics:
    limit: int
    running: int
    waiting: int


@attrs.define(eq=False)
class _Share:
    places: trio.CapacityLimiter
    users: int = 0


class Handshakes:
    """Places for handshakes. Memory is bounded by those that run and wait."""

    def __init__(self, limit: int) -> None:
        self._places = trio.CapacityLimiter(limit)
        self._shares: dict[str, _Share] = {}
        self._users = 0

    def resize(self, limit: int) -> None:
        """Change the number of places; those that are taken stay so until they are free."""
        self._places.total_tokens = limit

    @asynccontextmanager
    async def place(self, client: str) -> AsyncGenerator[None, None]:
        """Wait for a place, first come first served, and hold it for the block.

        `client` tells clients apart: whoever has his share of the places waits for his own.
        """
        share = self._shares.get(client)
        if share is None:
            size = max(1, int(self._places.total_tokens) // _SHARE)
            share = self._shares[client] = _Share(trio.CapacityLimiter(size))
        share.users += 1
        self._users += 1
        try:
            async with share.places, self._places:
                yield
        finally:
            self._users -= 1
            share.users -= 1
            if not share.users:
                del self._shares[client]

    def statistics(self) -> HandshakesStatistics:
        running = self._places.borrowed_tokens
        return HandshakesStatistics(int(self._places.total_tokens), running, self._users - running)
