"""Who sends, to whom, under which promises (RFC 5321 §2.3.1, RFC 3461, RFC 2852, RFC 4865)."""

from __future__ import annotations

import enum

import attrs

from .address import Mailbox, ReversePath


class BodyType(enum.StrEnum):
    """BODY= of MAIL (RFC 6152, RFC 3030)."""

    SEVEN_BIT = "7BIT"
    EIGHT_BIT_MIME = "8BITMIME"
    BINARY_MIME = "BINARYMIME"


class DeliverByMode(enum.StrEnum):
    """What becomes of a message that could not be delivered in time (RFC 2852 §4)."""

    RETURN = "R"
    """It is returned as undeliverable, and not tried any more."""
    NOTIFY = "N"
    """The sender is told of the delay, and it is tried on."""


class Ret(enum.StrEnum):
    """How much of the message a failure notice carries (RFC 3461 §4.3)."""

    FULL = "FULL"
    HEADERS = "HDRS"


class Notify(enum.Flag):
    """When the sender wants a notice (RFC 3461 §4.1). No flag at all is NOTIFY=NEVER."""

    NEVER = 0
    SUCCESS = enum.auto()
    FAILURE = enum.auto()
    DELAY = enum.auto()


DEFAULT_NOTIFY = Notify.FAILURE | Notify.DELAY
"""What a client that says nothing about it gets (RFC 3461 §5.2.4 leaves the delay to us)."""


@attrs.frozen(slots=True)
class DsnOptions:
    """What RCPT said about notices. `None`: it did not say."""

    notify: Notify | None = None
    original_recipient: str | None = None
    """ORCPT as `type;address`, decoded from xtext (RFC 3461 §4.2)."""

    @property
    def wanted(self) -> Notify:
        """When to send a notice, with the default filled in."""
        return DEFAULT_NOTIFY if self.notify is None else self.notify

    def joined(self, other: DsnOptions) -> DsnOptions:
        """What is wished for a recipient that is named twice: each notice that was asked for either time."""
        both = self.notify is None and other.notify is None
        original = other.original_recipient if self.original_recipient is None else self.original_recipient
        return DsnOptions(None if both else self.wanted | other.wanted, original)


NO_DSN_OPTIONS = DsnOptions()


@attrs.frozen(slots=True)
class Recipient:
    """One recipient of an envelope."""

    mailbox: Mailbox
    dsn: DsnOptions = NO_DSN_OPTIONS
    sender: Mailbox | None = None
    """Who sends it on to this recipient, as the next hop is told; None: the reverse path of the envelope.
    Notices of ours go to the reverse path all the same."""

    @property
    def notify(self) -> Notify:
        """When to send a notice, with the default filled in."""
        return self.dsn.wanted


@attrs.frozen(slots=True)
class DeliverBy:
    """By when the message has to be delivered (RFC 2852)."""

    deadline: float
    """Wall clock, seconds since the epoch. May be over already where the mode is NOTIFY."""
    mode: DeliverByMode
    trace: bool = False
    """The sender wants a notice when the message goes on to a server that does not know DELIVERBY."""


@attrs.frozen(slots=True)
class Deed:
    """What a plugin decided or changed about a message, for its story."""

    plugin: str
    hook: str
    what: str


@attrs.frozen(slots=True)
class Envelope:
    """Sender, recipients in the order they were given, and what MAIL asked for."""

    reverse_path: ReversePath
    recipients: tuple[Recipient, ...]
    body_type: BodyType = BodyType.SEVEN_BIT
    smtputf8: bool = False
    ret: Ret | None = None
    envelope_id: str | None = None
    """ENVID, decoded from xtext (RFC 3461 §4.4)."""
    require_tls: bool = False
    """REQUIRETLS (RFC 8689)."""
    priority: int = 0
    """MT-PRIORITY, -9 to 9 (RFC 6710)."""
    deliver_by: DeliverBy | None = None
    release_at: float | None = None
    """FUTURERELEASE (RFC 4865): not before that time; wall clock, seconds since the epoch."""
    tags: tuple[str, ...] = ()
    """Words of plugins about the message, for listings and those who are asked later."""
    deeds: tuple[Deed, ...] = ()
    """What plugins did before it was accepted."""
    hold_request: str | None = None
    """How the sender asked for `release_at`: `for;SECONDS` or `until;TIME` (RFC 4865 §5.1.2)."""
    quarantined: bool = False
    """A check has marked it as suspect."""
