"""Whom nothing is sent to any more, on the list of the server, and who is on the way there, in our state."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final

import attrs

from elemta.plugin.api import State, SuppressionList
from elemta.runtime import WallClock

MOST_RECIPIENTS: Final = 200
"""Of a message whose bounces are told apart; so many fit into a value of the state."""


def key_of(address: str) -> str:
    """What an address is known by: large letters are as small ones, in mailboxes, too."""
    return hashlib.sha256(address.lower().encode()).hexdigest()[:32]


@attrs.frozen
class Sent:
    """A message that went out with a return path of ours."""

    sender: str
    recipients: tuple[str, ...]
    """Short forms of their keys."""
    only: str = ""
    """The recipient, where it is one alone."""

    @classmethod
    def of(cls, sender: str, recipients: tuple[str, ...]) -> Sent:
        only = recipients[0] if len(recipients) == 1 else ""
        return cls(sender, tuple(key_of(each)[:12] for each in recipients[:MOST_RECIPIENTS]), only)

    def find(self, addresses: tuple[str, ...]) -> str:
        """Which recipient it was of those that are named, else the only one. Empty: nobody of the message."""
        for each in addresses:
            if key_of(each)[:12] in self.recipients:
                return each
        return self.only


@attrs.frozen
class Memory:
    """The list, and what leads to it."""

    listed: SuppressionList
    state: State
    clock: WallClock
    keep: float
    """Seconds for which an address is on it."""
    window: float
    """Seconds within which failures for now are counted together."""
    most: int
    """How many of them bring an address on it; 0: none do."""

    async def why(self, address: str) -> str | None:
        """Why nothing is sent to the address; None: something is."""
        found = await self.listed.find(address)
        return None if found is None or found.never else found.why or "suppressed"

    async def add(self, address: str, why: str) -> bool:
        """Put it on the list, from now on; whether it is on it because of that."""
        self.state.forget(f"n/{key_of(address)}")
        return await self.listed.add(address, why, self.keep)

    async def count(self, address: str, why: str) -> bool:
        """One more failure for now; whether that brought it on the list."""
        key, now = f"n/{key_of(address)}", self.clock.time()
        found = await self.state.get(key)
        count, ends = json.loads(found) if found is not None else (0, now + self.window)
        if self.most and count + 1 >= self.most:
            return await self.add(address, why)
        self.state.put(key, json.dumps([count + 1, ends]).encode(), max(1.0, ends - now))
        return False

    async def remove(self, address: str) -> None:
        """As if nothing had happened."""
        await self.listed.remove(address)
        self.state.forget(f"n/{key_of(address)}")

    def remember(self, identity: bytes, sent: Sent, seconds: float) -> None:
        """Of a message, until its bounces are no longer heeded."""
        value = [sent.sender, sent.only, *sent.recipients]
        self.state.put(f"t/{identity.hex()}", json.dumps(value).encode(), seconds)

    async def sent(self, identity: bytes) -> Sent | None:
        """Which message it was."""
        found = await self.state.get(f"t/{identity.hex()}")
        if found is None:
            return None
        sender, only, *recipients = json.loads(found)
        return Sent(sender, tuple(recipients), only)


@attrs.frozen
class ByHand:
    """The operator's file: addresses to which nothing is sent, and those with `!` that are never listed."""

    stopped: frozenset[str] = frozenset()
    never: frozenset[str] = frozenset()


def read_by_hand(file: Path) -> tuple[ByHand, list[str]]:
    """The file, and what is wrong in it, by line. Blocking.

    Raises:
      OSError: it cannot be read.
    """
    stopped, never, wrong = set[str](), set[str](), list[Any]()
    for number, line in enumerate(file.read_text("utf-8", "replace").splitlines(), 1):
        text = line.partition("#")[0].strip().lower()
        address = text.removeprefix("!").strip()
        if not text:
            continue
        if "@" not in address or " " in address:
            wrong.append(f"{file}:{number}: {address!r} is no address")
        else:
            (never if text.startswith("!") else stopped).add(address)
    return ByHand(frozenset(stopped), frozenset(never)), wrong
