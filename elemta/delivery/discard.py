"""Accept and forget, counted."""

from __future__ import annotations

from elemta.mail import Delivered, Outcome, Reply

from .transport import Connection, Parcel, Transport

DISCARDED = Reply.of(250, "2.0.0", "discarded")


class DiscardTransport(Transport):
    """Takes everything and keeps nothing."""

    def __init__(self) -> None:
        self.discarded = 0
        """Recipients that were taken."""

    async def connect(self) -> DiscardConnection:
        return DiscardConnection(self)


class DiscardConnection(Connection):
    """Always usable; delivers without a checkpoint, so that a cancel finds nothing half done."""

    def __init__(self, transport: DiscardTransport) -> None:
        self._transport = transport

    @property
    def usable(self) -> bool:
        return True

    @property
    def phase(self) -> str:
        return "idle"

    @property
    def dot_sent(self) -> bool:
        return False

    async def deliver(self, parcel: Parcel) -> list[Outcome]:
        self._transport.discarded += len(parcel.recipients)
        return [Delivered(DISCARDED, remote="discard")] * len(parcel.recipients)

    async def aclose(self) -> None:
        """Nothing to end."""
