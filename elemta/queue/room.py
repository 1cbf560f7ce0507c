"""How much mail is in memory, and whether there is room for more."""

from __future__ import annotations

import attrs

from elemta.config import QueueConfig
from elemta.runtime import Drain
from elemta.spool import StoredMessage

from .bell import Bell
from .site import Active, Job

SMALLEST_SHARE = 16
"""Jobs of one destination that may be ready however little room there is, so that each gets on."""


@attrs.define(eq=False)
class Room:
    """Counts what this process has claimed, within `queue.active_messages` and `queue.active_bytes`.

    All is synchronous. New mail reserves its place before it is stored; the backlog takes its place when
    it is claimed.
    """

    config: QueueConfig
    drain: Drain
    bell: Bell
    active: set[Active] = attrs.field(factory=set)
    """Claims that have jobs to do."""
    messages: int = 0
    """In memory or about to be: reserved, waiting, under way."""
    fresh: int = 0
    """The part of `messages` that came straight from its acceptance."""
    octets: int = 0
    suspects: int = 0
    """Messages under way that may be what crashes the server."""

    def reserve(self, octets: int, recipients: int) -> bool:
        """Whether a message about to be stored may come here at once, with its body in memory."""
        most = self.config.active_messages
        if (
            self.drain.draining
            or self.octets + octets > self.config.active_bytes
            or self.messages >= most
            # Half of the room is for what waits in the spool, so that new mail cannot starve old mail.
            or self.fresh >= (most + 1) // 2
            or recipients > most
        ):
            return False
        self.messages += 1
        self.fresh += 1
        self.octets += octets
        return True

    def cancel(self, octets: int) -> None:
        """The reserved message was not stored after all."""
        self.messages -= 1
        self.fresh -= 1
        self.octets -= octets

    def for_backlog(self) -> int:
        """How many messages may be claimed from the backlog now."""
        most = self.config.active_messages
        backlog = self.messages - self.fresh
        return min(most - self.messages, (most + 1) // 2 - backlog)

    def share(self, *, fresh: bool) -> int:
        """How much may be ready for one destination before more of it waits in the spool: half of the room
        that is left. So one that is slow leaves room for the next, however many there are, and one
        alone may have a third of it all."""
        most = self.config.active_messages
        free = (most + 1) // 2 - self.fresh if fresh else self.for_backlog()
        return max(SMALLEST_SHARE, free // 2)

    def claimed(self, octets: int) -> None:
        """A message of the backlog was claimed."""
        self.messages += 1
        self.octets += octets

    def enter(self, active: Active) -> None:
        """Its jobs are about to be made."""
        self.active.add(active)
        self.suspects += active.suspect

    def forget(self, active: Active) -> None:
        """Nothing of the message is in work any more."""
        self.active.discard(active)
        self.suspects -= active.suspect
        self.messages -= 1
        self.octets -= active.octets
        if active.fresh:
            self.fresh -= 1
        if not self.messages % 64:
            self.bell.ring()

    def job_done(self, job: Job) -> None:
        """The job was recorded or given back."""
        job.active.jobs -= 1
        if not job.active.jobs:
            self.forget(job.active)


def octets_in_memory(message: StoredMessage) -> int:
    """What counts against `queue.active_bytes`: the message, unless its body lies in the spool."""
    return 0 if message.body is None else len(message.body) + len(message.prefix)
