"""The values that go into a store and come out of it. Times are seconds since 1970 on the wall clock."""

from __future__ import annotations

import enum
from collections.abc import Callable

import attrs

from elemta.mail import (
    NO_MARKS,
    NO_PHASES,
    Cause,
    Envelope,
    Mailbox,
    Marks,
    MessageId,
    Origin,
    Outcome,
    Phases,
    Recipient,
    TlsFacts,
)

PRIORITY_SECONDS = 60.0
"""What one level of priority (RFC 6710) is worth in seconds of waiting, wherever mail queues up."""


class RecipientState(enum.IntEnum):
    """Where a recipient stands. Exactly one owner at any time: a lease, a due time, or a hold."""

    QUEUED = 0
    HELD = 1
    DELIVERED = 2
    FAILED = 3
    EXPIRED = 4
    REMOVED = 5

    @property
    def is_final(self) -> bool:
        return self >= RecipientState.DELIVERED


@attrs.frozen
class NewMessage:
    """A message that is to be stored, complete: trace fields and all."""

    id: MessageId
    envelope: Envelope
    origin: Origin
    prefix: bytes
    """Header fields that were put before the body as received (Received …)."""
    body: bytes | None
    """What was received. `None`: it lies in the body file of that id, already synced."""
    size: int
    """Octets of prefix and body."""
    digest: bytes
    """BLAKE2b-128 of body, then prefix."""
    received: float
    hold: str | None = None
    """Hold all recipients, for this reason."""
    marks: Marks = NO_MARKS
    """By what it can be searched for."""

    @property
    def awaits_release(self) -> bool:
        """Whether it may not be tried yet (RFC 4865)."""
        release = self.envelope.release_at
        return release is not None and release > self.received

    @property
    def first_due(self) -> float:
        """When its recipients are due, if they are not claimed at once. What is urgent is due as if it had
        waited already (RFC 6710), so that it is claimed first without a further index."""
        if self.awaits_release:
            assert self.envelope.release_at is not None
            return self.envelope.release_at
        return self.received - PRIORITY_SECONDS * max(0, self.envelope.priority)

    @property
    def first_reason(self) -> str:
        """Why they wait until then."""
        return Cause.FUTURE_RELEASE.value if self.awaits_release else "new"


@attrs.frozen
class Receipt:
    """The message is on stable storage; say so to the client."""

    message: MessageId


@attrs.frozen
class StoredMessage:
    """A message as the queue and the transports see it."""

    id: MessageId
    envelope: Envelope
    origin: Origin
    prefix: bytes
    body: bytes | None
    """In memory, or `None`: ask `Spool.open_body`."""
    size: int
    digest: bytes
    received: float


@attrs.frozen
class ClaimedRecipient:
    """One recipient that an attempt now owns."""

    index: int
    """Position in the envelope."""
    recipient: Recipient
    attempts: int
    """With this one."""
    lease: int
    """Number to present when recording."""
    delay_noticed: bool = False
    """Whether the sender was already told that it is late."""
    interrupted: int = 0
    """Attempts in a row that crashed, or whose process died before it wrote down what became of them."""
    reason: str = ""
    """What it waited for: the cause of the last attempt, or of being given back untried; empty: it is new."""


@attrs.frozen
class Claim:
    """Recipients of one message that this process may now try."""

    message: StoredMessage
    recipients: tuple[ClaimedRecipient, ...]


@attrs.frozen
class AttemptFacts:
    """What is known of how an attempt went, for those who trace a message."""

    seconds: float = 0.0
    """From its begin, the making of the connection included, to its result."""
    tls: str = ""
    """Version and cipher of the connection; empty: none."""
    connect: float = 0.0
    """The part of it until there was a connection."""
    waited: float = 0.0
    """From when the message was taken up until the begin."""
    note: str = ""
    """What plugins changed about it."""
    secured: TlsFacts | None = None
    """The same as `tls`, as a value."""
    phases: Phases = NO_PHASES
    """Where the time went."""


NO_FACTS = AttemptFacts()


@attrs.frozen
class RecipientResult:
    """What an attempt did to one recipient and what follows."""

    index: int
    lease: int
    outcome: Outcome
    state: RecipientState
    """Final, or QUEUED to try again at `due`, or HELD."""
    due: float | None = None
    delay_noticed: bool = False
    hold: str | None = None
    """Why, where HELD for another reason than the outcome's."""
    crashed: bool = False
    """The attempt crashed: it counts as interrupted. One that did not sets that count back to 0."""


@attrs.frozen
class AttemptRecord:
    """The results of one attempt and the notices they cause: one transaction, all or nothing."""

    message: MessageId
    results: tuple[RecipientResult, ...]
    notices: tuple[NewMessage, ...] = ()
    facts: AttemptFacts = NO_FACTS

    def __attrs_post_init__(self) -> None:
        if len({result.index for result in self.results}) != len(self.results):
            raise ValueError("a recipient twice in one record")


@attrs.frozen
class Removal:
    """What an operator's removal ended."""

    recipients: int
    messages: tuple[MessageId, ...]
    """Those of which nothing is left, in order."""


@attrs.frozen
class AddressTest:
    """Chooses recipients by what somebody else knows of addresses, such as where they are routed to."""

    domain: Callable[[str], bool]
    """Whether some address in this domain may be meant."""
    address: Callable[[str], bool]
    """Whether this address is."""


@attrs.frozen
class QueueFilter:
    """Which recipients an operation or listing is about; what is None does not restrict."""

    messages: tuple[MessageId, ...] | None = None
    sender: str | None = None
    """Exact address; `<>` is the null sender."""
    recipient: str | None = None
    domain: str | None = None
    """Of the recipient."""
    state: RecipientState | None = None
    reason: str | None = None
    """Why it waits: a `Cause`, `new`, or why it is held."""
    received_before: float | None = None
    received_after: float | None = None
    test: AddressTest | None = None

    @property
    def means_final(self) -> bool:
        """Whether recipients are meant that are final, of messages that are still here for others. A filter
        for what is in the queue for a domain, or waits for a reason, does not mean them."""
        if self.state is not None:
            return self.state.is_final
        return all(each is None for each in (self.recipient, self.domain, self.reason, self.test))


@attrs.frozen
class RecipientEntry:
    """One recipient as listings show it."""

    index: int
    address: str
    state: RecipientState
    attempts: int
    due: float | None
    """Next attempt, where queued."""
    leased: bool
    """An attempt is under way."""
    reason: str
    """Machine-readable: a `Cause`, `new`, or why it is held."""
    reply: str
    """The last reply or error in one line, escaped where shown."""
    remote: str
    last_attempt: float | None
    interrupted: int = 0
    """The last attempts in a row that crashed or ended with their process; each may have been a delivery
    (RFC 1047)."""


@attrs.frozen
class Page:
    """Some of the messages that match."""

    messages: tuple[MessageId, ...]
    further: int | None
    """Where to go on from; `None`: these were the last."""


@attrs.frozen
class QueueEntry:
    """One message as listings show it."""

    id: MessageId
    sender: str
    received: float
    size: int
    peer: str
    recipients: tuple[RecipientEntry, ...]
    place: int
    """In the order of coming: where a listing may go on from."""


class PauseKind(enum.StrEnum):
    """What a pause is about."""

    SENDER = "sender"
    DOMAIN = "domain"
    """Of recipients."""
    ROUTE = "route"


@attrs.frozen
class Pause:
    """What is not to be tried for now. Its mail is accepted, and waits."""

    kind: PauseKind
    value: str
    since: float
    until: float | None
    """`None`: until it is resumed."""
    reason: str
    """For people: why, and whether the server itself paused it."""


@attrs.frozen
class AttemptEntry:
    """Attempts of one recipient, one after the other with the same result."""

    index: int
    """Of the recipient."""
    state: RecipientState
    """QUEUED where it was to be tried again."""
    first: float
    last: float
    times: int
    reason: str
    reply: str
    remote: str
    detail: str = ""
    """For the operator: the local error behind it."""
    tls: str = ""
    """Of the last one, as `seconds` and `phases`."""
    seconds: float = 0.0
    phases: Phases = NO_PHASES


@attrs.frozen
class History:
    """The life of one message, as far as it is still known."""

    id: MessageId
    envelope: Envelope
    origin: Origin
    received: float
    size: int
    ended: float | None
    """When nothing was left of it; `None`: it is in the queue."""
    recipients: tuple[RecipientEntry, ...]
    attempts: tuple[AttemptEntry, ...]
    """In order of time."""
    marks: Marks = NO_MARKS


@attrs.frozen
class Wanted:
    """Messages that are searched for, here or gone; what is None does not restrict."""

    sender: Mailbox | None = None
    recipient: Mailbox | None = None
    message_id: str | None = None
    """Without brackets."""
    subject: str | None = None
    """Its mark (`subject_mark`)."""
    remote_id: str | None = None
    """Words of a reply, such as the id under which the next hop took it."""

    @property
    def has_index(self) -> bool:
        """What is here can be found without looking through all of it."""
        return self.message_id is None and self.subject is None and self.remote_id is None

    def is_met_by(self, life: History) -> bool:
        """Whether this is one of them: for stores, which may look less closely."""
        return (
            (self.message_id is None or life.marks.message_id == self.message_id)
            and (self.subject is None or life.marks.subject == self.subject)
            and (self.remote_id is None or any(self.remote_id in each.reply for each in life.attempts))
        )


@attrs.frozen
class Difference:
    """Something in the store that should not be."""

    kind: str
    """For machines: `count`, `limbo`, `lease`, `orphan`, `body`, `pending`."""
    detail: str
    message: str = ""


@attrs.frozen
class SpoolStatistics:
    """Counts of recipients. `accepted` counts every recipient ever stored, notices included;
    accepted = delivered + failed + expired + removed + held + queued, at any time."""

    accepted: int
    delivered: int
    failed: int
    expired: int
    removed: int
    held: int
    queued: int
    """Waiting or under way."""
    leased: int
    """The part of `queued` that is under way."""
    messages: int
    octets: int
    oldest: float | None
    """When the oldest message that is still here was received."""
    ended: int = 0
    """Messages that are gone and still known."""

    @property
    def difference(self) -> int:
        """What is missing of the accepted; below 0: what is there twice. Always 0, or mail was lost."""
        ended = self.delivered + self.failed + self.expired + self.removed
        return self.accepted - ended - self.held - self.queued


@attrs.frozen
class BacklogShare:
    """How many recipients that nobody has claimed have something in common."""

    value: str
    recipients: int


@attrs.frozen
class Corrupt:
    """A message that is there but cannot be sent; its recipients are held with the reason `corrupt`."""

    message: MessageId
    problem: str


@attrs.frozen
class Aftermath:
    """What the last commit leaves to do outside the transaction."""

    body_files: tuple[MessageId, ...] = ()
    """Messages that are gone and whose body lies in a file."""
    corrupt: tuple[Corrupt, ...] = ()
    """Messages that were found damaged and are now held."""


NO_AFTERMATH = Aftermath()


class ShareKey(enum.StrEnum):
    """What recipients of the backlog are counted by."""

    DOMAIN = "domain"
    REASON = "reason"
