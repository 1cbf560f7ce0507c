"""Messages, attempts and clocks for the tests of the spool."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import attrs

from elemta.mail import (
    NULL_PATH,
    Cause,
    Deferred,
    Delivered,
    Domain,
    Envelope,
    Failed,
    Mailbox,
    MessageId,
    Origin,
    Outcome,
    Recipient,
    Reply,
    ReversePath,
    make_id,
    parse_mailbox,
)
from elemta.spool import AttemptRecord, Claim, NewMessage, RecipientResult, RecipientState
from elemta.spool.folder import prepare

NOW = 1_750_000_000.0
ORIGIN = Origin("session", "192.0.2.1", 25, "client.example", "ESMTP", "mx")
PREFIX = b"Received: from client.example\r\n"
BODY = b"Subject: hello\r\n\r\nbody\r\n"
OK = Delivered(Reply.of(250, "2.0.0", "taken"), "mx.example[192.0.2.9]:25")
LATER = Deferred(Cause.REMOTE_REPLY, Reply.of(451, "4.3.0", "later"), "mx.example[192.0.2.9]:25", True)
NEVER = Failed(Cause.REMOTE_REPLY, Reply.of(550, "5.1.1", "nobody"), "mx.example[192.0.2.9]:25", True)


@attrs.define
class SettableClock:
    now: float = NOW

    def time(self) -> float:
        return self.now


@attrs.define
class Troubles:
    """Collects what the spool reports."""

    seen: list[tuple[str, str]] = attrs.field(factory=list)

    def __call__(self, what: str, detail: str) -> None:
        self.seen.append((what, detail))

    @property
    def names(self) -> list[str]:
        return [what for what, _ in self.seen]


def message_id(number: int) -> MessageId:
    return make_id(1_000_000 + number, 0)


def envelope(*recipients: str, sender: str | None = "sender@example.org") -> Envelope:
    path = NULL_PATH if sender is None else ReversePath(parse_mailbox(sender))
    mailboxes = [parse_mailbox(recipient) for recipient in recipients or ("a@example.com",)]
    return Envelope(path, tuple(Recipient(mailbox) for mailbox in mailboxes))


def digest(body: bytes, prefix: bytes = PREFIX) -> bytes:
    return hashlib.blake2b(body + prefix, digest_size=16).digest()


def new_message(
    number: int = 1,
    *recipients: str,
    sender: str | None = "sender@example.org",
    body: bytes | None = BODY,
    hold: str | None = None,
    received: float = NOW,
) -> NewMessage:
    size = len(PREFIX) + len(body or b"")
    return NewMessage(
        message_id(number),
        envelope(*recipients, sender=sender),
        ORIGIN,
        PREFIX,
        body,
        size,
        digest(body or b""),
        received,
        hold,
    )


def surrogate_message(number: int) -> NewMessage:
    """One that no store can write down."""
    bad = Envelope(NULL_PATH, (Recipient(Mailbox("\ud800", Domain("example.com"))),))
    return attrs.evolve(new_message(number), envelope=bad)


def result(
    index: int = 0,
    lease: int = 1,
    outcome: Outcome = OK,
    state: RecipientState = RecipientState.DELIVERED,
    due: float | None = None,
    delay_noticed: bool = False,
    **more: Any,
) -> RecipientResult:
    return RecipientResult(index, lease, outcome, state, due, delay_noticed, **more)


def deferred(
    index: int = 0, lease: int = 1, due: float = NOW + 300, delay_noticed: bool = False
) -> RecipientResult:
    return result(index, lease, LATER, RecipientState.QUEUED, due, delay_noticed)


def attempt(number: int, *results: RecipientResult, notices: tuple[NewMessage, ...] = ()) -> AttemptRecord:
    return AttemptRecord(message_id(number), results or (result(),), notices)


def delivered(claim: Claim) -> AttemptRecord:
    results = tuple(result(recipient.index, recipient.lease) for recipient in claim.recipients)
    return AttemptRecord(claim.message.id, results)


@attrs.define
class FakeIntake:
    """An intake with room for so many octets."""

    room: int = 1 << 30
    reserved: int = 0
    cancelled: int = 0
    claims: list[Claim] = attrs.field(factory=list)
    wakes: int = 0

    def reserve(self, octets: int, recipients: int) -> bool:
        if self.reserved + octets > self.room:
            return False
        self.reserved += octets
        return True

    def cancel(self, octets: int, recipients: int) -> None:
        self.reserved -= octets
        self.cancelled += 1

    def put(self, claim: Claim) -> None:
        self.claims.append(claim)

    def wake(self) -> None:
        self.wakes += 1


def spool_folder(tmp_path: Path) -> Path:
    return prepare(tmp_path / "state")
