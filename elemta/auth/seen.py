"""Accounts as a store last told of them, for questions that cannot wait for it."""

from __future__ import annotations

from collections import OrderedDict

import attrs
import trio

from .store import Account

SIZE = 100_000
IDLE = 3 * 3600.0
"""Seconds: no session lasts so long after its login."""


@attrs.define(slots=True)
class _Seen:
    account: Account
    asked: float
    used: float


class SeenAccounts:
    """Accounts by name, bounded in number and age. Names that the store does not know are not in it, so
    nobody fills it with guesses. To be used inside of Trio."""

    def __init__(self, size: int = SIZE) -> None:
        self._size = size
        self._seen: OrderedDict[str, _Seen] = OrderedDict()

    def put(self, name: str, account: Account | None) -> None:
        """Keep what the store has just told; None: the account is not there, or not to be used."""
        now = trio.current_time()
        if account is None:
            self._seen.pop(name, None)
            return
        old = self._seen.get(name)
        self._seen[name] = _Seen(account, now, old.used if old else now)
        self._seen.move_to_end(name)
        if len(self._seen) > self._size:
            self._seen.popitem(last=False)

    def get(self, name: str) -> Account | None:
        """The account, if the store knew it when it was last asked."""
        seen = self._seen.get(name)
        if seen is None:
            return None
        seen.used = trio.current_time()
        return seen.account

    def due(self, age: float = 0.0) -> tuple[str, ...]:
        """Those about whom the store was asked longer ago than `age` seconds; drops who was long not used."""
        now = trio.current_time()
        for name in [name for name, seen in self._seen.items() if now - seen.used > IDLE]:
            del self._seen[name]
        return tuple(name for name, seen in self._seen.items() if now - seen.asked >= age)

    def __len__(self) -> int:
        return len(self._seen)
