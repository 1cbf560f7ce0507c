"""Keeps what was said in an attempt that failed, for those who look why."""

from __future__ import annotations

from collections.abc import Sequence

from elemta.events import Entry
from elemta.mail import Delivered, Outcome

from .context import QueueContext
from .site import Job, Site


def keep_flight(
    context: QueueContext,
    site: Site,
    job: Job,
    attempt: str,
    outcomes: Sequence[Outcome],
    story: tuple[Entry, ...],
) -> None:
    """Keep the story of the attempt, unless it delivered the message to everybody. Sync, never raises."""
    failed = [outcome for outcome in outcomes if not isinstance(outcome, Delivered)]
    if context.flights is None or not failed:
        return
    worst = failed[0]
    detail = worst.detail
    context.flights.keep(
        "attempt",
        story,
        time=context.clock.time(),
        about=attempt,
        peer=worst.remote or str(site.route),
        message=job.message.id,
        cause=f"{worst.reply} ({detail})" if detail and detail not in str(worst.reply) else str(worst.reply),
    )
