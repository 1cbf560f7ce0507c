"""What is remembered of hosts for a while: who did not want us just now, who takes few recipients at once.

It is kept in memory, and a wrong memory costs little: a host that is remembered is tried later, not never.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import attrs
import trio

T = TypeVar("T")

TIRED_SECONDS = 120.0
"""So long a host that was not to be had, or said 421, comes behind the others of its domain."""
FEW_SECONDS = 3600.0
"""So long it is believed that a host takes no more recipients in a transaction than it took."""
MOST_HOSTS = 10_000


@attrs.define(eq=False)
class HostMemory:
    """Synchronous. By host names, which several domains may share."""

    _tired: dict[str, float] = attrs.field(factory=dict, init=False)
    """Until when (Trio time), the oldest first."""
    _few: dict[str, tuple[float, int]] = attrs.field(factory=dict, init=False)

    def order(self, hosts: Sequence[str]) -> Sequence[str]:
        """The hosts with the tired ones behind; else as they come. RFC 5321 §5.1 has all of them tried in any
        case; this saves waiting for one that has just been found dead."""
        if not self._tired:
            return hosts
        now = trio.current_time()
        return sorted(hosts, key=lambda host: self._tired.get(host, -math.inf) > now)

    def tire(self, host: str) -> None:
        """It could not be had, or has closed the session (421)."""
        _put(self._tired, host, trio.current_time() + TIRED_SECONDS)

    def welcomed(self, host: str) -> None:
        """It has opened a session."""
        self._tired.pop(host, None)

    def took_few(self, host: str, recipients: int) -> None:
        """It took so many recipients in a transaction and said 452 to the others (RFC 5321 §4.5.3.1.10)."""
        _put(self._few, host, (trio.current_time() + FEW_SECONDS, recipients))

    def most_recipients(self, host: str) -> float:
        """How many it takes in a transaction, as far as it is known."""
        until, recipients = self._few.get(host, (-math.inf, 0))
        return recipients if trio.current_time() < until else math.inf


def _put(memory: dict[str, T], host: str, value: T) -> None:
    memory.pop(host, None)
    if len(memory) >= MOST_HOSTS:
        del memory[next(iter(memory))]
    memory[host] = value
