"""What a dispatcher asks of the queue, and tells it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import attrs
import trio

from elemta.delivery import Parcel
from elemta.mail import Outcome, ReversePath
from elemta.spool import AttemptFacts

from .context import QueueContext
from .gate import Gate
from .results import Results
from .site import Job, Site

PENDING_RECORDS = 5000
"""Results not yet on the disk, from which on deliveries wait for the writer."""


class Crew(Protocol):
    """All sites, as one site's dispatcher sees them."""

    def staff(self, site: Site) -> None:
        """Start the dispatchers that the site wants."""

    def listen(self, site: Site, outcomes: Sequence[Outcome]) -> None:
        """Notice what the next hop says about us; it may suspend the site."""

    def connect_failed(self, site: Site, job: Job | None, outcome: Outcome, facts: AttemptFacts) -> None:
        """No connection could be had: settle the job, and all that waits where the site counts as dead."""


@attrs.frozen(eq=False)
class Desk:
    """The queue, as its dispatchers see it."""

    context: QueueContext
    gate: Gate
    results: Results
    crew: Crew

    def parcel(self, job: Job) -> Parcel:
        """What the transport gets."""
        message = job.message
        recipients = tuple(claimed.recipient for claimed in job.recipients)
        envelope, sender = message.envelope, recipients[0].sender  # that of all of a job
        if sender is not None:
            envelope = attrs.evolve(envelope, reverse_path=ReversePath(sender))
        return Parcel(message.id, envelope, recipients, self.context.spool.content(message))

    async def wait_may_deliver(self) -> None:
        """Hold an attempt back while its result could not be written down."""
        spool = self.context.spool
        if spool.pending_records > PENDING_RECORDS:
            await spool.wait_recorded()
        while spool.deliveries_paused:  # noqa: ASYNC110 - a rare state of a full disk, nobody signals its end
            await trio.sleep(1.0)
