"""When to try again, when to say that it is late, when to give up. Pure arithmetic on wall-clock seconds."""

from __future__ import annotations

from random import Random

import attrs

from elemta.config import QueueConfig


@attrs.frozen
class TryAgain:
    """Wait until `due`; with `delay_notice` tell the sender now that it is late."""

    due: float
    delay_notice: bool = False


@attrs.frozen
class GiveUp:
    """The lifetime is over."""


@attrs.frozen
class RetrySchedule:
    """The schedule of a configuration (RFC 5321 §4.5.4.1)."""

    config: QueueConfig

    def lifetime(self, *, null_sender: bool) -> float:
        """Seconds from acceptance to giving up."""
        return self.config.bounce_lifetime if null_sender else self.config.lifetime

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
    ) -> TryAgain | GiveUp:
        """What follows when attempt number `attempts` (from 1) was deferred.

        The last attempt falls on the end of the lifetime rather than after it, so that a message
        is given up at most one wait late. A wall clock that was set back makes no message younger
        than zero and no wait longer than the schedule's longest.
        """
        end = received + self.lifetime(null_sender=null_sender)
        if now >= end:
            return GiveUp()
        waits = self.config.retry
        wait = waits[min(attempts, len(waits)) - 1]
        jitter = self.config.retry_jitter
        wait *= 1.0 + random.uniform(-jitter, jitter)
        due = max(now + wait, not_before)
        if due > end > now:
            due = end
        late = self.config.delay_notice
        notice = bool(late) and not null_sender and not delay_noticed and now - received >= late
        return TryAgain(due, notice)
