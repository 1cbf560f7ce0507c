"""Work on files that nobody waits for: bodies of messages that are gone, and the ballast."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

import trio

from elemta.mail import MessageId
from elemta.runtime import ThreadPool, run_in_thread

from .errors import SpoolFull, SpoolUnavailable
from .folder import BODIES
from .space import Space
from .values import Aftermath

_BALLAST_PAUSE = 10.0
"""Seconds between looks whether there is room for the ballast again."""


class Janitor:
    """Unlinks body files and makes the ballast anew. What it does not get to, the next start does."""

    def __init__(self, directory: Path, space: Space, pool: ThreadPool) -> None:
        self._bodies = directory / BODIES
        self._space = space
        self._pool = pool
        self._gone: list[MessageId] = []
        self._ballast_missing = False
        self._called = trio.Event()
        self._scope = trio.CancelScope()

    def clean(self, aftermath: Aftermath) -> None:
        """Unlink the bodies of messages that are gone, soon."""
        self._gone.extend(aftermath.body_files)
        self._called.set()

    def give_up_ballast(self) -> bool:
        """Delete the ballast now, and make it anew when there is room; returns whether there was any."""
        self._ballast_missing = True
        self._called.set()
        return self._space.give_up()

    def is_room_short(self) -> bool:
        """Whether new mail is refused for want of room. Sync and cheap."""
        try:
            self._space.check()
        except SpoolFull:
            return True
        except SpoolUnavailable:
            pass  # whoever writes next will meet it
        return False

    async def run(self) -> None:
        """Work until stopped."""
        with self._scope:
            await self._make_ballast()
            while True:
                with trio.move_on_after(_BALLAST_PAUSE if self._ballast_missing else float("inf")):
                    await self._called.wait()
                self._called = trio.Event()
                gone, self._gone = self._gone, []
                if gone:
                    await run_in_thread(self._pool, self._unlink, gone)
                if self._ballast_missing:
                    await self._make_ballast()

    async def _make_ballast(self) -> None:
        self._ballast_missing = False
        made = await run_in_thread(self._pool, self._space.make_ballast)
        # Given up while the thread made it, it is missing whatever the thread says.
        self._ballast_missing = self._ballast_missing or not made

    def stop(self) -> None:
        self._scope.cancel(reason="the spool is shut")

    def finish(self) -> None:
        """Unlink what is left, at once. Sync."""
        self._unlink(self._gone)
        self._gone = []

    def _unlink(self, messages: Iterable[MessageId]) -> None:
        for message in messages:
            with contextlib.suppress(OSError):
                (self._bodies / message).unlink()
