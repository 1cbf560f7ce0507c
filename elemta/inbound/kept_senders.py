"""Senders that are too long for a rewritten address, in the memo under the key that stands in it.

See `routing.srs`. The memo is written once a second: what a crash or a flood takes from it are ways back for
bounces.
"""

from __future__ import annotations

import attrs

from elemta.mail import Mailbox, MailSyntaxError, parse_mailbox
from elemta.runtime import Memo


@attrs.frozen
class KeptSenders:
    """Remembers them."""

    memo: Memo

    def keep(self, key: str, sender: Mailbox, until: float) -> None:
        """Remember the sender until then (wall clock)."""
        self.memo.put(f"srs/{key}", str(sender).encode(), until)

    async def find(self, key: str) -> Mailbox | None:
        """The sender of a key; None where it is forgotten."""
        stored = await self.memo.get(f"srs/{key}")
        if stored is None:
            return None
        try:
            return parse_mailbox(stored.decode(), utf8=True)
        except (UnicodeDecodeError, MailSyntaxError):
            return None
