"""Requests that are made twice and mean once: Idempotency-Key.

What was answered is remembered for a day, in the memo, by the name of who asked and his key. A crash may
forget what was remembered within its last second; then the same request makes a second message.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import msgspec

from elemta.runtime import Memo, WallClock

from .problems import BadRequest, Conflict, Problem

SECONDS = 86400.0
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


class Remembered(msgspec.Struct):
    """A request that was carried out."""

    fingerprint: str
    """Of what was asked."""
    message: str


def fingerprint(*parts: bytes) -> str:
    """What tells two requests apart."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8))
        digest.update(part)
    return digest.hexdigest()


@attrs.define(eq=False)
class Keys:
    """The keys that are known."""

    memo: Memo
    clock: WallClock
    _running: set[str] = attrs.field(factory=set)

    @contextmanager
    def running(self, actor: str, key: str) -> Iterator[str]:
        """Hold the key while its request is carried out; gives the name to remember it by.

        Raises:
          Problem: 400 it can be no key, 409 the same request is being carried out.
        """
        if not _KEY.fullmatch(key):
            raise BadRequest("Idempotency-Key has 1 to 255 visible characters of ASCII")
        name = f"idempotency/{fingerprint(actor.encode(), key.encode())}"
        if name in self._running:
            raise Conflict("a request with this Idempotency-Key is being carried out")
        self._running.add(name)
        try:
            yield name
        finally:
            self._running.discard(name)

    async def find(self, name: str) -> Remembered | None:
        """What was made of the key before."""
        value = await self.memo.get(name)
        return None if value is None else msgspec.json.decode(value, type=Remembered)

    def remember(self, name: str, asked: str, message: str) -> None:
        """Keep it for a day."""
        value = msgspec.json.encode(Remembered(asked, message))
        self.memo.put(name, value, self.clock.time() + SECONDS)


def check_same(known: Remembered, asked: str) -> None:
    """Raises:
    Problem: 422, the key was used for something else.
    """
    if known.fingerprint != asked:
        raise Problem(422, "this Idempotency-Key was used for another request")
