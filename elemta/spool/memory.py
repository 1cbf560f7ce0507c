"""The store in a dict: the same rules as in SQLite, without a disk, for tests on virtual time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import attrs

from elemta.mail import Cause, MessageId

from .details import decode_details, encode_details, plain, to_milliseconds, to_seconds
from .errors import LeaseLost, SpoolError
from .slots import Entry, Slot, after_attempt, given_back, listed, matches, owns
from .store import (
    NO_AFTERMATH,
    Aftermath,
    AttemptRecord,
    Claim,
    ClaimedRecipient,
    MessageIds,
    NewMessage,
    QueueEntries,
    QueueEntry,
    QueueFilter,
    RecipientState,
    Removal,
    SpoolStatistics,
    Store,
    StoredMessage,
)

_Waiting: TypeAlias = list[tuple[int, MessageId, int]]


@attrs.frozen
class _Counters:
    accepted: int = 0
    delivered: int = 0
    failed: int = 0
    expired: int = 0
    removed: int = 0

    def ended(self, state: RecipientState) -> _Counters:
        name = state.name.lower()
        return attrs.evolve(self, **{name: getattr(self, name) + 1})


class MemoryStore(Store):
    """Keeps everything in this process. Entries are immutable, so that undoing is putting old ones back."""

    flushes = False

    def __init__(self) -> None:
        self._entries: dict[MessageId, Entry] = {}
        self._counters = _Counters()
        self._seq = 0
        self._undo: list[Callable[[], None]] | None = None

    def begin(self, *, careful: bool = False) -> None:
        assert self._undo is None, "one batch at a time"
        self._undo = []

    def seal(self) -> None:
        pass

    def commit(self) -> None:
        self._undo = None

    def rollback(self) -> None:
        self._undo_to(0)
        self._undo = None

    def take_aftermath(self) -> Aftermath:
        return NO_AFTERMATH

    def close(self) -> None:
        pass

    # Accept

    def accept(self, message: NewMessage, *, lease: int | None, lease_until: float) -> None:
        if message.id in self._entries:
            raise SpoolError(f"message {message.id} is stored already")
        if message.body is None:
            raise SpoolError("a store in memory has no body files")
        # Written down and read back, so that it is refused and changed where SQLite would do so.
        envelope, origin = decode_details(encode_details(message.envelope, message.origin))
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
        self._put(Entry(self._seq, stored, slots))
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
            slots[result.index] = after_attempt(slots[result.index], result, to_milliseconds(now))
            if result.state.is_final:
                self._count(self._counters.ended(result.state))
        gone = self._replace(entry, slots)
        try:
            for index, notice in enumerate(record.notices):
                lease = notice_leases[index] if index < len(notice_leases) else None
                self.accept(notice, lease=lease, lease_until=lease_until)
        except SpoolError:
            self._undo_to(start)
            raise
        return gone

    # Claim

    def claim(self, limit: int, lease: int, now: float, lease_until: float) -> list[Claim]:
        moment, until = to_milliseconds(now), to_milliseconds(lease_until)
        due = sorted(
            (slot.due, entry.seq, index, entry)
            for entry, index, slot in self._all()
            if slot.due is not None and slot.due <= moment
        )[:limit]
        by_message: dict[MessageId, list[int]] = {}
        for _, _, index, entry in due:
            by_message.setdefault(entry.message.id, []).append(index)
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
                ClaimedRecipient(index, recipient, attempts, lease, slot.delay_noticed, interrupted)
            )
        self._replace(entry, slots)
        return Claim(attrs.evolve(entry.message, body=None), tuple(claimed))

    def unclaim(
        self, message: MessageId, leases: Sequence[tuple[int, int]], due: float, reason: Cause
    ) -> None:
        for entry, index, slot in self._leased(message, leases):
            self._change(entry, index, given_back(slot, to_milliseconds(due), str(reason), slot.attempts - 1))

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
            if slot.state is not RecipientState.QUEUED:
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

    def remove(self, which: QueueFilter) -> Removal:
        def change(slot: Slot) -> Slot | None:
            if slot.state.is_final or slot.lease:
                return None
            self._count(self._counters.ended(RecipientState.REMOVED))
            return attrs.evolve(slot, state=RecipientState.REMOVED, due=None, reason=str(Cause.OPERATOR))

        before = set(self._entries)
        recipients = self._change_all(which, change)
        return Removal(recipients, tuple(sorted(before - set(self._entries))))

    # Reads

    def next_due(self) -> float | None:
        due = [slot.due for _, _, slot in self._all() if slot.waiting and slot.due is not None]
        return to_seconds(min(due)) if due else None

    def list(self, which: QueueFilter, *, after: MessageId | None, limit: int) -> QueueEntries:
        entries = []
        for id in self.matching(which, after=after, limit=limit):
            entry = self._entries[id]
            matching = [index for index, slot in enumerate(entry.slots) if matches(which, entry, slot)]
            entries.append(listed(entry, matching))
        return entries

    def matching(self, which: QueueFilter, *, after: MessageId | None, limit: int) -> MessageIds:
        found: MessageIds = []
        for id, entry in sorted(self._entries.items()):
            if id > (after or "") and any(matches(which, entry, slot) for slot in entry.slots):
                found.append(id)
        return found[:limit]

    def show(self, message: MessageId) -> QueueEntry | None:
        entry = self._entries.get(message)
        return None if entry is None else listed(entry, range(len(entry.slots)))

    def stored(self, message: MessageId) -> StoredMessage | None:
        entry = self._entries.get(message)
        return None if entry is None else attrs.evolve(entry.message, body=None)

    def body(self, message: MessageId) -> bytes | None:
        entry = self._entries.get(message)
        return None if entry is None else entry.message.body

    def body_files(self) -> dict[MessageId, int]:
        return {}

    def statistics(self) -> SpoolStatistics:
        slots = [slot for _, _, slot in self._all()]
        messages = [entry.message for entry in sorted(self._entries.values(), key=lambda entry: entry.seq)]
        return SpoolStatistics(
            **attrs.asdict(self._counters),
            held=sum(slot.state is RecipientState.HELD for slot in slots),
            queued=sum(slot.state is RecipientState.QUEUED for slot in slots),
            leased=sum(bool(slot.lease) for slot in slots),
            messages=len(messages),
            octets=sum(message.size for message in messages),
            oldest=messages[0].received if messages else None,
        )

    # Changes

    def _all(self) -> Iterator[tuple[Entry, int, Slot]]:
        for entry in self._entries.values():
            for index, slot in enumerate(entry.slots):
                yield entry, index, slot

    def _change_all(self, which: QueueFilter, change: Callable[[Slot], Slot | None]) -> int:
        count = 0
        for entry in list(self._entries.values()):
            slots = list(entry.slots)
            for index, slot in enumerate(slots):
                changed = change(slot) if matches(which, entry, slot) else None
                if changed is not None:
                    slots[index] = changed
                    count += 1
            self._replace(entry, slots)
        return count

    def _change(self, entry: Entry, index: int, slot: Slot) -> None:
        self._replace(entry, [*entry.slots[:index], slot, *entry.slots[index + 1 :]])

    def _replace(self, entry: Entry, slots: Sequence[Slot]) -> bool:
        """Write the recipients of a message back; returns whether it is gone, all of them being final."""
        if all(slot.state.is_final for slot in slots):
            del self._entries[entry.message.id]
            self._remember(lambda: self._entries.__setitem__(entry.message.id, entry))
            return True
        self._put(attrs.evolve(entry, slots=tuple(slots)))
        return False

    def _put(self, entry: Entry) -> None:
        id = entry.message.id
        before = self._entries.get(id)
        self._entries[id] = entry
        if before is None:
            self._remember(lambda: self._entries.__delitem__(id))
        else:
            self._remember(lambda: self._entries.__setitem__(id, before))

    def _count(self, counters: _Counters) -> None:
        before, self._counters = self._counters, counters
        self._remember(lambda: setattr(self, "_counters", before))

    def _remember(self, undo: Callable[[], None]) -> None:
        assert self._undo is not None, "outside of a batch"
        self._undo.append(undo)

    def _mark(self) -> int:
        assert self._undo is not None, "outside of a batch"
        return len(self._undo)

    def _undo_to(self, mark: int) -> None:
        while self._undo and len(self._undo) > mark:
            self._undo.pop()()
