"""Greylisting: who was never seen here before must come again (RFC 6647).

What is remembered: for the triplet of client network, sender and recipient since when it waits, or
that it has come again; for a client network how many messages it came again for. Keys are digests,
because strangers choose what is in them. Where nothing can be remembered, everybody passes: a server
that forgets whom it told to come again would never let them in.
"""

from __future__ import annotations

import enum
import hashlib
import math
import re
import struct

import attrs
import trio

from elemta.config import GreylistConfig
from elemta.mail import Mailbox, ReversePath
from elemta.runtime import Memo, WallClock

_WAITING = b"w"
_PASSED = b"p"
_TRIPLET = struct.Struct(">cd")
"""State and its time."""
_CLIENT = struct.Struct(">Id")
"""How many messages it came again for, and when that was written."""
_MOST = 0xFFFFFFFF
_REFRESH = 0.1
"""Part of a lifetime after which what is known is written again: so not every message has to."""

# Lists and forwarders put what changes with each message behind such a mark: VERP, SRS, BATV; and numbers.
_CHANGING = re.compile(r"[+=].*", re.DOTALL)
_NUMBERS = re.compile(r"[0-9]+")


class Standing(enum.Enum):
    """Where a recipient stands."""

    KNOWN = "known"
    """The client network came again often enough, or the triplet did before."""
    PASSED = "passed"
    """It came again now."""
    WAITING = "waiting"
    UNKNOWN = "unknown"
    """That could not be found out in time."""


@attrs.frozen
class GreylistResult:
    """Where a recipient stands."""

    standing: Standing
    seconds: int = 0
    """Until it may come again, or, if it passed, since it came first."""
    times: int = 0
    """How many messages its client network came again for before."""


class Greylist:
    """Remembers triplets and clients in a memo."""

    def __init__(self, config: GreylistConfig, memo: Memo, clock: WallClock) -> None:
        self.config = config
        self._memo = memo
        self._clock = clock

    async def judge(self, network: str, sender: ReversePath, recipient: Mailbox) -> GreylistResult:
        """Look the recipient up within the configured time, and remember that it came.

        Cancelled, it did not come.
        """
        triplet = _triplet_key(network, sender, recipient)
        found: bytes | None = None
        times = 0
        with trio.move_on_after(self.config.timeout) as scope:
            if self.config.clients_after:
                times = self._refreshed_times(network, await self._memo.get(_client_key(network)))
                if times >= self.config.clients_after:
                    return GreylistResult(Standing.KNOWN, times=times)
            found = await self._memo.get(triplet)
        if scope.cancelled_caught:
            return GreylistResult(Standing.UNKNOWN)
        return attrs.evolve(self._decide(triplet, found), times=times)

    def came_again(self, network: str, times: int) -> None:
        """A message for which the network had come again was stored; `times` is what `judge` said before."""
        self._put_client(network, min(times + 1, _MOST))

    def _decide(self, key: str, found: bytes | None) -> GreylistResult:
        config = self.config
        now = self._clock.time()
        state, since = _read_triplet(found)
        if state == _PASSED:
            if self._is_stale(since):
                self._memo.put(key, _TRIPLET.pack(_PASSED, now), now + config.lifetime)
            return GreylistResult(Standing.KNOWN)
        # What lies ahead was written before the clock was set back: it counts from now.
        if state != _WAITING or not since <= now < since + config.window:
            self._memo.put(key, _TRIPLET.pack(_WAITING, now), now + config.window)
            return GreylistResult(Standing.WAITING, math.ceil(config.delay))
        waited = now - since
        if waited < config.delay:
            return GreylistResult(Standing.WAITING, math.ceil(config.delay - waited))
        self._memo.put(key, _TRIPLET.pack(_PASSED, now), now + config.lifetime)
        return GreylistResult(Standing.PASSED, int(waited))

    def _refreshed_times(self, network: str, found: bytes | None) -> int:
        if found is None or len(found) != _CLIENT.size:
            return 0
        times, written = _CLIENT.unpack(found)
        if times >= self.config.clients_after and self._is_stale(written):
            self._put_client(network, times)
        return int(times)

    def _put_client(self, network: str, times: int) -> None:
        now = self._clock.time()
        self._memo.put(_client_key(network), _CLIENT.pack(times, now), now + self.config.lifetime)

    def _is_stale(self, written: float) -> bool:
        return not 0 <= self._clock.time() - written < self.config.lifetime * _REFRESH


def _read_triplet(found: bytes | None) -> tuple[bytes, float]:
    """State and time; the state is empty for what is not there, or not ours."""
    if found is None or len(found) != _TRIPLET.size:
        return b"", 0.0
    state, since = _TRIPLET.unpack(found)
    return (state, since) if math.isfinite(since) else (b"", 0.0)


def _client_key(network: str) -> str:
    return f"greylist/client/{_digest(network)}"


def _triplet_key(network: str, sender: ReversePath, recipient: Mailbox) -> str:
    return f"greylist/{_digest(network, _steady(sender), str(recipient).lower())}"


def _steady(sender: ReversePath) -> str:
    """The sender without what changes from message to message."""
    if sender.mailbox is None:
        return "<>"
    local_part = _NUMBERS.sub("#", _CHANGING.sub("", sender.mailbox.local_part.lower()))
    return f"{local_part}@{sender.mailbox.domain.text}"


def _digest(*parts: str) -> str:
    # No part can hold a NUL; 128 bits, so that nobody finds two of the same.
    data = "\0".join(parts).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=16).hexdigest()
