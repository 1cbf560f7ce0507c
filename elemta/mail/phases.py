"""Where the time of one attempt went."""

from __future__ import annotations

import attrs

PHASES = ("dns", "connect", "greeting", "tls", "envelope", "data", "reply")
"""In their order in an attempt."""


@attrs.frozen(slots=True)
class Phases:
    """Seconds of an attempt in each of its phases; 0: it had none."""

    dns: float = 0.0
    """Which hosts, their addresses, and what they must prove."""
    connect: float = 0.0
    """Until a host took a connection; those that did not are in it."""
    greeting: float = 0.0
    """Greeting, hello and login."""
    tls: float = 0.0
    """STARTTLS and its handshake."""
    envelope: float = 0.0
    """MAIL, RCPT and DATA with their replies."""
    data: float = 0.0
    """The content; that of a small message goes with its final dot and is counted as `reply`."""
    reply: float = 0.0
    """From the final dot to the last reply."""

    def named(self) -> dict[str, float]:
        """Those that took time, by name, in order."""
        return {name: seconds for name in PHASES if (seconds := getattr(self, name))}


NO_PHASES = Phases()
