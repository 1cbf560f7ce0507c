"""What is told of clients that are turned away, so that a flood of them is no flood of events."""

from __future__ import annotations

import errno
import math

import trio

from elemta.events import SessionRefused
from elemta.mail import Reply

from .context import Services

_BURST = 50
"""Refusals of one listener that are told one by one."""
_PER_SECOND = 5.0
"""And so many more in each second; the others are counted."""
_CAPACITY_REPORTS = 60.0
"""Seconds between two reports that the system is out of something."""


class RefusalReporter:
    """Tells of the clients of one listener that were turned away."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._tokens = float(_BURST)
        self._filled = trio.current_time()
        self._untold = 0

    def report(self, listener: str, peer: str, reply: Reply) -> None:
        now = trio.current_time()
        self._tokens = min(_BURST, self._tokens + (now - self._filled) * _PER_SECOND)
        self._filled = now
        if self._tokens < 1:
            self._untold += 1
            return
        self._tokens -= 1
        self._services.bus.publish(
            SessionRefused(
                time=self._services.clock.time(),
                listener=listener,
                peer=peer,
                reason=str(reply),
                more=self._untold,
            )
        )
        self._untold = 0


class CapacityReporter:
    """Tells that the system is out of descriptors or memory: at once, then once per interval."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._next = -math.inf
        self._times = 0
        self._told = 0

    def report(self, listener: str, error: OSError, told: int) -> None:
        """`told`: how many clients could be told so."""
        self._times += 1
        self._told += told
        now = trio.current_time()
        if now < self._next:
            return
        self._next = now + _CAPACITY_REPORTS
        name = errno.errorcode.get(error.errno or 0, "")
        self._services.bus.publish(
            SessionRefused(
                time=self._services.clock.time(),
                listener=listener,
                peer="",
                reason=f"accepting pauses: {name} ({self._times} times)",
                more=max(0, self._told - 1),
            )
        )
        self._times = self._told = 0
