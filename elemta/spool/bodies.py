"""Bodies on their way out: checked against their digest before the first octet leaves."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

import attrs
import trio

from elemta.mail import MessageId
from elemta.runtime import ThreadPool, run_in_thread

from .draft import DIGEST_SIZE
from .errors import BodyCorrupt, SpoolError
from .folder import BODIES
from .readers import Reader
from .values import StoredMessage

_PIECE = 256 * 1024
"""Octets read from a file at a time."""


class BodyReader(Protocol):
    """Reads one body from front to end."""

    async def read(self) -> bytes:
        """The next piece, or `b""` at the end."""


class Bodies:
    """Finds and checks the body of a message, wherever it is."""

    def __init__(
        self,
        directory: Path | None,
        reader: Reader,
        pool: ThreadPool,
        *,
        on_corrupt: Callable[[MessageId, str], None],
    ) -> None:
        self._directory = directory
        self._reader = reader
        self._pool = pool
        self._on_corrupt = on_corrupt

    @asynccontextmanager
    async def open(self, message: StoredMessage) -> AsyncGenerator[BodyReader, None]:
        """A reader of the body.

        Raises:
          BodyCorrupt: it is missing, cannot be read, or does not match its digest or size.
        """
        if message.body is not None:
            yield _MemoryBody(message.body)
            return
        try:
            body = await self._find(message)
        except BodyCorrupt as problem:
            self._on_corrupt(message.id, str(problem))
            raise
        try:
            yield body
        finally:
            body.close()

    async def _find(self, message: StoredMessage) -> _MemoryBody | _FileBody:
        try:
            # Hashed where it is read: 256 KiB take 0.3 ms, which the event loop need not spend.
            body = await self._reader.run(lambda reader: _checked(message, reader.body(message.id)))
        except BodyCorrupt:
            raise
        except SpoolError as cause:
            raise BodyCorrupt(str(cause)) from cause
        if body is not None:
            return _MemoryBody(body)
        if self._directory is None:
            raise BodyCorrupt("the body is missing")
        descriptor = await run_in_thread(self._pool, _open_checked, message, self._directory / BODIES)
        return _FileBody(descriptor, self._pool)


@attrs.define(eq=False)
class _MemoryBody:
    _body: bytes

    async def read(self) -> bytes:
        await trio.lowlevel.checkpoint()
        body, self._body = self._body, b""
        return body

    def close(self) -> None:
        pass


@attrs.define(eq=False)
class _FileBody:
    _descriptor: int
    _pool: ThreadPool

    async def read(self) -> bytes:
        return await run_in_thread(self._pool, _read, self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


def _checked(message: StoredMessage, body: bytes | None) -> bytes | None:
    if body is None:
        return None
    digest = hashlib.blake2b(body, digest_size=DIGEST_SIZE)
    _compare(message, len(body), digest)
    return body


def _open_checked(message: StoredMessage, folder: Path) -> int:
    try:
        descriptor = os.open(folder / message.id, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as cause:
        raise BodyCorrupt(f"the body file cannot be opened: {cause.strerror}") from cause
    try:
        digest = hashlib.blake2b(digest_size=DIGEST_SIZE)
        size = 0
        while piece := _read(descriptor):
            size += len(piece)
            digest.update(piece)
        _compare(message, size, digest)
        os.lseek(descriptor, 0, os.SEEK_SET)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _PIECE)
    except OSError as cause:
        raise BodyCorrupt(f"the body file cannot be read: {cause.strerror}") from cause


def _compare(message: StoredMessage, size: int, digest: hashlib.blake2b) -> None:
    if size + len(message.prefix) != message.size:
        raise BodyCorrupt(f"the body has {size} octets, {message.size - len(message.prefix)} were stored")
    digest.update(message.prefix)
    if digest.digest() != message.digest:
        raise BodyCorrupt("the body does not match its digest")


@attrs.frozen
class StoredContent:
    """A message as transports take it (`elemta.delivery.Content`)."""

    message: StoredMessage
    bodies: Bodies

    @property
    def prefix(self) -> bytes:
        return self.message.prefix

    @property
    def body(self) -> bytes | None:
        return self.message.body

    @property
    def size(self) -> int:
        return self.message.size

    def open(self) -> AbstractAsyncContextManager[BodyReader]:
        return self.bodies.open(self.message)
