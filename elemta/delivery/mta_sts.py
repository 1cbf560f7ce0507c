"""Which MTA-STS policy holds for a domain: discovered, fetched, remembered (RFC 8461).

Theory of operation
-------------------
For each attempt the TXT record of the domain is asked for, mostly from the cache of DNS. Its id says whether
the policy that we remember is still the one. If it is not, or is so old that it should be renewed, the file
is fetched, within `timeouts.policy_fetch`, by one attempt for all that wait. What cannot be fetched leaves
what was remembered in force until its max_age is over, also when the record is gone: else who can hide both
could take the protection away (§5.1).

What is in memory is also fetched anew in the background when it is that old, whether or not there is mail
for the domain: who can hide the record and the file from us then has to do so for all of max_age, and not
only at the moment of the next message (§10.2).

What is remembered is in memory and in the memo, so it outlives a restart. Losing it means that the next
attempt fetches it again.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import attrs
import msgspec
import trio

from elemta.config import TimeoutsConfig
from elemta.dns import RecordKind, Resolver, Status
from elemta.runtime import Memo, WallClock

from .https import HttpsClient, HttpsFailed
from .sts_policy import LARGEST_POLICY, StsMode, StsPolicy, parse_policy, parse_record

RENEW = 86400.0
"""Seconds after which a policy is fetched again on use, or half of its max_age if that is less (§10.2)."""
PAUSE = 300.0
"""Seconds after a fetch that failed before the next (§3.3)."""
SHORTEST_WAIT, LONGEST_WAIT = 60.0, 3600.0
"""Seconds between two looks for policies that are to be renewed."""
AGAIN = 3600.0
"""Seconds after a renewal in the background that failed before the next, or half of what is left if less."""
WORKERS = 8
"""Policies that are renewed at the same time in the background."""
NAMESPACE = "mta-sts"
"""In the memo."""
MAX_DOMAINS = 2000
"""Remembered in memory; those used longest ago go, and are found in the memo."""


Stored = Callable[[str, int], Awaitable[list[bytes]]]
"""Gives the values of a namespace, up to a number."""


@attrs.frozen
class _Known:
    """A policy that was fetched."""

    id: str
    fetched: float
    mode: str
    max_age: int
    mx: tuple[str, ...]
    domain: str = ""
    """Whose it is."""

    @property
    def policy(self) -> StsPolicy:
        return StsPolicy(StsMode(self.mode), self.max_age, self.mx)

    def holds(self, now: float) -> bool:
        # What comes from the future was written by a clock that was wrong
        return self.fetched <= now + RENEW and now < self.fetched + self.max_age

    @property
    def stale_at(self) -> float:
        """When it is to be fetched again though it holds on."""
        return self.fetched + min(RENEW, self.max_age / 2)

    def is_fresh(self, identifier: str, now: float) -> bool:
        return self.id == identifier and now < self.stale_at


@attrs.define(eq=False)
class _Turn:
    """One fetch for a domain at a time."""

    lock: trio.Lock = attrs.field(factory=trio.Lock)
    users: int = 0


@attrs.frozen
class StsStatistics:
    """Counts since the start."""

    fetched: int
    failed: int


class MtaSts:
    """The policies of domains. Shared by all deliveries."""

    def __init__(
        self,
        resolver: Resolver,
        client: HttpsClient,
        clock: WallClock,
        memo: Memo,
        timeouts: Callable[[], TimeoutsConfig] = TimeoutsConfig,
    ) -> None:
        self._resolver = resolver
        self._client = client
        self._clock = clock
        self._memo = memo
        self._timeouts = timeouts
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._failed: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._turns: dict[str, _Turn] = {}
        self._tried: dict[str, float] = {}
        """When a renewal in the background last led to nothing."""
        self._next_look = math.inf
        self._woken = trio.Event()
        """A policy came that is to be renewed before that."""
        self._fetched = self._failures = 0

    def statistics(self) -> StsStatistics:
        return StsStatistics(self._fetched, self._failures)

    def trouble(self, domain: str) -> str:
        """Why the last fetch for the domain failed; empty where it did not, or long ago."""
        when, reason = self._failed.get(domain, (0.0, ""))
        return reason if self._is_recent(when) else ""

    async def policy(self, domain: str) -> StsPolicy | None:
        """The policy to apply to mail for the domain; `None`: there is none, or its mode is none.

        Never raises for what DNS or the server do. Cancelling is safe.
        """
        answer = await self._resolver.query(f"_mta-sts.{domain}", RecordKind.TXT)
        identifier = parse_record(answer.strings) if answer.status is Status.OK else None
        known = await self._find(domain)
        if identifier is not None and not (known and known.is_fresh(identifier, self._clock.time())):
            known = await self._renew(domain, identifier)
        if known is None or known.policy.mode is StsMode.NONE:
            return None
        return known.policy

    async def run(self, *, wanted: Callable[[], bool] = lambda: True, stored: Stored | None = None) -> None:
        """Renew in the background what is in memory, until cancelled.

        `wanted`: whether policies are used now. `stored` gives what the memo has had since before the start.
        """
        for value in await stored(NAMESPACE, MAX_DOMAINS) if stored is not None else ():
            known = _decode(value)
            if known is not None and known.domain and known.domain not in self._known:
                self._keep(known.domain, known)
        limiter = trio.CapacityLimiter(WORKERS)
        while True:
            if wanted():
                now = self._clock.time()
                self._tried = {
                    domain: tried for domain, tried in self._tried.items() if domain in self._known
                }
                async with trio.open_nursery() as nursery:
                    for domain, known in list(self._known.items()):
                        if self._due(domain, known) <= now and known.holds(now):
                            nursery.start_soon(self._refresh, domain, limiter, name=f"policy of {domain}")
            await trio.sleep(SHORTEST_WAIT)
            self._woken = trio.Event()
            self._next_look = min((self._due(*item) for item in self._known.items()), default=math.inf)
            with trio.move_on_after(min(max(0.0, self._next_look - self._clock.time()), LONGEST_WAIT)):
                await self._woken.wait()

    def _due(self, domain: str, known: _Known) -> float:
        """When to renew it in the background."""
        if known.policy.mode is StsMode.NONE:
            return math.inf  # nothing is lost with it
        tried = self._tried.get(domain)
        if tried is None:
            return known.stale_at
        left = known.fetched + known.max_age - tried
        return max(known.stale_at, tried + max(PAUSE, min(AGAIN, left / 2)))

    async def _refresh(self, domain: str, limiter: trio.CapacityLimiter) -> None:
        async with limiter:
            answer = await self._resolver.query(f"_mta-sts.{domain}", RecordKind.TXT)
            identifier = parse_record(answer.strings) if answer.status is Status.OK else None
            known = None if identifier is None else await self._renew(domain, identifier)
        now = self._clock.time()
        if identifier is None or known is None or not known.is_fresh(identifier, now):
            self._tried[domain] = now
        else:
            self._tried.pop(domain, None)

    async def _renew(self, domain: str, identifier: str) -> _Known | None:
        turn = self._turns.setdefault(domain, _Turn())
        turn.users += 1
        try:
            async with turn.lock:
                known = await self._find(domain)  # another may have been faster
                when, _ = self._failed.get(domain, (0.0, ""))
                if self._is_recent(when) or (known and known.is_fresh(identifier, self._clock.time())):
                    return known
                fetched = await self._fetch(domain)
                if isinstance(fetched, str):
                    self._note_failure(domain, fetched)
                    return known
                now = self._clock.time()
                known = _Known(identifier, now, fetched.mode.value, fetched.max_age, fetched.mx, domain)
                self._remember(domain, known)
                return known if known.holds(now) else None
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[domain]

    async def _fetch(self, domain: str) -> StsPolicy | str:
        """The policy, or why there is none."""
        with trio.move_on_after(self._timeouts().policy_fetch):
            try:
                answer = await self._client.request(
                    "GET", f"mta-sts.{domain}", "/.well-known/mta-sts.txt", most=LARGEST_POLICY
                )
            except HttpsFailed as error:
                return str(error)
            if answer.status != 200:  # §3.3: redirects must not be followed
                return f"HTTP status {answer.status}"
            if answer.content_type != "text/plain":  # §3.2
                return "the policy is not text/plain"
            try:
                return parse_policy(answer.body)
            except ValueError as error:
                return str(error)
        return "no answer in time"

    def _is_recent(self, when: float) -> bool:
        return 0 <= self._clock.time() - when < PAUSE

    def _note_failure(self, domain: str, reason: str) -> None:
        self._failures += 1
        self._failed[domain] = (self._clock.time(), reason)
        self._failed.move_to_end(domain)
        if len(self._failed) > MAX_DOMAINS:
            self._failed.popitem(last=False)

    async def _find(self, domain: str) -> _Known | None:
        known = self._known.get(domain)
        if known is None:
            stored = await self._memo.get(_key(domain))
            known = None if stored is None else _decode(stored)
            if known is None:
                return None
            self._keep(domain, known)
        else:
            self._known.move_to_end(domain)
        return known if known.holds(self._clock.time()) else None

    def _remember(self, domain: str, known: _Known) -> None:
        self._fetched += 1
        self._failed.pop(domain, None)
        self._keep(domain, known)
        try:
            self._memo.put(_key(domain), msgspec.json.encode(known), known.fetched + known.max_age)
        except ValueError:
            pass  # a list of hosts larger than the memo takes: memory alone remembers it

    def _keep(self, domain: str, known: _Known) -> None:
        self._known[domain] = known
        self._known.move_to_end(domain)
        if self._due(domain, known) < self._next_look:
            self._woken.set()
        if len(self._known) > MAX_DOMAINS:
            self._known.popitem(last=False)


def _decode(stored: bytes) -> _Known | None:
    try:
        known = msgspec.json.decode(stored, type=_Known)
        known.policy  # noqa: B018 - a mode that is none raises
    except (msgspec.MsgspecError, ValueError):
        return None
    return known


def _key(domain: str) -> str:
    return f"{NAMESPACE}/{hashlib.sha256(domain.encode()).hexdigest()}"
