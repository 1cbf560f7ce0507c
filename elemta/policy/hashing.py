"""Hash the body of a message while the session receives it: what the header asks for, once it is there."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import attrs

from elemta.runtime import ThreadPool, run_in_thread

from .canonical import BodyHasher, BodyHashes, BodyNeed
from .head import MessageHead

HEADER_LIMIT = 1024 * 1024
"""Octets of a header that are kept; of what is larger nothing is hashed."""
_QUICK = 128 * 1024
"""Octets that are hashed in the loop, which takes up to 3 ms; more goes to a thread."""


@attrs.frozen(eq=False)
class Hashed:
    """A message that was received: its header as signatures see it, and the hashes of its body."""

    head: MessageHead
    hashes: BodyHashes


class MessageHasher:
    """Takes a message in pieces, as a session writes them to its draft, and keeps none of its body.

    Use it so: make one when the body begins, `await write()` what is written to the draft, and call
    `finish()` at the end; hand its parts to `check_dkim`, `check_arc`, `DkimSigner.sign`, `ArcSealer.seal`.

    Args:
      plan: which hashes are wanted, asked once when the header is whole: what `dkim_needs`, `arc_needs`,
        `DkimSigner.needs` and `ArcSealer.needs` say.
      pool: threads for large pieces.
    """

    def __init__(self, plan: Callable[[MessageHead], Iterable[BodyNeed]], pool: ThreadPool) -> None:
        self._plan = plan
        self._pool = pool
        self._header = bytearray()
        self._head: MessageHead | None = None
        self._hasher: BodyHasher | None = None

    async def write(self, data: bytes) -> None:
        """The next octets. Cancelled, they were taken wholly or not at all; gives way only for large ones."""
        if len(data) > _QUICK:
            await run_in_thread(self._pool, self.feed, data)
        else:
            self.feed(data)

    def feed(self, data: bytes) -> None:
        """The same without giving way."""
        if self._hasher is not None:
            self._hasher.feed(data)
        elif self._head is None:
            searched = max(0, len(self._header) - 3)
            self._header += data
            if self._header.startswith(b"\r\n"):  # an empty header
                self._begin(2)
                return
            end = self._header.find(b"\r\n\r\n", searched)
            if end >= 0:
                self._begin(end + 4)
            elif len(self._header) > HEADER_LIMIT:
                self._head = MessageHead(bytes(self._header))
                self._header.clear()

    def finish(self) -> Hashed:
        """Call it once, at the end of the message."""
        if self._head is None:
            self._begin(len(self._header))  # RFC 5322 §2.1: without an empty line there is no body
        assert self._head is not None
        hashes = BodyHashes({}, {}) if self._hasher is None else self._hasher.finish()
        return Hashed(self._head, hashes)

    def _begin(self, end: int) -> None:
        """The header is whole: from here on the body is hashed."""
        self._head = MessageHead(bytes(self._header[:end]))
        self._hasher = BodyHasher(self._plan(self._head))
        self._hasher.feed(bytes(self._header[end:]))
        self._header.clear()
