"""The interface of transports: connect to a next hop, deliver a message, one outcome per recipient."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import attrs
import trio

from elemta.events import Entry
from elemta.mail import (
    AddressLiteral,
    Cause,
    Deferred,
    Domain,
    Envelope,
    Mailbox,
    MessageId,
    Outcome,
    Recipient,
    TlsFacts,
    replies,
)

from .course import Course


class ContentReader(Protocol):
    """Reads the body of one message from front to end."""

    async def read(self) -> bytes:
        """The next piece (any size above zero), or `b""` at the end."""


class Content(Protocol):
    """What is to be sent: header fields put before, and the body as received."""

    @property
    def prefix(self) -> bytes: ...

    @property
    def body(self) -> bytes | None:
        """The whole body where it is in memory."""

    @property
    def size(self) -> int:
        """Octets of prefix and body."""

    def open(self) -> AbstractAsyncContextManager[ContentReader]:
        """A fresh reader of the body; works whether or not it is in memory.

        Raises (on entering, before anything is read):
          Exception: of the spool, where the body is missing or does not match its digest.
        """


@attrs.frozen
class Parcel:
    """One message for some recipients at one next hop."""

    message: MessageId
    envelope: Envelope
    """As accepted; its recipients are all of the message, not only those to be tried now."""
    recipients: tuple[Recipient, ...]
    """Those to be tried now."""
    content: Content


class ConnectFailed(Exception):
    """The next hop could not be reached or refused the session; `outcome` (Deferred or Failed) holds for
    every recipient that waits for it."""

    def __init__(self, outcome: Outcome, story: tuple[Entry, ...] = ()) -> None:
        super().__init__(str(outcome))
        self.outcome = outcome
        self.story = story
        """What was said with those that were tried."""


class ConnectionStale(Exception):
    """A kept connection turned out to be closed before it took anything of the parcel.

    Nothing of the parcel can have been delivered: close the connection and try at once on a fresh
    one, which never raises this for its first parcel.
    """


@attrs.frozen
class SessionLimits:
    """How much a next hop takes, as it announced (RFC 9422 §4); infinite: it did not say."""

    messages: float = math.inf
    """In a session (MAILMAX)."""
    recipients: float = math.inf
    """In a transaction (RCPTMAX)."""
    domains: float = math.inf
    """Different ones among the recipients of a transaction (RCPTDOMAINMAX)."""

    @classmethod
    def of(cls, announced: Sequence[tuple[str, int]]) -> SessionLimits:
        """What follows from the values of the keyword; 0 is none, since nothing could be sent with it."""
        known = {name: value for name, value in announced if value > 0}
        if not known:
            return NO_LIMITS
        return cls(
            known.get("MAILMAX", math.inf),
            known.get("RCPTMAX", math.inf),
            known.get("RCPTDOMAINMAX", math.inf),
        )

    def first_part(self, recipients: Sequence[Recipient]) -> list[int]:
        """The places of those that may go into one transaction: at least one, in order."""
        if len(recipients) <= min(self.recipients, self.domains):
            return list(range(len(recipients)))
        chosen: list[int] = []
        domains: set[Domain | AddressLiteral] = set()
        for place, recipient in enumerate(recipients):
            domain = recipient.mailbox.domain
            if len(chosen) < self.recipients and (domain in domains or len(domains) < self.domains):
                chosen.append(place)
                domains.add(domain)
        return chosen


NO_LIMITS = SessionLimits()


class Connection(ABC):
    """A session with one next hop. Used by one task; never shared."""

    following: Callable[[], Parcel | None] | None = None
    """Asked at most once in each `deliver`, just before the end of the content is sent, for the parcel that
    will be the next to be delivered over this connection, if over any. A connection may let its envelope
    go ahead (RFC 2920 §3.1); nothing of its content does."""
    course: Course | None = None
    """That of the present attempt, where somebody wants to know it."""
    tls: TlsFacts | None = None
    """How it is secured, for those who trace a message."""
    remote: str = ""
    """The next hop as `host[address]:port`, where it is a host."""

    limits: SessionLimits = NO_LIMITS
    """What the next hop takes in one session and one transaction; the caller keeps to it."""
    tried: frozenset[str] = frozenset()
    """Where the way to it led: itself and what could not be used before it, as `host[address]:port`."""
    has_others: bool = False
    """Whether its route knows more addresses than those tried."""

    def story(self, message: MessageId) -> tuple[Entry, ...]:
        """What was said about a message, and before it at the beginning of the session; for those who look
        why it failed. Nothing where nothing was said."""
        return ()

    @property
    @abstractmethod
    def usable(self) -> bool:
        """Whether another parcel may be delivered over it."""

    @property
    @abstractmethod
    def phase(self) -> str:
        """What it waits for now, for people: `mail`, `final-dot`, `idle` …"""

    @property
    def progress(self) -> int:
        """Grows with each piece sent or received: with `phase`, what a watchdog looks at."""
        return 0

    @property
    def deadline(self) -> float:
        """When the present phase ends at the latest, by Trio's clock; infinite: it has no end of its own."""
        return math.inf

    @property
    def peer(self) -> str:
        """The next hop as `host[address]:port`, or the transport's own word; empty: it does not tell."""
        return ""

    @abstractmethod
    async def deliver(self, parcel: Parcel) -> list[Outcome]:
        """Try the parcel; one outcome per recipient, in order. Never raises for what the remote did.

        Cancelled before the final dot was sent: nothing was delivered. Later: unknown; the
        connection is broken and the caller records `Deferred(UNKNOWN_AFTER_DOT)` (see `dot_sent`).

        Raises:
          ConnectionStale: a kept connection was closed meanwhile; nothing was taken.
          Exception: of the spool, where the content cannot be read.
        """

    async def probe(self, mailbox: Mailbox) -> Outcome:
        """Ask whether mail from `<>` is taken for it, and send none; the connection is to be closed then.
        Never raises for what the remote did."""
        await trio.lowlevel.checkpoint()
        return Deferred(Cause.PROTOCOL, replies.REMOTE_PROTOCOL, detail="this next hop cannot be asked")

    @property
    @abstractmethod
    def dot_sent(self) -> bool:
        """Whether the current parcel's final dot may have left while its reply is not known."""

    @abstractmethod
    async def aclose(self) -> None:
        """End the session politely, within the quit time-out, also when cancelled."""


class Transport(ABC):
    """Makes connections to one route's next hop."""

    course: Course | None = None
    """That of the present attempt, where somebody wants to know it."""

    @abstractmethod
    async def connect(self) -> Connection:
        """Open a session ready for the first parcel.

        Raises:
          ConnectFailed: none could be had.
        """

    async def connect_elsewhere(self, tried: frozenset[str]) -> Connection:
        """The same with none of those tried; where the route has but one next hop, there is none.

        Raises:
          ConnectFailed: none could be had.
        """
        raise ConnectFailed(Deferred(Cause.CONNECT, replies.CONNECT_FAILED, detail="there is no other host"))
