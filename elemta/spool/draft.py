"""A body being received: in memory first, then in a temporary file."""

from __future__ import annotations

from elemta.mail import MessageId


class Draft:
    """One body on its way in. Used by one task; ended by `Spool.commit` or `discard`."""

    message: MessageId

    @property
    def size(self) -> int:
        """Octets written so far."""
        raise NotImplementedError

    @property
    def head(self) -> bytes:
        """The header block with its empty line, as far as it was written; at most 1 MiB."""
        raise NotImplementedError

    @property
    def body(self) -> bytes | None:
        """The whole body where it is in memory, `None` where it went to a file."""
        raise NotImplementedError

    async def write(self, data: bytes) -> None:
        """Append a piece.

        Raises:
          SpoolFull: the disk is full; the draft can only be discarded.
          SpoolUnavailable: storage failed.
        """
        raise NotImplementedError

    def discard(self) -> None:
        """Forget the draft and its file; does nothing after a commit. May be called at any time, and again."""
        raise NotImplementedError
