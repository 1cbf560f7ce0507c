"""How a session ends from within."""

from __future__ import annotations

from elemta.mail import Reply


class SessionEnds(Exception):
    """The session is over; `reply` is the last word, if there may be one."""

    def __init__(self, cause: str, reply: Reply | None = None, *, detail: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        """As `session.closed` tells it."""
        self.reply = reply
        self.detail = detail
