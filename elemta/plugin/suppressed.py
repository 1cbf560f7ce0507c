"""The server's suppression list as plugins have it: the interface, and in a worker the way to the server."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Protocol

import attrs


@attrs.frozen
class SuppressedAddress:
    """What the list says of an address."""

    address: str
    why: str
    source: str
    """Who put it there: `operator`, or the name of a plugin."""
    since: float
    """Seconds since the epoch."""
    until: float | None = None
    """None: until somebody takes it off."""
    never: bool = False
    """It is not suppressed, and may not be."""


class SuppressionList(Protocol):
    """Addresses to which nothing is to be sent: one list for the server, its commands, its API and all
    plugins. Large letters are as small ones. A list that does not answer raises OSError."""

    async def find(self, address: str) -> SuppressedAddress | None:
        """What the list says of the address; None: nothing."""

    async def add(self, address: str, why: str, seconds: float | None) -> bool:
        """Put it on the list for so long, None: for ever; whether it is on it because of that.

        What an operator has put there for ever stays as it is, as does an address that may never be
        suppressed. On the disk when this returns.
        """

    async def remove(self, address: str) -> bool:
        """Take it off the list; whether it was on it."""


@attrs.frozen(eq=False)
class RemoteSuppressionList:
    """The list in a worker. `ask` puts a question to the server, in turn; it raises OSError."""

    ask: Callable[[str, bytes], Awaitable[bytes]]

    async def find(self, address: str) -> SuppressedAddress | None:
        found = json.loads(await self.ask("suppression.find", json.dumps([address]).encode()))
        return None if found is None else SuppressedAddress(**found)

    async def add(self, address: str, why: str, seconds: float | None) -> bool:
        content = json.dumps([address, why, seconds]).encode()
        return bool(json.loads(await self.ask("suppression.add", content)))

    async def remove(self, address: str) -> bool:
        return bool(json.loads(await self.ask("suppression.remove", json.dumps([address]).encode())))
