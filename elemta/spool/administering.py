"""What operators change in the SQLite store: holds, releases, removals, pauses, what is forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from elemta.mail import Cause

from . import history
from .batch import ENDED, HOLD, SqliteBatch, place
from .clues import Block, Span, add_block, drop_blocks
from .details import plain, to_milliseconds
from .values import Pause, PauseKind, QueueFilter, RecipientState, Removal

_QUEUED = int(RecipientState.QUEUED)
_HELD = int(RecipientState.HELD)
_HOLD_LATER = "UPDATE recipient SET hold = ? WHERE message = ? AND position = ?"
_RELEASE = "UPDATE recipient SET state = 0, due = ?, interrupted = 0 WHERE message = ? AND position = ?"
_FORGET_HOLD = "UPDATE recipient SET hold = NULL WHERE message = ? AND position = ? AND hold IS NOT NULL"
_RETRY = "UPDATE recipient SET due = ? WHERE message = ? AND position = ?"
_REMOVE = "UPDATE recipient SET state = 5, due = NULL, reason = 'operator' WHERE message = ? AND position = ?"
_RESUME = "UPDATE recipient SET state = 0, due = ? WHERE message = ? AND position = ?"
_ENDED_MESSAGE = "SELECT id, pending, size, inline FROM message WHERE seq = ?"
_UPDATE_PENDING = "UPDATE message SET pending = ?, parked = 1 WHERE seq = ?"
_SET_PAUSE = "INSERT OR REPLACE INTO pause VALUES (?, ?, ?, ?, ?)"
_END_PAUSE = "DELETE FROM pause WHERE kind = ? AND value = ?"
_COUNT_ENDED = "SELECT ended FROM counter"


def _is_paused(row: tuple[Any, ...]) -> bool:
    return bool(row[2] == _HELD and row[5] == Cause.PAUSED)


class SqliteAdministering(SqliteBatch):
    """Changes what a filter means."""

    def hold(self, which: QueueFilter, reason: str) -> int:
        return self._guarded(self._hold, which, plain(reason))

    def _hold(self, which: QueueFilter, reason: str) -> int:
        # What a pause put aside is held from now on, whatever becomes of the pause.
        rows = [row for row in self._matching(which) if row[2] == _QUEUED or _is_paused(row)]
        self._each(HOLD, ((reason, seq, position) for seq, position, _, lease, *_ in rows if not lease))
        self._each(_HOLD_LATER, ((reason, seq, position) for seq, position, _, lease, *_ in rows if lease))
        return len(rows)

    def release(self, which: QueueFilter, now: float) -> int:
        return self._guarded(self._release, which, to_milliseconds(now))

    def _release(self, which: QueueFilter, now: int) -> int:
        rows = self._matching(which)
        held = [(now, seq, position) for seq, position, state, *_ in rows if state == _HELD]
        self._each(_RELEASE, held)
        self._each(_FORGET_HOLD, ((seq, position) for seq, position, _, lease, *_ in rows if lease))
        return len(held)

    def retry(self, which: QueueFilter, now: float) -> int:
        return self._guarded(self._retry, which, to_milliseconds(now))

    def _retry(self, which: QueueFilter, now: int) -> int:
        rows = self._matching(which)
        waiting = [(now, seq, at) for seq, at, state, lease, *_ in rows if state == _QUEUED and not lease]
        self._each(_RETRY, waiting)
        return len(waiting)

    def remove(self, which: QueueFilter, now: float) -> Removal:
        return self._guarded(self._remove, which, to_milliseconds(now))

    def _remove(self, which: QueueFilter, now: int) -> Removal:
        removed: dict[int, int] = {}
        for seq, position, state, lease, *_ in self._matching(which):
            if state in (_QUEUED, _HELD) and not lease:
                self._execute(_REMOVE, (seq, position))
                removed[seq] = removed.get(seq, 0) + 1
        gone = []
        for seq, count in removed.items():
            self._added[place(RecipientState.REMOVED)] += count
            id, pending, size, inline = self._execute(_ENDED_MESSAGE, (seq,)).fetchone()
            if pending == count:
                if self.keeps_ended:
                    self._count_ended(history.end(self._execute, id, seq, now))
                else:
                    history.forget_attempts(self._execute, seq)
                self._delete(id, seq, size, inline)
                gone.append(id)
            else:
                self._execute(_UPDATE_PENDING, (pending - count, seq))
        return Removal(sum(removed.values()), tuple(sorted(gone)))

    def resume(self, which: QueueFilter, now: float) -> int:
        return self._guarded(self._resume, which, to_milliseconds(now))

    def _resume(self, which: QueueFilter, now: int) -> int:
        paused = attrs.evolve(which, reason=Cause.PAUSED.value)
        rows = [row for row in self._matching(paused) if not row[3]]
        self._each(_RESUME, ((now, seq, position) for seq, position, *_ in rows))
        return len(rows)

    def set_pause(self, pause: Pause) -> None:
        until = None if pause.until is None else to_milliseconds(pause.until)
        since, reason = to_milliseconds(pause.since), plain(pause.reason)
        self._guarded(self._each, _SET_PAUSE, [(str(pause.kind), plain(pause.value), since, until, reason)])

    def end_pause(self, kind: PauseKind, value: str) -> bool:
        self._guarded(self._each, _END_PAUSE, [(str(kind), plain(value))])
        return self._connection.changes() > 0

    def move_frontier(self, span: Span) -> None:
        if not span.late:
            self._frontiers[span.living] = max(self._frontiers[span.living], span.upto)

    def add_block(self, block: Block) -> None:
        self._guarded(add_block, self._execute, block)

    def drop_blocks(self, blocks: Sequence[int]) -> None:
        self._guarded(drop_blocks, self._execute, blocks)

    def forget(self, before: float, most: int, *, after: int, limit: int) -> tuple[int, int | None]:
        return self._guarded(self._forget, before, most, after, limit)

    def _forget(self, before: float, most: int, after: int, limit: int) -> tuple[int, int | None]:
        surplus = self._execute(_COUNT_ENDED).fetchone()[0] + self._added[ENDED] - most
        dropped, further = history.forget(self._execute, before, surplus, after=after, limit=limit)
        self._added[ENDED] -= dropped
        return dropped, further
