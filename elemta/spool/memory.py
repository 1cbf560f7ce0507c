"""The store in a dict: the same rules as in SQLite, without a disk, for tests on virtual time."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TypeAlias

import attrs

from elemta.mail import Cause, MessageId

from .details import decode_details, decode_marks, encode_details, plain, to_milliseconds, to_seconds
from .errors import LeaseLost, SpoolError
from .memory_state import MemoryState
from .slots import Entry, Slot, after_attempt, given_back, matches, owns, with_attempt
from .values import (
    AttemptRecord,
    Claim,
    ClaimedRecipient,
    NewMessage,
    Pause,
    PauseKind,
    QueueFilter,
    RecipientState,
    Removal,
    StoredMessage,
)

_Waiting: TypeAlias = list[tuple[int, MessageId, int]]


class MemoryStore(MemoryState):
    """Keeps everything in this process."""

    # Accept

    def accept(self, message: NewMessage, *, lease: int | None, lease_until: float) -> None:
        if message.id in self._entries:
            raise SpoolError(f"message {message.id} is stored already")
        if message.body is None:
            raise SpoolError("a store in memory has no body files")
        # Written down and read back, so that it is refused and changed where SQLite would do so.
        written = encode_details(message.envelope, message.origin, message.marks)
        envelope, origin = decode_details(written)
        due: int | None = to_milliseconds(message.first_due)
        state, number, attempts, reason = RecipientState.QUEUED, 0, 0, message.first_reason
        if message.hold is not None:
            state, due, reason = RecipientState.HELD, None, plain(message.hold)
        elif lease is not None:
            number, attempts, due = lease, 1, to_milliseconds(lease_until)
        slots = tuple(
            Slot(str(recipient.mailbox), recipient.mailbox.domain.text, state, number, due, attempts, reason)
            for recipient in envelope.recipients
        )
        received = to_seconds(to_milliseconds(message.received))
        stored = StoredMessage(
            message.id,
            envelope,
            origin,
            message.prefix,
            message.body,
            message.size,
            message.digest,
            received,
        )
        self._seq += 1
        self._put(Entry(self._seq, stored, slots, marks=decode_marks(written)))
        self._count(attrs.evolve(self._counters, accepted=self._counters.accepted + len(slots)))

    # Record

    def record(
        self,
        record: AttemptRecord,
        now: float,
        *,
        notice_leases: Sequence[int | None] = (),
        lease_until: float = 0.0,
    ) -> bool:
        entry = self._entries.get(record.message)
        if entry is None:
            raise LeaseLost(f"message {record.message} is gone")
        for result in record.results:
            if not owns(entry, result.index, result.lease):
                raise LeaseLost(
                    f"recipient {result.index} of message {record.message} was given to someone else"
                )
        start = self._mark()
        slots = list(entry.slots)
        for result in record.results:
            attempts = with_attempt(entry.attempts, result, record.facts, to_seconds(to_milliseconds(now)))
            entry = attrs.evolve(entry, attempts=attempts)
            slots[result.index] = after_attempt(slots[result.index], result, to_milliseconds(now))
            if result.state.is_final:
                self._count(self._counters.with_end(result.state))
        gone = self._replace(entry, slots, now)
        try:
            for index, notice in enumerate(record.notices):
                lease = notice_leases[index] if index < len(notice_leases) else None
                self.accept(notice, lease=lease, lease_until=lease_until)
        except SpoolError:
            self._undo_to(start)
            raise
        return gone

    # Claim

    def claim(
        self, limit: int, lease: int, now: float, lease_until: float, *, avoid: Collection[str] = ()
    ) -> list[Claim]:
        moment, until = to_milliseconds(now), to_milliseconds(lease_until)
        due = sorted(
            (slot.due, slot.domain, entry.seq, index, entry.message.id)
            for entry, index, slot in self._all()
            if slot.due is not None and slot.due <= moment and (slot.lease or slot.domain not in avoid)
        )[:limit]
        by_message: dict[MessageId, list[int]] = {}
        for _, _, _, index, id in due:
            by_message.setdefault(id, []).append(index)
        claims = (self._take(self._entries[id], taken, lease, until) for id, taken in by_message.items())
        return [claim for claim in claims if claim.recipients]

    def _take(self, entry: Entry, indexes: list[int], lease: int, until: int) -> Claim:
        slots, claimed = list(entry.slots), []
        for index in indexes:
            slot = slots[index]
            if slot.hold is not None:
                slots[index] = slot.held(slot.hold)
                continue
            attempts, interrupted = slot.attempts + 1, slot.interrupted + bool(slot.lease)
            slots[index] = attrs.evolve(
                slot, lease=lease, due=until, attempts=attempts, interrupted=interrupted
            )
            recipient = entry.message.envelope.recipients[index]
            claimed.append(
                ClaimedRecipient(
                    index, recipient, attempts, lease, slot.delay_noticed, interrupted, slot.reason or ""
                )
            )
        self._replace(entry, slots)
        return Claim(attrs.evolve(entry.message, body=None), tuple(claimed))

    def seize(self, which: QueueFilter, lease: int, lease_until: float) -> list[Claim]:
        until, claims = to_milliseconds(lease_until), []
        for entry in sorted(self._entries.values(), key=lambda entry: entry.seq):
            slots, claimed = list(entry.slots), []
            for index, slot in enumerate(slots):
                if slot.state.is_final or slot.lease or not matches(which, entry, slot):
                    continue
                hold = slot.reason if slot.state is RecipientState.HELD else None
                slots[index] = attrs.evolve(
                    slot, state=RecipientState.QUEUED, lease=lease, due=until, hold=hold
                )
                recipient = entry.message.envelope.recipients[index]
                claimed.append(
                    ClaimedRecipient(
                        index, recipient, slot.attempts, lease, slot.delay_noticed, slot.interrupted
                    )
                )
            if claimed:
                self._replace(entry, slots)
                claims.append(Claim(attrs.evolve(entry.message, body=None), tuple(claimed)))
        return claims

    def unclaim(
        self, message: MessageId, leases: Sequence[tuple[int, int]], due: float | None, reason: Cause
    ) -> None:
        moment = None if due is None else to_milliseconds(due)
        for entry, index, slot in self._leased(message, leases):
            self._change(entry, index, given_back(slot, moment, str(reason), max(slot.attempts - 1, 0)))

    def extend(self, message: MessageId, leases: Sequence[tuple[int, int]], lease_until: float) -> None:
        for entry, index, slot in self._leased(message, leases):
            self._change(entry, index, attrs.evolve(slot, due=to_milliseconds(lease_until)))

    def shift_due(self, after: float, until: float, by: float, limit: int) -> tuple[int, float | None]:
        first, distance = to_milliseconds(after), to_milliseconds(by)
        last = math.inf if until == math.inf else to_milliseconds(until)
        found = self._waiting(lambda due: first <= due <= last)[:limit]
        for due, id, index in found:
            entry = self._entries[id]
            self._change(entry, index, attrs.evolve(entry.slots[index], due=due + distance))
        return len(found), to_seconds(found[-1][0]) if len(found) == limit else None

    def clamp_due(self, now: float, *, waiting: float, leased: float, limit: int) -> int:
        moment, latest = to_milliseconds(now), to_milliseconds(now + waiting)
        until = to_milliseconds(now + leased)
        found = self._waiting(lambda due: due > latest)[:limit]
        for _, id, index in found:
            entry = self._entries[id]
            self._change(entry, index, attrs.evolve(entry.slots[index], due=moment))
        leases = [
            (entry.message.id, index)
            for entry, index, slot in self._all()
            if slot.lease and slot.due is not None and slot.due > until
        ][:limit]
        for id, index in leases:
            entry = self._entries[id]
            self._change(entry, index, attrs.evolve(entry.slots[index], due=until))
        return len(found) + len(leases)

    def _waiting(self, chosen: Callable[[int], bool]) -> _Waiting:
        """Due time, message and index of those that wait for an attempt, but not for their release."""
        return sorted(
            (slot.due, entry.message.id, index)
            for entry, index, slot in self._all()
            if slot.waiting and slot.due is not None and chosen(slot.due)
            if slot.reason != Cause.FUTURE_RELEASE
        )

    def release_leases(self, now: float) -> int:
        leased = [(entry.message.id, index) for entry, index, slot in self._all() if slot.lease]
        for id, index in leased:
            entry = self._entries[id]
            slot = entry.slots[index]
            released = given_back(slot, to_milliseconds(now), slot.reason, slot.attempts)
            self._change(entry, index, attrs.evolve(released, interrupted=slot.interrupted + 1))
        return len(leased)

    def _leased(
        self, message: MessageId, leases: Sequence[tuple[int, int]]
    ) -> Iterator[tuple[Entry, int, Slot]]:
        for index, lease in leases:
            entry = self._entries.get(message)
            if entry is not None and owns(entry, index, lease):
                yield entry, index, entry.slots[index]

    # Operators

    def hold(self, which: QueueFilter, reason: str) -> int:
        def change(slot: Slot) -> Slot | None:
            paused = slot.state is RecipientState.HELD and slot.reason == Cause.PAUSED
            if slot.state is not RecipientState.QUEUED and not paused:
                return None
            text = plain(reason)
            return attrs.evolve(slot, hold=text) if slot.lease else slot.held(text)

        return self._change_all(which, change)

    def release(self, which: QueueFilter, now: float) -> int:
        def forget(slot: Slot) -> Slot | None:
            return attrs.evolve(slot, hold=None) if slot.hold is not None else None

        def change(slot: Slot) -> Slot | None:
            if slot.state is not RecipientState.HELD:
                return None
            return attrs.evolve(slot, state=RecipientState.QUEUED, due=to_milliseconds(now), interrupted=0)

        self._change_all(which, forget)
        return self._change_all(which, change)

    def retry(self, which: QueueFilter, now: float) -> int:
        def change(slot: Slot) -> Slot | None:
            return attrs.evolve(slot, due=to_milliseconds(now)) if slot.waiting else None

        return self._change_all(which, change)

    def remove(self, which: QueueFilter, now: float) -> Removal:
        def change(slot: Slot) -> Slot | None:
            if slot.state.is_final or slot.lease:
                return None
            self._count(self._counters.with_end(RecipientState.REMOVED))
            return attrs.evolve(slot, state=RecipientState.REMOVED, due=None, reason=str(Cause.OPERATOR))

        before = set(self._entries)
        recipients = self._change_all(which, change, now)
        return Removal(recipients, tuple(sorted(before - set(self._entries))))

    def resume(self, which: QueueFilter, now: float) -> int:
        def change(slot: Slot) -> Slot | None:
            if slot.lease or slot.state.is_final:
                return None
            return attrs.evolve(slot, state=RecipientState.QUEUED, due=to_milliseconds(now))

        return self._change_all(attrs.evolve(which, reason=Cause.PAUSED.value), change)

    def set_pause(self, pause: Pause) -> None:
        before = dict(self._pauses)
        until = None if pause.until is None else to_seconds(to_milliseconds(pause.until))
        self._pauses[pause.kind, pause.value] = attrs.evolve(
            pause, since=to_seconds(to_milliseconds(pause.since)), until=until, reason=plain(pause.reason)
        )
        self._remember(lambda: setattr(self, "_pauses", before))

    def end_pause(self, kind: PauseKind, value: str) -> bool:
        before = dict(self._pauses)
        self._remember(lambda: setattr(self, "_pauses", before))
        return self._pauses.pop((kind, value), None) is not None

    def forget(self, before: float, most: int, *, after: int, limit: int) -> tuple[int, int | None]:
        kept = dict(self._ended)
        self._remember(lambda: setattr(self, "_ended", kept))
        ended = sorted(self._ended.values(), key=lambda history: history.id)
        surplus, dropped = len(ended) - most, 0
        for history in ended:
            assert history.ended is not None
            if (history.ended < before or dropped < surplus) and dropped < limit:
                del self._ended[history.id]
                dropped += 1
        self._count(self._counters.remembering(-dropped))
        return dropped, after if dropped == limit else None
