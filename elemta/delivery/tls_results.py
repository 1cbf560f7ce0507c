"""How TLS with the hosts of each domain went, day by day, as RFC 8460 counts it: bounded, and kept in a file.

Counting is sync and changes memory only; `run` writes what has changed once a minute, in a thread. What is
lost in between, or for want of room, is missing in a report and nowhere else.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import attrs
import msgspec
import trio

from elemta.runtime import ThreadPool, WallClock, run_in_thread

RESULTS_FILE = "tls-results.json"
"""In the state folder."""
DAY = 86400
DAYS = 3
"""Kept, with today: a report may be late by a day."""
MAX_POLICIES = 5000
"""Of one day; strangers choose to which domains our users write, and our users choose how many."""
MAX_FAILURES = 100
"""Kinds of failure of one policy; hosts, addresses and reasons differ."""
LARGEST_FILE = 64 * 1024 * 1024
SAVE = 60.0
"""Seconds between two looks whether there is something to write."""


class TlsResult(enum.StrEnum):
    """What went wrong, in the words of RFC 8460 §4.3."""

    STARTTLS_NOT_SUPPORTED = "starttls-not-supported"
    HOST_MISMATCH = "certificate-host-mismatch"
    EXPIRED = "certificate-expired"
    NOT_TRUSTED = "certificate-not-trusted"
    VALIDATION_FAILURE = "validation-failure"
    DNSSEC_INVALID = "dnssec-invalid"
    POLICY_FETCH_ERROR = "sts-policy-fetch-error"


@attrs.frozen
class PolicyUsed:
    """Under which policy a session was tried (RFC 8460 §4.4)."""

    domain: str
    kind: str = "no-policy-found"
    """`tlsa`, `sts` or `no-policy-found`."""
    lines: tuple[str, ...] = ()
    """The records, or the lines of the policy file."""
    hosts: tuple[str, ...] = ()
    """The hosts that an MTA-STS policy names."""


@attrs.frozen
class Failure:
    """One kind of failure, as often as it came."""

    result: TlsResult
    host: str
    address: str = ""
    reason: str = ""


@attrs.define
class FailureCount:
    failure: Failure
    count: int = 0


@attrs.define
class PolicyResults:
    """The sessions of one day under one policy."""

    policy: PolicyUsed
    successes: int = 0
    failures: list[FailureCount] = attrs.field(factory=list)

    @property
    def failed(self) -> int:
        return sum(each.count for each in self.failures)


@attrs.define
class _Stored:
    """What is in the file."""

    days: dict[int, list[PolicyResults]] = attrs.field(factory=dict)


class TlsResults:
    """Counts sessions by day (UTC) and policy.

    `path` is the file; None: memory alone. One that cannot be read is begun anew, `on_trouble` is told.
    """

    def __init__(self, path: Path | None, clock: WallClock, on_trouble: Callable[[str, str], None]) -> None:
        self._path = path
        self._clock = clock
        self._on_trouble = on_trouble
        self._days: dict[int, dict[PolicyUsed, PolicyResults]] = {}
        self._changed = False
        self._dropped = 0
        if path is not None:
            self._days = self._read(path)

    @property
    def dropped(self) -> int:
        """Results that found no room since the start."""
        return self._dropped

    def success(self, policy: PolicyUsed) -> None:
        """A session with TLS as the policy wants it came about."""
        results = self._of(policy)
        if results is not None:
            results.successes += 1

    def failure(self, policy: PolicyUsed, failure: Failure) -> None:
        """A session failed, or went without TLS."""
        results = self._of(policy)
        if results is None:
            return
        for known in results.failures:
            if known.failure == failure:
                known.count += 1
                return
        if len(results.failures) >= MAX_FAILURES:
            self._dropped += 1
            return
        results.failures.append(FailureCount(failure, 1))

    def days(self) -> tuple[int, ...]:
        """The days of which there are results, as days since 1970, the oldest first."""
        return tuple(sorted(self._days))

    def of_day(self, day: int) -> list[PolicyResults]:
        """The results of a day, domain by domain."""
        found = self._days.get(day, {}).values()
        return sorted(found, key=lambda each: (each.policy.domain, each.policy.kind, each.policy.lines))

    def forget(self, day: int) -> None:
        """Drop the results of a day: they were reported."""
        self._changed = self._days.pop(day, None) is not None or self._changed

    def _of(self, policy: PolicyUsed) -> PolicyResults | None:
        today = int(self._clock.time() // DAY)
        day = self._days.get(today)
        if day is None:
            day = self._days[today] = {}
            for old in sorted(self._days)[:-DAYS]:
                del self._days[old]
        results = day.get(policy)
        if results is None:
            if len(day) >= MAX_POLICIES:
                self._dropped += 1
                return None
            results = day[policy] = PolicyResults(policy)
        self._changed = True
        return results

    async def run(self) -> None:
        """Write what has changed until cancelled, and then once more."""
        pool = ThreadPool("tls-results", 1)
        try:
            while True:
                await trio.sleep(SAVE)
                await self._save(pool)
        finally:
            with trio.move_on_after(5, shield=True):
                await self._save(pool)

    async def _save(self, pool: ThreadPool) -> None:
        if self._path is None or not self._changed:
            return
        self._changed = False
        data = _encode(self._days.items())
        try:
            await run_in_thread(pool, _write, self._path, data)
        except OSError as error:
            self._changed = True
            self._on_trouble("tls-results-unusable", f"{self._path}: {error.strerror or error}")

    def _read(self, path: Path) -> dict[int, dict[PolicyUsed, PolicyResults]]:
        try:
            if path.stat().st_size > LARGEST_FILE:
                raise ValueError("the file is too large")
            stored = msgspec.json.decode(path.read_bytes(), type=_Stored)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:  # msgspec's errors are ValueErrors
            self._on_trouble("tls-results-damaged", f"{path}: {error}")
            return {}
        return {day: {each.policy: each for each in found} for day, found in stored.days.items()}


def _encode(days: Iterable[tuple[int, dict[PolicyUsed, PolicyResults]]]) -> bytes:
    return msgspec.json.encode(_Stored({day: list(found.values()) for day, found in days}))


def _write(path: Path, data: bytes) -> None:
    """All or nothing, but without waiting for the disk: losing it is harmless."""
    temporary = path.with_suffix(".new")
    temporary.write_bytes(data)
    os.replace(temporary, path)
