"""Keeps the header of a message that comes in pieces back until it is whole."""

from __future__ import annotations


class HeaderFirst:
    """Gives nothing until the empty line or more than `limit` octets have come; then all, as it comes."""

    __slots__ = ("_kept", "_limit", "_searched")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: bytearray | None = bytearray()
        """None: the header has been given."""
        self._searched = 0

    @property
    def waits(self) -> bool:
        """Whether the header has not been given yet; what comes next begins with it."""
        return self._kept is not None

    def feed(self, data: bytes) -> bytes:
        """What follows from the next piece, empty while the header is not whole."""
        kept = self._kept
        if kept is None:
            return data
        kept += data
        # The empty line may stand at the very begin, where there is no header
        whole = kept.startswith(b"\r\n") or kept.find(b"\r\n\r\n", self._searched) >= 0
        if not whole and len(kept) <= self._limit:
            self._searched = max(0, len(kept) - 3)
            return b""
        return self.end()

    def end(self) -> bytes:
        """What was kept back; the message is complete, or its header is."""
        kept, self._kept = self._kept, None
        return bytes(kept) if kept else b""
