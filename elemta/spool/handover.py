"""The fast path: a fresh message is stored as already claimed, and handed to the queue with its body."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Protocol, TypeVarTuple

import attrs

from elemta.runtime import WallClock, summarize

from .values import Claim, ClaimedRecipient, NewMessage, StoredMessage

Ts = TypeVarTuple("Ts")


class Intake(Protocol):
    """Where freshly accepted messages go at once if there is room: the queue. All methods are sync,
    change memory only, and do not raise."""

    def reserve(self, octets: int, recipients: int) -> bool:
        """Keep room for a message that holds so much memory; followed by `cancel` or `put`."""

    def cancel(self, octets: int, recipients: int) -> None:
        """Give back what was reserved: the message was not stored."""

    def put(self, claim: Claim) -> None:
        """The message is stored and these are its recipients, claimed. Uses up what was reserved."""

    def wake(self) -> None:
        """Something in the spool is due, or may be."""


@attrs.define(eq=False)
class Offer:
    """One message that was offered to the intake and has a place there, until it is stored or not."""

    message: NewMessage
    lease: int
    octets: int

    @property
    def recipients(self) -> int:
        return len(self.message.envelope.recipients)

    def claim(self) -> Claim:
        message = self.message
        stored = StoredMessage(
            message.id,
            message.envelope,
            message.origin,
            message.prefix,
            message.body,
            message.size,
            message.digest,
            message.received,
        )
        recipients = tuple(
            ClaimedRecipient(index, recipient, 1, self.lease)
            for index, recipient in enumerate(message.envelope.recipients)
        )
        return Claim(stored, recipients)


class Handover:
    """Knows the intake, numbers the leases and says how long they last."""

    def __init__(
        self, clock: WallClock, *, lease: float, first: int, on_trouble: Callable[[str, str], None]
    ) -> None:
        self.intake: Intake | None = None
        self.clock = clock
        self._lease = lease
        self._numbers = itertools.count(first)
        self._on_trouble = on_trouble

    def next_lease(self) -> int:
        return next(self._numbers)

    def lease_until(self) -> float:
        return self.clock.time() + self._lease

    def offer(self, message: NewMessage) -> Offer | None:
        """Ask the intake for room; with an offer the message is to be stored under its lease."""
        if self.intake is None or message.hold is not None or message.awaits_release:
            return None
        octets = len(message.prefix) + (0 if message.body is None else len(message.body))
        if not self.intake.reserve(octets, len(message.envelope.recipients)):
            return None
        return Offer(message, self.next_lease(), octets)

    def withdraw(self, offer: Offer) -> None:
        """The message was not stored."""
        if self.intake is not None:
            self._guarded(offer, self.intake.cancel, offer.octets, offer.recipients)

    def complete(self, offer: Offer) -> None:
        """The message is stored: hand it over."""
        if self.intake is None:
            return  # its lease runs out, or the next start releases it
        self._guarded(offer, self.intake.put, offer.claim())

    def wake(self) -> None:
        """Tell the intake that something is due."""
        if self.intake is not None:
            self.intake.wake()

    def _guarded(self, offer: Offer, function: Callable[[*Ts], None], *values: *Ts) -> None:
        try:
            function(*values)
        except Exception as error:
            # What is stored is safe and a lease runs out by itself; the writer must not fall over that.
            self._on_trouble("handover", f"{offer.message.id}: {summarize(error)}")
