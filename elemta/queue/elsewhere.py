"""What of a job is worth another go within the same attempt: at another host, or in another transaction.

RFC 5321 §5.1 has the hosts of a domain tried in order until one takes the message. A host that fails
before the session is open gives way in `elemta.delivery`; here is what follows where it fails later. What
it refused for good stays refused, and where the final dot was sent and nobody knows what became of it,
another host might take the message a second time.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from elemta.delivery import Connection
from elemta.mail import Cause, Deferred, Delivered, EnhancedCode, Outcome

from .site import Job

_ENDED_EARLY = frozenset({Cause.TIMEOUT, Cause.CONNECTION_LOST, Cause.PROTOCOL})
"""What a session may end with before the final dot."""
_TOO_MANY_RECIPIENTS = (None, EnhancedCode(5, 3))


@attrs.frozen
class Rest:
    """How a job is parted once its outcomes are known."""

    settled: tuple[int, ...]
    """Places of the recipients whose outcomes are to be written down now."""
    jobs: tuple[Job, ...] = ()
    """What is to be tried again at once."""


def part(job: Job, outcomes: Sequence[Outcome], connection: Connection | None, sessions: int) -> Rest:
    """What is done, and what goes on within this attempt, at most `sessions` in all.

    Failures wait for what goes on, so that one notice tells of all of them; what was delivered does not.
    """
    delivered = [place for place, outcome in enumerate(outcomes) if isinstance(outcome, Delivered)]
    # RFC 5321 §4.5.3.1.10: they belong into the next transaction; it has an end, as some are always delivered
    crowded = [place for place, each in enumerate(outcomes) if _is_one_too_many(each)] if delivered else []
    others = [place for place in range(len(outcomes)) if place not in delivered and place not in crowded]
    goes_on = (
        connection is not None
        and connection.has_others
        and job.sessions + 1 < sessions
        and any(may_go_elsewhere(outcomes[place]) for place in others)
    )
    if not crowded and not goes_on:
        return Rest(tuple(range(len(outcomes))))
    jobs = []
    if crowded:
        jobs.append(choose(job, crowded))
    if goes_on:
        assert connection is not None
        again = choose(job, others)
        again.earlier = tuple(outcomes[place] for place in others)
        again.tried, again.sessions = connection.tried, job.sessions + 1
        jobs.append(again)
    return Rest(tuple(delivered if goes_on else sorted(delivered + others)), tuple(jobs))


def may_go_elsewhere(outcome: Outcome) -> bool:
    """Whether another host of the route may take what this one did not."""
    if not isinstance(outcome, Deferred):
        return False
    return outcome.cause in _ENDED_EARLY or (outcome.cause is Cause.REMOTE_REPLY and outcome.from_remote)


def choose(job: Job, places: Sequence[int]) -> Job:
    """A job for some of its recipients."""
    return Job(job.active, tuple(job.recipients[place] for place in places), job.deadline)


def _is_one_too_many(outcome: Outcome) -> bool:
    return (
        isinstance(outcome, Deferred)
        and outcome.from_remote
        and outcome.reply.code == 452
        and outcome.reply.enhanced in _TOO_MANY_RECIPIENTS
    )
