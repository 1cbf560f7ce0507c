"""Protocol errors, split by who is to blame."""

from __future__ import annotations

from elemta.mail import Reply, replies


class ProtocolError(Exception):
    """Something does not fit the protocol; see the two kinds below."""


class LocalProtocolError(ProtocolError):
    """Our own code asked for what the protocol forbids: a bug here. Nothing was sent, no state changed."""


class RemoteProtocolError(ProtocolError):
    """The peer did what cannot be answered in step. The connection is in `State.ERROR` for good.

    `reply_hint` is the last word that a server should send (with `format_reply`) before it closes.
    """

    def __init__(self, message: str, reply_hint: Reply = replies.PROTOCOL_ERROR) -> None:
        super().__init__(message)
        self.reply_hint = reply_hint


class OutOfStep(RemoteProtocolError):
    """A reply that is one, but to nothing that was sent: which command each of those before answered is not
    certain either."""
