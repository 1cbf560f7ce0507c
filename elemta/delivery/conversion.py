"""The content of a message as 7-bit lines, for a next hop that takes no others (RFC 6152 §3)."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import attrs

from elemta.mail import CannotConvert, SevenBitEncoder

from .transport import Content, ContentReader


@attrs.frozen
class SevenBitContent:
    """What another content looks like converted; its size is known only where it is in memory."""

    original: Content
    body: bytes | None
    prefix: bytes = b""

    @property
    def size(self) -> int:
        return self.original.size if self.body is None else len(self.body)

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[ContentReader, None]:
        """Convert while reading.

        Raises:
          CannotConvert: while reading, of a content that was not given by `convert`.
        """
        async with self.original.open() as reader:
            yield _Converting(self.original.prefix, reader)


class _Converting:
    def __init__(self, prefix: bytes, reader: ContentReader) -> None:
        self._encoder = SevenBitEncoder()
        self._next = prefix
        self._reader = reader
        self._ended = False

    async def read(self) -> bytes:
        converted = self._encoder.feed(self._next) if self._next else b""
        self._next = b""
        while not converted and not self._ended:
            piece = await self._reader.read()
            self._ended = not piece
            converted = self._encoder.feed(piece) if piece else self._encoder.end()
        return converted


async def convert(content: Content) -> SevenBitContent | None:
    """The content converted, or None where it cannot be. One in memory stays there; a larger one is read
    through once, to know before a word of it is sent.

    Raises:
      Exception: of the spool, where the body cannot be read.
    """
    try:
        if content.body is not None:
            encoder = SevenBitEncoder()
            return SevenBitContent(content, encoder.feed(content.prefix + content.body) + encoder.end())
        converted = SevenBitContent(content, None)
        async with converted.open() as reader:
            while await reader.read():
                pass
    except CannotConvert:
        return None
    return converted
