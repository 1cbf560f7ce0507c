"""Brakes on guessing: waits that double with each failure, per account, address and network.

Theory of operation. A failure counts in three buckets: that of the account, of the client's address (/64 of
IPv6) and of its network (/24, /48; four times the allowance there). From `free_failures` on, a bucket
lets nobody in for 1, 2, 4 … seconds after its last failure; an attempt that comes sooner is refused
unseen, whether the password is right or not, and does not make the wait longer. One failure is forgiven
every ten minutes. Of attempts at the same time so many are let in as may fail before the next wait; the
others stand in line, so that many connections at once are no way round.

Nobody can be locked out by others:

- An address that has logged in to an account before has a bucket for this account of its own, and
  only that one decides. What others do to the account, or to other accounts from there, does not matter.
- The account's bucket, and those of known addresses, make nobody wait for more than a minute; nor does
  that of a loopback address, which has the allowance of a network: a webmail on this machine is many users.
- A client that says the same wrong password again is no guesser, and is not counted again.

All tables are bounded; what falls out of them comes back from the memo, if there is one.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
import struct
from collections import Counter, OrderedDict
from collections.abc import Hashable
from types import TracebackType
from typing import TypeVar

import attrs
import trio

from elemta.config import AuthConfig
from elemta.runtime import Memo, WallClock, address_block

FORGIVEN_AFTER = 600.0
"""Seconds in which one failure is forgotten."""
LONGEST_FOR_ACCOUNT = 60.0
"""Seconds. What a stranger may cost the owner of an account at most."""
NETWORK_FACTOR = 4
KNOWN_FOR = 90 * 86400.0
"""Seconds that an address is known after a login."""
KNOWN_REFRESHED = 86400.0
"""Seconds after which a login is written down again."""
WORTH_KEEPING = 2
"""Failures from which on a bucket goes into the memo: a single mistake is nobody's business tomorrow."""
MEMO_PATIENCE = 1.0
"""Seconds. The memo has hints; a login does not wait long for them."""
TABLE = 50_000
"""Entries of each table, some hundred octets each."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_BUCKET = struct.Struct("!dd")
_TIME = struct.Struct("!d")


@attrs.frozen(slots=True)
class _Bucket:
    """Failures as of the last one."""

    failures: float = 0.0
    at: float = 0.0
    """Wall clock."""

    def level(self, now: float) -> float:
        """What is not forgiven by now; a clock that was set back forgives nothing."""
        return max(0.0, self.failures - max(0.0, now - self.at) / FORGIVEN_AFTER)


_CLEAN = _Bucket()


@attrs.frozen(slots=True)
class _Brake:
    """A bucket's key and what it allows."""

    kind: str
    key: str
    free: int
    longest: float

    def wait(self, bucket: _Bucket, now: float) -> float:
        """Seconds until somebody is let in."""
        over = math.ceil(bucket.level(now)) - self.free
        if over < 0:
            return 0.0
        # a clock that was set back must not make it last longer than it is
        return max(0.0, min(self.longest, 2.0**over) - max(0.0, now - bucket.at))

    def room(self, bucket: _Bucket, now: float) -> int:
        """How many may be let in at once."""
        return max(1, self.free - math.ceil(bucket.level(now)))

    def after_failure(self, bucket: _Bucket, now: float) -> _Bucket:
        # more failures would not make the wait longer, only forgiveness
        most = self.free + math.ceil(math.log2(self.longest)) + 1
        return _Bucket(min(bucket.level(now) + 1, most), now)


@attrs.frozen(slots=True)
class Blocked:
    """The attempt is not to be looked at."""

    by: str
    """`account`, `address`, `network`, or `known` for the account's bucket of a known address."""
    seconds: float


@attrs.frozen
class ThrottleStatistics:
    buckets: int
    known: int
    blocked: int
    """Attempts that were not looked at."""
    forgotten: int
    """Entries that were dropped to stay within the memory bound."""


@attrs.define(eq=False)
class Attempt:
    """One attempt that was let in, as a context manager: left without a verdict, it counts as a failure."""

    _throttle: Throttle = attrs.field(repr=False)
    _brakes: tuple[_Brake, ...] = attrs.field(repr=False)
    _origin: str = attrs.field(repr=False)
    _settled: bool = attrs.field(default=False, init=False)

    def succeeded(self) -> None:
        """It was the owner of the account: the address is known from now on."""
        self._settle()
        self._throttle._meet(self._origin)

    def withdrawn(self) -> None:
        """Nothing was learned about the secret."""
        self._settle()

    def failed(self, guess: bytes | None = None) -> None:
        """It was wrong. `guess` is a keyed digest of name and password: the same again is no new guess."""
        if guess is None or not self._throttle._is_repeated(guess, self._origin):
            self._throttle._count(self._brakes)
        self._settle()

    def __enter__(self) -> Attempt:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._settled:
            self.failed()

    def _settle(self) -> None:
        assert not self._settled, "an attempt has one verdict"
        self._settled = True
        self._throttle._leave(self._brakes)


class Throttle:
    """The brakes of one server. Names and addresses go into the memo as digests only."""

    def __init__(
        self, config: AuthConfig, clock: WallClock, memo: Memo | None = None, *, table: int = TABLE
    ) -> None:
        self._free = config.free_failures
        self._longest = config.longest_wait
        self._clock = clock
        self._memo = memo
        self._table = table
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._known: OrderedDict[str, float] = OrderedDict()
        self._guesses: OrderedDict[tuple[bytes, str], None] = OrderedDict()
        self._inside: Counter[str] = Counter()
        self._lines: dict[str, trio.lowlevel.ParkingLot] = {}
        self._blocked = 0
        self._forgotten = 0

    async def enter(self, name: str, peer: str) -> Attempt | Blocked:
        """Let an attempt for the account from the address in, or say what holds it back and how long.

        The name may be empty, where none was said. May stand in line behind other attempts; cancelled
        there, nothing is counted.
        """
        origin = _key("known", name, address_block(peer, 32, 64))
        with trio.move_on_after(MEMO_PATIENCE):
            await self._recall_known(origin)
        brakes = self._brakes(name, peer, origin)
        with trio.move_on_after(MEMO_PATIENCE):
            for brake in brakes:
                await self._recall_bucket(brake.key)
        while True:
            # no checkpoint between looking and letting in
            now = self._clock.time()
            for brake in brakes:
                seconds = brake.wait(self._bucket(brake), now)
                if seconds > 0:
                    self._blocked += 1
                    return Blocked(brake.kind, seconds)
            full = [
                brake for brake in brakes if self._inside[brake.key] >= brake.room(self._bucket(brake), now)
            ]
            if not full:
                break
            await self._lines.setdefault(full[0].key, trio.lowlevel.ParkingLot()).park()
        for brake in brakes:
            self._inside[brake.key] += 1
        return Attempt(self, brakes, origin)

    def statistics(self) -> ThrottleStatistics:
        return ThrottleStatistics(len(self._buckets), len(self._known), self._blocked, self._forgotten)

    def _brakes(self, name: str, peer: str, origin: str) -> tuple[_Brake, ...]:
        short = min(LONGEST_FOR_ACCOUNT, self._longest)
        if self._is_known(origin):
            return (_Brake("known", origin, self._free, short),)
        brakes = []
        if name:
            brakes.append(_Brake("account", _key("account", name), self._free, short))
        address, network = address_block(peer, 32, 64), address_block(peer, 24, 48)
        many = self._free * NETWORK_FACTOR
        if _is_loopback(peer):
            brakes.append(_Brake("address", _key("address", address), many, short))
        else:
            brakes.append(_Brake("address", _key("address", address), self._free, self._longest))
            brakes.append(_Brake("network", _key("network", network), many, self._longest))
        return tuple(brakes)

    def _bucket(self, brake: _Brake) -> _Bucket:
        return self._buckets.get(brake.key, _CLEAN)

    def _count(self, brakes: tuple[_Brake, ...]) -> None:
        now = self._clock.time()
        for brake in brakes:
            bucket = brake.after_failure(self._bucket(brake), now)
            self._insert(self._buckets, brake.key, bucket)
            if self._memo is not None and math.ceil(bucket.failures) >= WORTH_KEEPING:
                value = _BUCKET.pack(bucket.failures, bucket.at)
                self._memo.put(brake.key, value, now + bucket.failures * FORGIVEN_AFTER)

    def _leave(self, brakes: tuple[_Brake, ...]) -> None:
        for brake in brakes:
            self._inside[brake.key] -= 1
            if not self._inside[brake.key]:
                del self._inside[brake.key]
            line = self._lines.pop(brake.key, None)
            if line is not None:
                line.unpark_all()  # each looks again, and those who find it full make a new line

    def _is_known(self, origin: str) -> bool:
        met = self._known.get(origin)
        return met is not None and self._clock.time() - met < KNOWN_FOR

    def _meet(self, origin: str) -> None:
        now, met = self._clock.time(), self._known.get(origin)
        if met is not None and 0 <= now - met < KNOWN_REFRESHED:
            self._known.move_to_end(origin)
            return
        self._insert(self._known, origin, now)
        if self._memo is not None:
            self._memo.put(f"{origin}/met", _TIME.pack(now), now + KNOWN_FOR)

    def _is_repeated(self, guess: bytes, origin: str) -> bool:
        repeated = (guess, origin) in self._guesses
        self._insert(self._guesses, (guess, origin), None)
        return repeated

    async def _recall_known(self, origin: str) -> None:
        if self._memo is None or origin in self._known:
            return
        value = await self._memo.get(f"{origin}/met")
        if value is not None and len(value) == _TIME.size:
            self._insert(self._known, origin, *_TIME.unpack(value))

    async def _recall_bucket(self, key: str) -> None:
        if self._memo is None or key in self._buckets:
            return
        value = await self._memo.get(key)
        # somebody else may have failed meanwhile
        if value is not None and len(value) == _BUCKET.size and key not in self._buckets:
            failures, at = _BUCKET.unpack(value)
            self._insert(self._buckets, key, _Bucket(failures, at))

    def _insert(self, table: OrderedDict[K, V], key: K, value: V) -> None:
        table[key] = value
        table.move_to_end(key)
        if len(table) > self._table:
            table.popitem(last=False)
            self._forgotten += 1


def _key(kind: str, *parts: str) -> str:
    digest = hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return f"auth/{kind}/{digest}"


def _is_loopback(peer: str) -> bool:
    try:
        return ipaddress.ip_address(address_block(peer, 32, 128)).is_loopback
    except ValueError:  # a Unix socket
        return True
