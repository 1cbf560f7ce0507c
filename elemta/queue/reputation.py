"""Which replies say that a next hop is tired of us rather than of one message.

The table is short on purpose. A reply counts only where its enhanced code, if it has one, is about the
system or about policy (RFC 3463 §3.4, §3.8), and its words are among those below. A mailbox that gets too
much mail (4.2.1) or greylisting (which wants us to come back soon) is nothing of the kind.
"""

from __future__ import annotations

import re

from elemta.mail import Deferred, Failed, Outcome

REPLIES_TO_SUSPEND = 3
"""So many in a row, with no delivery between them, suspend a destination: one may be about one message."""
REPUTATION_SECONDS = 600.0
"""For how long. Providers that count by time do so over minutes; more attempts prolong the penalty."""

PATTERNS = (
    ("rate limited", re.compile(r"\brate[ -]?limit|\btoo many (?:messages|connections|requests)\b", re.I)),
    ("blocked", re.compile(r"\b(?:ip|address|host|client|server|network)\b.{0,80}\bblocked\b", re.I)),
    ("blocked", re.compile(r"\bblocked (?:using|by|due to|because of)\b", re.I)),
    ("on a block list", re.compile(r"\b(?:block|black|deny)[ -]?list|\bspamhaus\b", re.I)),
    ("bad reputation", re.compile(r"\b(?:low|poor|bad) (?:\w+ )?reputation\b", re.I)),
    ("unusual traffic", re.compile(r"\bunusual (?:rate|amount|volume) of\b", re.I)),
)
"""What is shown, and the words it goes by; the first that fits counts."""

_SUBJECTS = (3, 4, 7)
"""RFC 3463 §2: mail system, network and routing, security or policy."""


def complaint(outcome: Outcome) -> str:
    """What the next hop holds against us, in a word or two of ours; empty: nothing."""
    if not isinstance(outcome, Deferred | Failed) or not outcome.from_remote:
        return ""
    reply = outcome.reply
    if reply.enhanced is not None and reply.enhanced.subject not in _SUBJECTS:
        return ""
    for name, pattern in PATTERNS:
        if pattern.search(reply.text[:1000]):
            return name
    return ""
