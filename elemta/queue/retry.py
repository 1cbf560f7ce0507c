"""When to try again, when to say that it is late, when to give up. Pure arithmetic on wall-clock seconds."""

from __future__ import annotations

import math
from random import Random

import attrs

from elemta.config import QueueConfig
from elemta.mail import DeliverBy, DeliverByMode


@attrs.frozen
class TryAgain:
    """Wait until `due`; with `delay_notice` tell the sender now that it is late."""

    due: float
    delay_notice: bool = False


@attrs.frozen
class GiveUp:
    """The time is over."""

    deadline: bool = False
    """The sender's own (RFC 2852), rather than the lifetime."""


@attrs.frozen
class RetrySchedule:
    """The schedule of a configuration (RFC 5321 §4.5.4.1)."""

    config: QueueConfig

    def lifetime(self, *, null_sender: bool) -> float:
        """Seconds from acceptance to giving up."""
        return self.config.bounce_lifetime if null_sender else self.config.lifetime

    def end(self, received: float, *, null_sender: bool, deliver_by: DeliverBy | None = None) -> float:
        """When it is given up."""
        end = received + self.lifetime(null_sender=null_sender)
        if deliver_by is not None and deliver_by.mode is DeliverByMode.RETURN:  # RFC 2852 §4
            return min(end, deliver_by.deadline)
        return end

    def late(self, received: float, *, null_sender: bool, deliver_by: DeliverBy | None = None) -> float:
        """From when on the sender is told that it is late; infinite: never.

        One who named a time to be told at (RFC 2852, mode N) is told then instead of by our own rule,
        unless it was over when the message came: then the server before us has told him.
        """
        if null_sender:
            return math.inf
        if deliver_by is not None and deliver_by.mode is DeliverByMode.NOTIFY:
            return deliver_by.deadline if deliver_by.deadline > received else math.inf
        return received + self.config.delay_notice if self.config.delay_notice else math.inf

    def after(
        self,
        attempts: int,
        *,
        received: float,
        now: float,
        null_sender: bool,
        delay_noticed: bool,
        random: Random,
        not_before: float = 0.0,
        deliver_by: DeliverBy | None = None,
    ) -> TryAgain | GiveUp:
        """What follows when attempt number `attempts` (from 1) was deferred.

        The last attempt falls on the end of the lifetime rather than after it, so that a message
        is given up at most one wait late; in the same way a deadline of the sender is met. A wall
        clock that was set back makes no message younger than zero and no wait longer than the
        schedule's longest.
        """
        end = self.end(received, null_sender=null_sender, deliver_by=deliver_by)
        if now >= end:
            lifetime = self.end(received, null_sender=null_sender)
            return GiveUp(deadline=end < lifetime)
        waits = self.config.retry
        wait = waits[min(attempts, len(waits)) - 1]
        jitter = self.config.retry_jitter
        wait *= 1.0 + random.uniform(-jitter, jitter)
        due = min(max(now + wait, not_before), end)
        if delay_noticed:
            return TryAgain(due)
        late = self.late(received, null_sender=null_sender, deliver_by=deliver_by)
        if deliver_by is not None and deliver_by.mode is DeliverByMode.NOTIFY and now < late < due:
            due = late
        return TryAgain(due, delay_notice=now >= late)

    @property
    def longest_wait(self) -> float:
        """No recipient waits longer for its next attempt than this."""
        return max(self.config.retry) * (1.0 + self.config.retry_jitter)
