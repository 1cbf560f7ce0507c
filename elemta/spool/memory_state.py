"""The state of the store in a dict, its undoing, and all looks at it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence

import attrs

from elemta.mail import MessageId

from .details import to_milliseconds, to_seconds
from .slots import Entry, Slot, listed, matches
from .store import Differences, Ids, Leases, Pauses, Place, QueueEntries, Shares, Store
from .values import (
    NO_AFTERMATH,
    Aftermath,
    BacklogShare,
    Difference,
    History,
    Page,
    Pause,
    PauseKind,
    QueueEntry,
    QueueFilter,
    RecipientState,
    ShareKey,
    SpoolStatistics,
    StoredMessage,
    Wanted,
)


@attrs.frozen
class _Counters:
    accepted: int = 0
    delivered: int = 0
    failed: int = 0
    expired: int = 0
    removed: int = 0
    ended: int = 0

    def with_end(self, state: RecipientState) -> _Counters:
        name = state.name.lower()
        return attrs.evolve(self, **{name: getattr(self, name) + 1})

    def remembering(self, count: int) -> _Counters:
        return attrs.evolve(self, ended=self.ended + count)


def _history(entry: Entry, ended: float | None) -> History:
    message = entry.message
    return History(
        message.id,
        message.envelope,
        message.origin,
        message.received,
        message.size,
        ended,
        listed(entry, range(len(entry.slots))).recipients,
        entry.attempts,
        entry.marks,
    )


def _is_wanted(life: History, wanted: Wanted) -> bool:
    envelope, sender, recipient = life.envelope, wanted.sender, wanted.recipient
    return (
        (sender is None or envelope.reverse_path.mailbox == sender)
        and (recipient is None or any(each.mailbox == recipient for each in envelope.recipients))
        and wanted.is_met_by(life)
    )


class MemoryState(Store):
    """What a `MemoryStore` keeps. Entries are immutable, so that undoing is putting old ones back."""

    flushes = False

    def __init__(self) -> None:
        self._entries: dict[MessageId, Entry] = {}
        self._ended: dict[MessageId, History] = {}
        self._pauses: dict[tuple[PauseKind, str], Pause] = {}
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

    # Reads

    def next_due(self, avoid: Collection[str] = ()) -> float | None:
        due = [
            slot.due
            for _, _, slot in self._all()
            if slot.waiting and slot.due is not None and slot.domain not in avoid
        ]
        return to_seconds(min(due)) if due else None

    def list(self, which: QueueFilter, *, after: Place, limit: int) -> QueueEntries:
        entries = []
        for id in self.matching(which, after=after, limit=limit).messages:
            entry = self._entries[id]
            matching = [index for index, slot in enumerate(entry.slots) if matches(which, entry, slot)]
            entries.append(listed(entry, matching))
        return entries

    def matching(self, which: QueueFilter, *, after: Place, limit: int) -> Page:
        found: list[Entry] = []
        ordered = sorted(self._entries.values(), key=lambda entry: entry.seq)
        start = self._place(after)
        for entry in ordered:
            if entry.seq > start and any(matches(which, entry, slot) for slot in entry.slots):
                found.append(entry)
        page = found[: max(0, limit)]
        full = bool(page) and len(page) == limit
        return Page(tuple(entry.message.id for entry in page), page[-1].seq if full else None)

    def _place(self, after: Place) -> int:
        if after is None or isinstance(after, int):
            return -1 if after is None else after
        if after in self._entries:
            return self._entries[after].seq
        behind = [entry.seq for id, entry in self._entries.items() if id > after]
        return min(behind) - 1 if behind else self._seq

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

    def history(self, message: MessageId) -> History | None:
        entry = self._entries.get(message)
        return self._ended.get(message) if entry is None else _history(entry, None)

    def find_living(self, wanted: Wanted, limit: int) -> Ids:
        entries = sorted(self._entries.values(), key=lambda entry: entry.seq)
        return [entry.message.id for entry in entries if _is_wanted(_history(entry, None), wanted)][:limit]

    def find_ended(self, wanted: Wanted, limit: int) -> Ids:
        lives = sorted(self._ended.items(), reverse=True)
        return [id for id, life in lives if _is_wanted(life, wanted)][:limit]

    def pauses(self) -> Pauses:
        return sorted(self._pauses.values(), key=lambda pause: (pause.kind, pause.value))

    def shares(self, by: ShareKey, limit: int) -> Shares:
        counts = Counter(
            slot.domain if by is ShareKey.DOMAIN else slot.reason
            for _, _, slot in self._all()
            if not slot.state.is_final and not slot.lease
        )
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return [BacklogShare(value, count) for value, count in ordered[:limit]]

    def audit(self, limit: int) -> Differences:
        missing = self.statistics().difference
        return [Difference("count", f"{missing:+d}")] if missing else []

    def leases(self) -> Leases:
        return [(entry.message.id, index, slot.lease) for entry, index, slot in self._all() if slot.lease]

    # Changes

    def _all(self) -> Iterator[tuple[Entry, int, Slot]]:
        for entry in self._entries.values():
            for index, slot in enumerate(entry.slots):
                yield entry, index, slot

    def _change_all(self, which: QueueFilter, change: Callable[[Slot], Slot | None], now: float = 0.0) -> int:
        count = 0
        for entry in list(self._entries.values()):
            slots = list(entry.slots)
            for index, slot in enumerate(slots):
                changed = change(slot) if matches(which, entry, slot) else None
                if changed is not None:
                    slots[index] = changed
                    count += 1
            self._replace(entry, slots, now)
        return count

    def _change(self, entry: Entry, index: int, slot: Slot) -> None:
        self._replace(entry, [*entry.slots[:index], slot, *entry.slots[index + 1 :]])

    def _replace(self, entry: Entry, slots: Sequence[Slot], now: float = 0.0) -> bool:
        """Write the recipients of a message back; returns whether it is gone, all of them being final."""
        if all(slot.state.is_final for slot in slots):
            gone = self._entries.pop(entry.message.id)
            self._remember(lambda: self._entries.__setitem__(gone.message.id, gone))
            if self.keeps_ended:
                moment = to_seconds(to_milliseconds(now))
                self._ended[gone.message.id] = _history(attrs.evolve(entry, slots=tuple(slots)), moment)
                self._remember(lambda: self._ended.__delitem__(gone.message.id))
                self._count(self._counters.remembering(1))
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
