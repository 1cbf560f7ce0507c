"""Keeps the index of searches up to date, a block at a time and with pauses: nobody waits for it."""

from __future__ import annotations

import trio

from .clues import Span
from .errors import SpoolError, SpoolUnavailable
from .readers import Reader
from .requests import Operation
from .store import Store
from .writer import Writer

PAUSE = 10.0
"""Seconds between two looks whether there is enough for a block."""
BREATH = 0.1
"""Seconds between two blocks, each of which takes half of that."""


class Indexing:
    """A task of the spool."""

    def __init__(self, writer: Writer, looks: Reader) -> None:
        self._writer = writer
        self._looks = looks
        self._scope = trio.CancelScope()

    async def run(self) -> None:
        """Work until stopped. On a full disk, and where reading takes too long, the next look does it."""
        with self._scope:
            while True:
                await trio.sleep(PAUSE)
                try:
                    while await self.step():  # noqa: ASYNC110 - a pause, not a wait
                        await trio.sleep(BREATH)
                except SpoolUnavailable:
                    return  # the writer tells everybody
                except SpoolError:
                    continue

    async def step(self) -> bool:
        """Make one block, if there is enough for it, or drop what is stale; returns whether to go on.

        Raises:
          SpoolError: it could not be done now.
        """
        span = await self._looks.run(lambda reader: reader.next_span())
        if span is None:
            await self._clean()
            return False
        await self._extend(span)
        return True

    async def _extend(self, span: Span) -> None:
        def move(store: Store) -> None:
            store.move_frontier(span)

        await self._writer.submit(Operation(move, writes=False))
        block = await self._looks.run(lambda reader: reader.make_block(span))
        await self._writer.submit(Operation(lambda store: store.add_block(block)))

    async def _clean(self) -> None:
        blocks = await self._looks.run(lambda reader: reader.stale_blocks())
        if blocks:
            await self._writer.submit(Operation(lambda store: store.drop_blocks(blocks)))

    def stop(self) -> None:
        self._scope.cancel(reason="the spool is shut")
