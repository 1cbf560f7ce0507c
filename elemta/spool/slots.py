"""A recipient in the memory store: what is known of it, and what becomes of it when something happens."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from elemta.mail import NO_MARKS, Marks

from .details import describe, outcome_detail, plain, sender_text, to_milliseconds, to_seconds
from .history import MOST_RUNS
from .values import (
    AttemptEntry,
    AttemptFacts,
    QueueEntry,
    QueueFilter,
    RecipientEntry,
    RecipientResult,
    RecipientState,
    StoredMessage,
)


@attrs.frozen
class Slot:
    """One recipient; the fields are the columns of table recipient."""

    address: str
    domain: str
    state: RecipientState
    lease: int
    due: int | None
    attempts: int
    reason: str
    interrupted: int = 0
    delay_noticed: bool = False
    last_attempt: int | None = None
    hold: str | None = None
    reply: str = ""
    remote: str = ""

    @property
    def waiting(self) -> bool:
        return self.state is RecipientState.QUEUED and not self.lease

    def held(self, reason: str) -> Slot:
        return attrs.evolve(self, state=RecipientState.HELD, due=None, lease=0, hold=None, reason=reason)


@attrs.frozen
class Entry:
    """One message with its recipients; `seq` is its place in the order of coming."""

    seq: int
    message: StoredMessage
    slots: tuple[Slot, ...]
    attempts: tuple[AttemptEntry, ...] = ()
    marks: Marks = NO_MARKS


def owns(entry: Entry, index: int, lease: int) -> bool:
    """Whether that lease holds that recipient."""
    return 0 <= index < len(entry.slots) and bool(lease) and entry.slots[index].lease == lease


def after_attempt(slot: Slot, result: RecipientResult, moment: int) -> Slot:
    """What an attempt leaves behind."""
    reason, reply, remote = describe(result.outcome)
    state, due = result.state, None
    if state is RecipientState.QUEUED:
        if slot.hold is not None:
            state, reason = RecipientState.HELD, slot.hold
        else:
            due = moment if result.due is None else to_milliseconds(result.due)
    elif result.hold is not None:
        reason = plain(result.hold)
    return attrs.evolve(
        slot,
        state=state,
        due=due,
        interrupted=slot.interrupted + 1 if result.crashed else 0,
        lease=0,
        hold=None,
        delay_noticed=slot.delay_noticed or result.delay_noticed,
        last_attempt=moment,
        reason=reason,
        reply=reply,
        remote=remote,
    )


def with_attempt(
    attempts: tuple[AttemptEntry, ...], result: RecipientResult, facts: AttemptFacts, now: float
) -> tuple[AttemptEntry, ...]:
    """The attempts of a message with one more: counted where it is as the last one of its recipient was."""
    reason, reply, remote = describe(result.outcome)
    entry = AttemptEntry(
        result.index,
        result.state,
        now,
        now,
        1,
        reason,
        reply,
        remote,
        outcome_detail(result.outcome, facts.note),
        facts.tls,
        facts.seconds,
        facts.phases,
    )
    for place in reversed(range(len(attempts))):
        before = attempts[place]
        if before.index == result.index:
            again = attrs.evolve(entry, first=before.first, times=before.times + 1)
            same = attrs.evolve(before, last=now, times=again.times, tls=again.tls, seconds=again.seconds)
            if attrs.evolve(same, phases=again.phases) == again:
                return (*attempts[:place], *attempts[place + 1 :], again)
            break
    own = [each for each in attempts if each.index == result.index]
    return (*(each for each in attempts if len(own) < MOST_RUNS or each is not own[0]), entry)


def given_back(slot: Slot, due: int | None, reason: str, attempts: int) -> Slot:
    """Waits again, or is held: without a due time, or where that was wished meanwhile."""
    slot = attrs.evolve(slot, lease=0, attempts=attempts)
    if slot.hold is not None:
        return slot.held(slot.hold)
    return slot.held(reason) if due is None else attrs.evolve(slot, due=due, reason=reason)


def matches(which: QueueFilter, entry: Entry, slot: Slot) -> bool:
    """Whether the filter means this recipient."""
    message = entry.message
    return (
        (which.means_final or not slot.state.is_final)
        and (which.messages is None or message.id in which.messages)
        and (which.sender is None or which.sender == sender_text(message.envelope.reverse_path))
        and (which.recipient is None or which.recipient == slot.address)
        and (which.domain is None or which.domain == slot.domain)
        and (which.state is None or which.state == slot.state)
        and (which.reason is None or which.reason == slot.reason)
        and (which.received_before is None or message.received < which.received_before)
        and (which.received_after is None or message.received >= which.received_after)
        and (which.test is None or which.test.address(slot.address))
    )


def listed(entry: Entry, indexes: Sequence[int]) -> QueueEntry:
    """The message and those recipients as listings show them."""
    message = entry.message
    recipients = []
    for index in indexes:
        slot = entry.slots[index]
        due = to_seconds(slot.due) if slot.waiting and slot.due is not None else None
        recipients.append(
            RecipientEntry(
                index,
                slot.address,
                slot.state,
                slot.attempts,
                due,
                bool(slot.lease),
                slot.reason,
                slot.reply,
                slot.remote,
                None if slot.last_attempt is None else to_seconds(slot.last_attempt),
                slot.interrupted,
            )
        )
    sender = sender_text(message.envelope.reverse_path)
    return QueueEntry(
        message.id,
        sender,
        message.received,
        message.size,
        plain(message.origin.peer),
        tuple(recipients),
        entry.seq,
    )
