"""The attempts that are under way: how each stands, and how an operator ends one."""

from __future__ import annotations

import enum
from collections.abc import Collection
from typing import TYPE_CHECKING

import attrs
import trio

from elemta.runtime import TaskNote

if TYPE_CHECKING:
    from .dispatcher import Dispatcher


@attrs.frozen
class AttemptView:
    """An attempt at one moment. Times are seconds."""

    id: str
    message: str
    recipients: tuple[str, ...]
    sender: str
    route: str
    remote: str
    """Empty while there is no connection."""
    phase: str
    """`connect`, `mail`, `rcpt`, `body`, `final-dot` …"""
    seconds: float
    """Since it began."""
    seconds_left: float
    """Until its next deadline."""
    dot_sent: bool
    """Whether the message may have been taken by now: the final dot was sent, the reply has not come."""


class Cancelled(enum.Enum):
    """What came of the wish to end an attempt."""

    ENDED = enum.auto()
    """It ends now: its recipients are deferred, and are tried again as after any other attempt."""
    NOT_THERE = enum.auto()
    AFTER_DOT = enum.auto()
    """Nothing was done: the next hop may have the message already, and ending now could double it."""


@attrs.frozen
class Underway:
    """Looks at the dispatchers. All is synchronous."""

    dispatchers: Collection[Dispatcher]

    def views(self) -> list[AttemptView]:
        """Each attempt, the oldest first."""
        busy = sorted(
            (each for each in self.dispatchers if each.job is not None), key=lambda each: each.begun
        )
        return [_view(each) for each in busy]

    def cancel(self, id: str, *, even_after_dot: bool = False) -> Cancelled:
        """End one attempt, at any moment.

        Before the final dot nothing was delivered. After it the attempt is left alone, unless
        `even_after_dot` says otherwise: then it is recorded as `unknown-after-dot`, so that a second copy
        at the recipient can be explained. A result that is known already stays the result.
        """
        for each in self.dispatchers:
            if each.job is None or each.id != id:
                continue
            if each.dot_sent and not even_after_dot:
                return Cancelled.AFTER_DOT
            each.end_by_operator()
            return Cancelled.ENDED
        return Cancelled.NOT_THERE


def note_of(dispatcher: Dispatcher) -> TaskNote:
    """How a dispatcher stands, for the tree of tasks."""
    left = max(0.0, dispatcher.deadline - trio.current_time())
    if dispatcher.job is None:
        text = f"connection to {dispatcher.site.route}"
        return TaskNote("connection", "", text, dispatcher.phase, 0.0, left)
    view = _view(dispatcher)
    text = f"{view.message} for {_some(view.recipients)}" + (f" to {view.remote}" if view.remote else "")
    return TaskNote("attempt", view.id, text, view.phase, view.seconds, view.seconds_left)


def _view(dispatcher: Dispatcher) -> AttemptView:
    job = dispatcher.job
    assert job is not None
    now = trio.current_time()
    mailbox = job.sender.mailbox
    return AttemptView(
        id=dispatcher.id,
        message=job.message.id,
        recipients=tuple(str(claimed.recipient.mailbox) for claimed in job.recipients),
        sender="<>" if mailbox is None else str(mailbox),
        route=str(dispatcher.site.route),
        remote="" if dispatcher.connection is None else dispatcher.connection.peer,
        phase=dispatcher.phase,
        seconds=max(0.0, now - dispatcher.begun),
        seconds_left=max(0.0, dispatcher.deadline - now),
        dot_sent=dispatcher.dot_sent,
    )


def _some(recipients: tuple[str, ...]) -> str:
    more = len(recipients) - 1
    return recipients[0] + (f" and {more} more" if more else "")
