"""Drops what is known of messages that are gone, when its time is over."""

from __future__ import annotations

import attrs
import trio

from elemta.spool import SpoolFull

from .context import QueueContext

PAUSE = 60.0
"""Seconds between two looks. Each drops in small steps, so that mail flows on."""


@attrs.frozen(eq=False)
class Retention:
    """Goes by `queue.retention`, also after a reload."""

    context: QueueContext

    def apply(self) -> None:
        """Keep what becomes of messages from now on, or do not. Sync, cannot fail."""
        self.context.spool.keep_ended(self.context.config.queue.retention > 0)

    async def run(self) -> None:
        """Drop until cancelled."""
        while True:
            await self.clean()
            await trio.sleep(PAUSE)

    async def clean(self) -> None:
        """Drop what is too old, or too much. On a full disk the next look does it."""
        settings = self.context.config.queue
        most = settings.retention_messages if settings.retention else 0
        try:
            await self.context.spool.forget(self.context.clock.time() - settings.retention, most)
        except SpoolFull:
            return
