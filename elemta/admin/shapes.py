"""The shapes of what the API takes and gives, as the OpenAPI document has them.

Answers are made from the values of other packages; a test holds each against its shape. Times are seconds
since the epoch, durations seconds, sizes octets, unless a field says otherwise.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from elemta.mail import Deed, MessageId
from elemta.queue import QueueStatistics
from elemta.spool import SpoolStatistics


class Shape(msgspec.Struct, forbid_unknown_fields=True):
    """Base: nothing else is in such an object."""


class Selection(Shape):
    """Which recipients an action is about. Nothing given would mean everything: then `all` must say so."""

    messages: list[str] | None = None
    sender: str | None = None
    recipient: str | None = None
    domain: str | None = None
    state: str | None = None
    """`queued` or `held`."""
    route: str | None = None
    """As `elemta status` names it: `smtp:example.org`."""
    cause: str | None = None
    """Why it waits, or is held."""
    older: float | None = None
    """Received at least so many seconds ago."""
    newer: float | None = None
    """Received at most so many seconds ago."""
    all: bool = False


class Action(Shape):
    """What to do with a part of the queue."""

    action: str
    """`hold`, `release`, `retry`, `remove` or `bounce`."""
    selection: Selection
    reason: str = ""
    """For a hold."""
    limit: int | None = None
    """At most so many messages (1 to 1000), oldest first; the `next` of the answer is the `after` of the
    following batch. Without it everything that matches is changed before the answer comes, however long that
    takes."""
    after: str | None = None
    """The message behind which to go on."""
    dry_run: bool = False
    """Only count what would be changed."""


class ActionResult(Shape):
    """What an action changed, or would."""

    recipients: int
    messages: int | None = None
    """Known for dry runs and batches."""
    next: MessageId | None = None
    """The `after` of the next batch; null: this was the last."""


class PauseWish(Shape):
    """A pause, or its end."""

    action: str
    """`pause` or `resume`."""
    kind: str
    """`sender`, `domain` or `route`."""
    value: str
    reason: str = ""
    seconds: float | None = None
    """After which it ends by itself."""


class PauseResult(Shape):
    """What became of it."""

    kind: str | None = None
    value: str | None = None
    """In the form in which mail has it."""
    recipients: int | None = None
    """Of a resume: so many go on."""


class PauseShown(Shape):
    """What is not to be tried for now. Its mail is accepted, and waits."""

    kind: Literal["sender", "domain", "route"]
    value: str
    since: float
    until: float | None
    """Null: until it is resumed."""
    reason: str


class PauseList(Shape):
    """All pauses."""

    pauses: list[PauseShown]


class Recipient(Shape):
    """One recipient of a message."""

    index: int
    address: str
    state: Literal["queued", "held", "delivered", "failed", "expired", "removed"]
    attempts: int
    due: float | None
    """When it is tried next, where queued."""
    leased: bool
    """An attempt is under way."""
    reason: str
    """For programs: the cause of the last deferral, `new`, or why it is held."""
    reply: str
    """The last reply or error, in one line."""
    remote: str
    last_attempt: float | None
    interrupted: int
    """The last attempts in a row that crashed or ended with their process."""


class QueueEntry(Shape):
    """One message in the queue."""

    id: MessageId
    sender: str
    """Empty: the null sender."""
    received: float
    size: int
    peer: str
    recipients: list[Recipient]
    place: int
    """In the order of coming."""


class QueuePage(Shape):
    """Messages in the order of coming."""

    messages: list[QueueEntry]
    next: MessageId | None
    """The `after` of the next page; null: there is none."""


class HistoryOrigin(Shape):
    """Where a message came from."""

    session: str
    peer: str
    hello: str
    protocol: str
    tls: str
    """Version and cipher; empty: none."""


class HistoryAttempt(Shape):
    """Attempts of one recipient, one after the other with the same result."""

    index: int
    recipient: str
    state: Literal["queued", "held", "delivered", "failed", "expired", "removed"]
    """`queued` where it was to be tried again."""
    first: float
    last: float
    times: int
    reason: str
    reply: str
    remote: str
    detail: str
    tls: str
    seconds: float
    """That the last one took."""
    phases: dict[str, float]
    """How many of these went into each: dns, connect, greeting, tls, envelope, data, reply."""


class MessageLife(Shape):
    """The life of a message, as far as it is still known; nothing of its content."""

    id: MessageId
    received: float
    ended: float | None
    """When nothing was left of it; null: it is in the queue."""
    size: int
    sender: str
    origin: HistoryOrigin
    message_id: str
    """The Message-ID of its header, without brackets."""
    tags: list[str]
    """That plugins gave it."""
    plugins: list[Deed]
    """What plugins decided or changed about it."""
    recipients: list[Recipient]
    attempts: list[HistoryAttempt]


class MessageMade(Shape):
    """It is on stable storage."""

    id: MessageId
    """Of every event about it."""


class MessageLives(Shape):
    """What a search found."""

    messages: list[MessageLife]


class DifferenceShown(Shape):
    """Something in the spool that should not be."""

    kind: str
    """`count`, `limbo`, `lease`, `orphan`, `body` or `pending`."""
    detail: str
    message: str


class AuditResult(Shape):
    """What the spool's audit found; empty: all is well."""

    differences: list[DifferenceShown]


class ListenerShown(Shape):
    """An address that is listened on."""

    name: str
    role: str
    address: str
    sessions: int


class CountsShown(Shape):
    """Since the start."""

    messages: int
    delivered: int
    deferred: int
    failed: int
    crashes: int


class RateShown(Shape):
    """One of `policy.rates`, since the start."""

    rate: str
    """As the configuration says it: `messages per account: 100/1h`."""
    known: int
    """Clients, accounts or addresses that it remembers now."""
    allowed: int
    refused: int
    forgotten: int
    """Of those it remembered, dropped as there were too many."""


class DestinationLimits(Shape):
    """Limits that an operator set for one destination, before all `[[shaping]]`. They outlive restarts."""

    route: str
    limits: dict[str, int | str]
    """As `[[shaping]]` says them: `concurrency`, `message_rate` and so on."""
    since: float
    reason: str


class Status(Shape):
    """The server at one moment."""

    version: str
    hostname: str
    started: float
    now: float
    ready: bool
    reasons: list[str]
    """Why it is not ready."""
    listeners: list[ListenerShown]
    spool: SpoolStatistics
    queue: QueueStatistics
    rates: list[RateShown]
    held_accounts: list[str]
    """Whose mail is held by the breaker."""
    limits: list[DestinationLimits]
    """That operators set for destinations."""
    counts: CountsShown


class DnsAnswer(Shape):
    """What DNS says of a name."""

    name: str
    type: str
    status: str
    records: list[str]
    ttl: float
    authentic: bool
    """Proved by DNSSEC."""
    canonical: str
    detail: str


class DnsEntry(DnsAnswer):
    """An answer in the cache."""

    age: float


class DnsCache(Shape):
    """The cache of DNS."""

    statistics: dict[str, int]
    entries: list[DnsEntry]


class DnsFlush(Shape):
    """Which answers of DNS to forget: of one name, or all."""

    name: str | None = None
    all: bool = False


class DnsForgotten(Shape):
    """What was forgotten."""

    forgotten: int


class ProblemShape(msgspec.Struct):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str


class ConfigShown(Shape):
    """The configuration in effect, as `elemta config show` has it."""

    config: dict[str, Any]


class Reloaded(Shape):
    """What a reload did."""

    changed: list[str]
    """Sections that are in effect now, each listener with what became of it."""
    restart: list[str]
    """What differs in the file and needs a restart."""


class DrainWish(Shape):
    """The wish to stop."""

    reason: str = ""


class Draining(Shape):
    """The server stops."""

    draining: bool
    seconds: float
    """Until it is over at the latest."""
