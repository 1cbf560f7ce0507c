"""Returns mail to its senders from a spool that no server runs on."""

from __future__ import annotations

from random import Random

from elemta.config import Config
from elemta.mail import MessageId, make_id, split_header
from elemta.mail.ids import RANDOM_BITS
from elemta.spool import (
    BODIES,
    AttemptRecord,
    Claim,
    NewMessage,
    QueueFilter,
    RecipientResult,
    Store,
)

from .bounce import plan_notice, wants_whole_message
from .notices import MEMORY_OF_NOTICE
from .operations import BOUNCED
from .retry import RetrySchedule
from .verdict import Judge, Terms

_LEASE = 1
"""Nobody else claims anything here, and it ends in the same transaction."""


def bounce_offline(store: Store, which: QueueFilter, config: Config, *, now: float, random: Random) -> int:
    """As `Operations.bounce`, inside a transaction of the caller's; returns how many recipients."""
    judge = Judge(config.queue, RetrySchedule(config.queue), random)
    count = 0
    for claim in store.seize(which, _LEASE, now):
        verdicts = [
            judge.judge(claim.message.envelope, Terms(claim.message.received), claimed, BOUNCED, now=now)
            for claimed in claim.recipients
        ]
        told = [verdict for verdict in verdicts if verdict.notice is not None]
        notices: tuple[NewMessage, ...] = ()
        if told:
            content, complete = _original(store, claim)
            notice = plan_notice(
                claim.message,
                told,
                original=content,
                complete=complete,
                hostname=config.hostname,
                notice=MessageId(make_id(int(now * 1000), random.getrandbits(RANDOM_BITS))),
                now=now,
                sign=_unsigned,
            )
            notices = (notice,)
        results = tuple(
            RecipientResult(verdict.claimed.index, _LEASE, verdict.outcome, verdict.state)
            for verdict in verdicts
        )
        store.record(AttemptRecord(claim.message.id, results, notices), now)
        count += len(results)
    return count


def _unsigned(content: bytes) -> bytes:
    """No keys are loaded without a server, so these notices go as they are."""
    return b""


def _original(store: Store, claim: Claim) -> tuple[bytes, bool]:
    """What a notice may return of the message: its header block, or all of it; and whether it is all."""
    message = claim.message
    body = store.body(message.id)
    if body is None and store.directory is not None:
        try:
            with (store.directory / BODIES / message.id).open("rb") as file:
                body = file.read(MEMORY_OF_NOTICE)
        except OSError:
            body = b""  # it is damaged; the notice goes without
    content = message.prefix + (body or b"")
    if wants_whole_message(message) and len(content) == message.size <= MEMORY_OF_NOTICE:
        return content, True
    return content[: split_header(content)][:MEMORY_OF_NOTICE], False
