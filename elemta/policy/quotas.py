"""How much an account may send in an hour and in a day, remembered beyond a restart.

Unlike rates, which smooth what comes fast, a quota is a sum: what a stolen password can do at most. Messages
and recipients count when MAIL and RCPT are answered, so that many sessions at once gain nothing; octets count
when a message is stored, so the last message may go beyond.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections import OrderedDict

import attrs
import trio

from elemta.config import QuotaConfig, QuotaOf
from elemta.runtime import Memo, WallClock

HOUR = 3600.0
DAY = 86400.0
MOST_ACCOUNTS = 10_000
"""Accounts whose sums are at hand; those seen longest ago are read again from the memo."""
READ_SECONDS = 2.0
"""For what the memo knows of an account; if that is late, its sums begin anew."""
_WINDOW = struct.Struct(">dQQQ")
_MOST = 2**63


@attrs.define
class _Window:
    """Sums since a moment."""

    since: float
    sums: dict[QuotaOf, int] = attrs.field(factory=lambda: dict.fromkeys(QuotaOf, 0))

    def pack(self) -> bytes:
        return _WINDOW.pack(self.since, *(min(self.sums[what], _MOST) for what in QuotaOf))

    @classmethod
    def unpack(cls, data: bytes) -> _Window:
        since, *sums = _WINDOW.unpack(data)
        if not math.isfinite(since):
            raise struct.error("no time")
        return cls(since, dict(zip(QuotaOf, sums, strict=True)))


@attrs.define
class _Usage:
    """What an account has sent in this hour and on this day, each beginning with its first message."""

    hour: _Window
    day: _Window

    def roll(self, now: float) -> None:
        """Begin anew what is over, also where the clock was set back."""
        for name, seconds in (("hour", HOUR), ("day", DAY)):
            window: _Window = getattr(self, name)
            if not window.since <= now < window.since + seconds:
                setattr(self, name, _Window(now))


@attrs.frozen
class QuotaUse:
    """How much of a quota an account has used."""

    what: str
    """`messages`, `recipients` or `octets`."""
    window: str
    """`hour` or `day`."""
    used: int
    limit: int
    """0: none."""
    ends: float
    """When it begins anew (seconds since the epoch)."""


@attrs.frozen
class QuotaStatistics:
    accounts: int
    """At hand."""
    refused: int
    """Commands, since the start."""

    def __add__(self, other: QuotaStatistics) -> QuotaStatistics:
        return QuotaStatistics(self.accounts + other.accounts, self.refused + other.refused)


class Quotas:
    """The sums of all accounts."""

    def __init__(self, config: QuotaConfig, memo: Memo, clock: WallClock) -> None:
        self._memo = memo
        self._clock = clock
        self._accounts: OrderedDict[str, _Usage] = OrderedDict()
        self._refused = 0
        self.config = config
        """May be replaced at any time: the sums stay."""

    @property
    def active(self) -> bool:
        """Whether anything is limited at all."""
        return any(limit for what in QuotaOf for limit in self.config.limits(what))

    async def take(self, account: str, what: QuotaOf) -> str | None:
        """Count one message or recipient, unless a quota is used up: which one and for how long, in words.

        Before a message the octets are looked at as well. Cancelled, nothing was counted.
        """
        usage = await self._find(account)
        now = self._clock.time()
        usage.roll(now)
        looked_at = (what, QuotaOf.OCTETS) if what is QuotaOf.MESSAGES else (what,)
        for each in looked_at:
            hourly, daily = self.config.limits(each)
            for window, limit, seconds, name in (
                (usage.day, daily, DAY, "day"),
                (usage.hour, hourly, HOUR, "hour"),
            ):
                if limit and window.sums[each] >= limit:
                    self._refused += 1
                    minutes = max(1, math.ceil((window.since + seconds - now) / 60))
                    return f"{each} of this {name} used up, {minutes} minutes left"
        self._add(account, usage, what, 1)
        return None

    def stored(self, account: str, octets: int) -> None:
        """A message of the account was stored. Sync: what is not at hand any more is not counted."""
        usage = self._accounts.get(account)
        if usage is not None:
            usage.roll(self._clock.time())
            self._add(account, usage, QuotaOf.OCTETS, octets)

    async def use(self, account: str) -> tuple[QuotaUse, ...]:
        """What the account has used up to now. Cancelling is safe."""
        now, usage = self._clock.time(), self._accounts.get(account)
        if usage is None:
            with trio.move_on_after(READ_SECONDS):
                usage = _read(await self._memo.get(_key(account)), now)
        usage = usage or _read(None, now)
        usage.roll(now)
        return tuple(
            QuotaUse(what.value, name, window.sums[what], limit, window.since + seconds)
            for what in QuotaOf
            for name, window, seconds, limit in zip(
                ("hour", "day"), (usage.hour, usage.day), (HOUR, DAY), self.config.limits(what), strict=True
            )
        )

    def statistics(self) -> QuotaStatistics:
        return QuotaStatistics(len(self._accounts), self._refused)

    def _add(self, account: str, usage: _Usage, what: QuotaOf, amount: int) -> None:
        for window in (usage.hour, usage.day):
            window.sums[what] += amount
        value = usage.hour.pack() + usage.day.pack()
        self._memo.put(_key(account), value, usage.day.since + DAY)

    async def _find(self, account: str) -> _Usage:
        usage = self._accounts.get(account)
        if usage is not None:
            self._accounts.move_to_end(account)
            await trio.lowlevel.checkpoint_if_cancelled()
            return usage
        found: bytes | None = None
        with trio.move_on_after(READ_SECONDS):
            found = await self._memo.get(_key(account))
        # Another session may have been quicker: then its sums hold
        usage = self._accounts.setdefault(account, _read(found, self._clock.time()))
        while len(self._accounts) > MOST_ACCOUNTS:
            self._accounts.popitem(last=False)
        return usage


def _read(found: bytes | None, now: float) -> _Usage:
    if found is not None and len(found) == 2 * _WINDOW.size:
        try:
            return _Usage(_Window.unpack(found[: _WINDOW.size]), _Window.unpack(found[_WINDOW.size :]))
        except struct.error:
            pass  # not ours
    return _Usage(_Window(now), _Window(now))


def _key(account: str) -> str:
    return f"quota/{hashlib.blake2b(account.encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()}"
