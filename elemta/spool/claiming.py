"""Claims in the SQLite store: who gets what is due, and gives it back untried."""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import apsw
import attrs
import msgspec

from elemta.mail import Cause, MessageId

from . import moving
from .batch import HOLD, PARK, SqliteBatch
from .details import to_milliseconds
from .values import Claim, ClaimedRecipient, QueueFilter, RecipientState

_QUEUED = int(RecipientState.QUEUED)
_HELD = int(RecipientState.HELD)
_PARK_BY_ID = "UPDATE message SET parked = 1 WHERE id = ? AND NOT parked"
_PARK_LEASED = """UPDATE message SET parked = 1
 WHERE NOT parked AND seq IN (SELECT message FROM recipient WHERE lease <> 0)"""
_DUE_COLUMNS = "due, domain, message, position, attempts, delay_noticed, interrupted, reason, hold"
_DUE_WHERE = "FROM recipient INDEXED BY recipient_due WHERE state = 0 AND lease = 0 AND due <= ?"
_DUE_ORDER = "ORDER BY due, domain, message, position LIMIT ?"
_DUE = f"SELECT {_DUE_COLUMNS} {_DUE_WHERE} {_DUE_ORDER}"
_DUE_BUT = f"""SELECT {_DUE_COLUMNS} {_DUE_WHERE} AND due >= ?
 AND domain NOT IN (SELECT value FROM json_each(?)) {_DUE_ORDER}"""  # noqa: S608 - constants
_EXPIRED = f"""SELECT due, domain, message, position, attempts, delay_noticed, interrupted + 1, reason,
 hold FROM recipient WHERE lease <> 0 AND due <= ? {_DUE_ORDER}"""  # noqa: S608 - constants
_SEIZE = """UPDATE recipient SET state = 0, lease = ?, due = ?,
 hold = CASE WHEN state = 1 THEN reason ELSE NULL END WHERE message = ? AND position = ?"""
_SEIZED = "SELECT attempts, delay_noticed, interrupted FROM recipient WHERE message = ? AND position = ?"
_TAKE = """UPDATE recipient SET lease = ?, due = ?, attempts = ?, interrupted = ?
 WHERE message = ? AND position = ?"""
_GIVE_BACK = """UPDATE recipient SET attempts = max(attempts - 1, 0), lease = 0, hold = NULL,
 state = hold IS NOT NULL OR ?1 IS NULL, due = CASE WHEN hold IS NULL THEN ?1 END, reason = coalesce(hold, ?2)
 WHERE message = (SELECT seq FROM message WHERE id = ?3) AND position = ?4 AND lease = ?5 AND lease <> 0"""
_EXTEND = """UPDATE recipient SET due = ?
 WHERE message = (SELECT seq FROM message WHERE id = ?) AND position = ? AND lease = ? AND lease <> 0"""
_RELEASE_LEASES = """UPDATE recipient SET lease = 0, interrupted = interrupted + 1, hold = NULL,
 state = hold IS NOT NULL, due = CASE WHEN hold IS NULL THEN ? END, reason = coalesce(hold, reason)
 WHERE lease <> 0"""
_FIRST = -(1 << 63)
_PASSED_MILLISECONDS = 1000
"""How long a claim leaves out what the one before it found to be avoided."""


@attrs.frozen
class _Passed:
    """Up to where all that is due was found to be in domains that are avoided."""

    avoid: frozenset[str]
    start: int
    """Due time; what is earlier is passed."""
    moment: int
    """When that was looked at."""

    def holds(self, avoid: frozenset[str], now: int) -> bool:
        """Whether it still is so. What was made due since then is due no earlier than it was made so, but for
        what is urgent; that is found in a moment."""
        return self.avoid <= avoid and 0 <= now - self.moment < _PASSED_MILLISECONDS


class SqliteClaiming(SqliteBatch):
    """Takes what is due, oldest first."""

    def __init__(self, connection: apsw.Connection, directory: Path) -> None:
        super().__init__(connection, directory)
        self._passed: _Passed | None = None

    def claim(
        self, limit: int, lease: int, now: float, lease_until: float, *, avoid: Collection[str] = ()
    ) -> list[Claim]:
        moment, until = to_milliseconds(now), to_milliseconds(lease_until)
        return self._guarded(self._claim, limit, lease, moment, until, frozenset(avoid))

    def _claim(self, limit: int, lease: int, now: int, until: int, avoid: frozenset[str]) -> list[Claim]:
        rows = self._due(limit, now, avoid)
        expired = self._execute(_EXPIRED, (now, limit)).fetchall()
        if expired:
            rows = sorted(rows + expired, key=lambda row: row[:4])[:limit]
        by_message: dict[int, list[tuple[Any, ...]]] = {}
        for row in rows:
            _, _, message, position, *_, hold = row
            if hold is not None:  # was to be held when its attempt ended, and the attempt never did
                self._execute(HOLD, (hold, message, position))
                self._execute(PARK, (message,))
            else:
                by_message.setdefault(message, []).append(row)
        claims = []
        for message, taken in by_message.items():
            claim = self._take(message, taken, lease, until)
            if claim is not None:
                claims.append(claim)
        return claims

    def _due(self, limit: int, now: int, avoid: frozenset[str]) -> list[tuple[Any, ...]]:
        if not avoid:
            self._passed = None
            return self._execute(_DUE, (now, limit)).fetchall()  # type: ignore[no-any-return]
        start = self._start(avoid, now)
        domains = msgspec.json.encode(sorted(avoid)).decode()
        rows = self._execute(_DUE_BUT, (now, start, domains, limit)).fetchall()
        # What is due before the first that was found is avoided, and need not be looked at in each claim.
        self._passed = _Passed(avoid, rows[0][0] if rows else now, now)
        return rows  # type: ignore[no-any-return]

    def _start(self, avoid: frozenset[str], now: int) -> int:
        return self._passed.start if self._passed and self._passed.holds(avoid, now) else _FIRST

    def next_due(self, avoid: Collection[str] = ()) -> float | None:
        moment = self._passed.moment if self._passed else 0
        return self._next_due(avoid, self._start(frozenset(avoid), moment))

    def _take(self, seq: int, rows: list[tuple[Any, ...]], lease: int, until: int) -> Claim | None:
        message = self._claimed(seq, (position for _, _, _, position, *_ in rows))
        if message is None:
            return None
        recipients = []
        for _, _, _, position, attempts, delay_noticed, interrupted, reason, _ in rows:
            self._execute(_TAKE, (lease, until, attempts + 1, interrupted, seq, position))
            recipients.append(
                ClaimedRecipient(
                    position,
                    message.envelope.recipients[position],
                    attempts + 1,
                    lease,
                    bool(delay_noticed),
                    interrupted,
                    reason or "",
                )
            )
        return Claim(message, tuple(recipients))

    def seize(self, which: QueueFilter, lease: int, lease_until: float) -> list[Claim]:
        return self._guarded(self._seize, which, lease, to_milliseconds(lease_until))

    def _seize(self, which: QueueFilter, lease: int, until: int) -> list[Claim]:
        by_message: dict[int, list[int]] = {}
        for seq, position, state, leased, *_ in self._matching(which):
            if state in (_QUEUED, _HELD) and not leased:
                by_message.setdefault(seq, []).append(position)
        claims = []
        for seq, positions in by_message.items():
            message = self._claimed(seq, positions)
            if message is None:
                continue
            recipients = []
            for position in positions:
                row = self._execute(_SEIZED, (seq, position)).fetchone()
                attempts, delay_noticed, interrupted = row
                self._execute(_SEIZE, (lease, until, seq, position))
                recipient = message.envelope.recipients[position]
                recipients.append(
                    ClaimedRecipient(position, recipient, attempts, lease, bool(delay_noticed), interrupted)
                )
            claims.append(Claim(message, tuple(recipients)))
        return claims

    def unclaim(
        self, message: MessageId, leases: Sequence[tuple[int, int]], due: float | None, reason: Cause
    ) -> None:
        moment = None if due is None else to_milliseconds(due)
        self._guarded(self._unclaim, message, leases, moment, str(reason))

    def _unclaim(
        self, message: MessageId, leases: Sequence[tuple[int, int]], due: int | None, reason: str
    ) -> None:
        self._each(_GIVE_BACK, [(due, reason, message, index, lease) for index, lease in leases])
        self._execute(_PARK_BY_ID, (message,))

    def extend(self, message: MessageId, leases: Sequence[tuple[int, int]], lease_until: float) -> None:
        until = to_milliseconds(lease_until)
        self._guarded(self._each, _EXTEND, [(until, message, index, lease) for index, lease in leases])

    def shift_due(self, after: float, until: float, by: float, limit: int) -> tuple[int, float | None]:
        self._passed = None
        return self._guarded(moving.shift_due, self._execute, after, until, by, limit)

    def clamp_due(self, now: float, *, waiting: float, leased: float, limit: int) -> int:
        clamp = functools.partial(moving.clamp_due, waiting=waiting, leased=leased, limit=limit)
        return self._guarded(clamp, self._execute, now)

    def release_leases(self, now: float) -> int:
        self._passed = None
        self._run(_PARK_LEASED)
        self._run(_RELEASE_LEASES, (to_milliseconds(now),))
        return self._connection.changes()
