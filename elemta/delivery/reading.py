"""Read the content of a parcel without losing a result to a cancel at its end."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

from .transport import Content, ContentReader

CLOSING = 5.0
"""Seconds for closing what was read. It is a file of ours; this bounds a bug, not a wait."""


@asynccontextmanager
async def open_content(content: Content) -> AsyncGenerator[ContentReader, None]:
    """Open the content; closing it is shielded.

    Otherwise a cancel that waits would be raised by the closing, and what is known by then about a
    message whose final dot was answered would be lost with it: a duplicate for a person (TRIO 3.6).
    """
    manager = content.open()
    reader = await manager.__aenter__()
    try:
        yield reader
    finally:
        with trio.move_on_after(CLOSING, shield=True):
            # Its errors are those of the reading, which went through the block already.
            await manager.__aexit__(None, None, None)
