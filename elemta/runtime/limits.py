"""How much one key may take: a count at once, or a rate. Both with bounded memory and `statistics()`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Generic, TypeVar

import attrs

from .clock import WallClock

K = TypeVar("K", bound=Hashable)


@attrs.frozen
class KeyedLimiterStatistics(Generic[K]):
    limit: int
    keys: int
    held: int
    refused: int
    busiest: tuple[tuple[K, int], ...]
    """The keys that hold most, with their counts, most first."""


class KeyedLimiter(Generic[K]):
    """So many at once per key. Only keys that hold something take memory, and at most `keys` of them."""

    def __init__(self, limit: int, *, keys: int = 100_000) -> None:
        self.limit = limit
        """May be changed; what is held above it stays until it is released."""
        self._most_keys = keys
        self._counts: dict[K, int] = {}
        self._held = 0
        self._refused = 0

    def acquire_nowait(self, key: K) -> bool:
        """Take one of the key's places; False if there is none, or no memory for another key."""
        count = self._counts.get(key, 0)
        if count >= self.limit or (not count and len(self._counts) >= self._most_keys):
            self._refused += 1
            return False
        self._counts[key] = count + 1
        self._held += 1
        return True

    def release(self, key: K) -> None:
        """Give one place back.

        Raises:
          ValueError: the key holds none.
        """
        count = self._counts.get(key)
        if count is None:
            raise ValueError(f"{key!r} holds nothing")
        if count == 1:
            del self._counts[key]
        else:
            self._counts[key] = count - 1
        self._held -= 1

    def held(self, key: K) -> int:
        return self._counts.get(key, 0)

    def statistics(self) -> KeyedLimiterStatistics[K]:
        busiest = sorted(self._counts.items(), key=lambda item: item[1], reverse=True)[:10]
        return KeyedLimiterStatistics(
            self.limit, len(self._counts), self._held, self._refused, tuple(busiest)
        )


@attrs.frozen
class RateLimiterStatistics:
    rate: float
    burst: float
    keys: int
    allowed: int
    refused: int
    forgotten: int
    """Keys that were dropped to stay within the memory bound."""


@attrs.define(eq=False, slots=True)
class _Bucket:
    tokens: float
    filled: float


class RateLimiter(Generic[K]):
    """A token bucket per key: `burst` at once, `rate` per second in the long run.

    Remembers the `keys` used last; a key that was forgotten starts with a full bucket. A clock that
    is set back takes nothing away.
    """

    def __init__(self, rate: float, burst: float, *, clock: WallClock, keys: int = 100_000) -> None:
        if rate <= 0 or burst < 1 or keys < 1:
            raise ValueError("rate must be above 0, burst and keys at least 1")
        self.rate = rate
        self.burst = burst
        self._clock = clock
        self._most_keys = keys
        self._buckets: OrderedDict[K, _Bucket] = OrderedDict()
        self._allowed = 0
        self._refused = 0
        self._forgotten = 0

    def allow(self, key: K, amount: float = 1.0) -> bool:
        """Take the amount from the key's bucket if it has that much; a refusal takes nothing."""
        bucket = self._fill(key)
        if bucket.tokens < amount:
            self._refused += 1
            return False
        bucket.tokens -= amount
        self._allowed += 1
        return True

    def has(self, key: K, amount: float = 1.0) -> bool:
        """Whether the key's bucket has that much now. Takes nothing and remembers nothing."""
        bucket = self._buckets.get(key)
        level = self.burst if bucket is None else self._level(bucket, self._clock.time())
        return level >= amount

    def wait_time(self, key: K, amount: float = 1.0) -> float:
        """Seconds until the key's bucket will have the amount, 0 if it has it now; inf if never."""
        if amount > self.burst:
            return float("inf")
        bucket = self._buckets.get(key)
        if bucket is None:
            return 0.0
        return max(0.0, (amount - self._level(bucket, self._clock.time())) / self.rate)

    def level(self, key: K) -> float | None:
        """What the key's bucket has now; None for a key that is not remembered."""
        bucket = self._buckets.get(key)
        return None if bucket is None else self._level(bucket, self._clock.time())

    def restore(self, key: K, tokens: float, since: float) -> None:
        """Give a key that is not remembered the bucket that it had at that time of the wall clock."""
        if key not in self._buckets:
            bucket = self._fill(key)
            bucket.tokens, bucket.filled = min(max(0.0, tokens), self.burst), since
            self._fill(key)

    def refuse(self, key: K) -> None:
        """Count a refusal that was found by `has`; the key counts as used, so that it is not forgotten."""
        if key in self._buckets:
            self._buckets.move_to_end(key)
        self._refused += 1

    def statistics(self) -> RateLimiterStatistics:
        return RateLimiterStatistics(
            self.rate, self.burst, len(self._buckets), self._allowed, self._refused, self._forgotten
        )

    def _level(self, bucket: _Bucket, now: float) -> float:
        return min(self.burst, bucket.tokens + max(0.0, now - bucket.filled) * self.rate)

    def _fill(self, key: K) -> _Bucket:
        now = self._clock.time()
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= self._most_keys:
                self._buckets.popitem(last=False)
                self._forgotten += 1
            bucket = self._buckets[key] = _Bucket(self.burst, now)
            return bucket
        bucket.tokens = self._level(bucket, now)
        bucket.filled = now
        self._buckets.move_to_end(key)
        return bucket


def take_from_all(buckets: Sequence[tuple[RateLimiter[K], K]], amount: float = 1.0) -> int | None:
    """Take the amount from every bucket, or from none where one of them has not that much.

    Returns the index of the first that has not, which counts the refusal; None where it was taken.
    """
    for index, (limiter, key) in enumerate(buckets):
        if not limiter.has(key, amount):
            limiter.refuse(key)
            return index
    for limiter, key in buckets:
        limiter.allow(key, amount)
    return None
