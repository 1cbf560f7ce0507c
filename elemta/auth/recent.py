"""Passwords that were checked a moment ago, so that a busy client does not pay argon2 for each session."""

from __future__ import annotations

import hmac
from collections import OrderedDict

import attrs

from elemta.runtime import WallClock


@attrs.frozen(slots=True)
class Verdict:
    """What a check found: the credential, or None for a wrong password."""

    credential: str | None


class RecentChecks:
    """Verdicts by keyed digest of account, state and password; of bounded number and age.

    Passwords themselves are not kept, and the key lives in this process only. Wrong ones are remembered
    too, for a client with an old password would else cost as much as an attack. A changed account has
    another state, so nothing of it is remembered.
    """

    def __init__(self, key: bytes, lifetime: float, clock: WallClock, *, size: int = 20_000) -> None:
        self._key = key
        self._lifetime = lifetime
        self._clock = clock
        self._size = size
        self._verdicts: OrderedDict[bytes, tuple[float, Verdict]] = OrderedDict()

    def find(self, name: str, state: bytes, password: str) -> Verdict | None:
        """The verdict of an equal check, if there was one lately."""
        digest = self._digest(name, state, password)
        made, verdict = self._verdicts.get(digest, (0.0, None))
        if verdict is None:
            return None
        # a clock that was set back must not make it last longer
        if not 0 <= self._clock.time() - made < self._lifetime:
            del self._verdicts[digest]
            return None
        return verdict

    def remember(self, name: str, state: bytes, password: str, verdict: Verdict) -> None:
        if self._lifetime <= 0:
            return
        digest = self._digest(name, state, password)
        self._verdicts[digest] = (self._clock.time(), verdict)
        self._verdicts.move_to_end(digest)
        if len(self._verdicts) > self._size:
            self._verdicts.popitem(last=False)

    def __len__(self) -> int:
        return len(self._verdicts)

    def _digest(self, name: str, state: bytes, password: str) -> bytes:
        # state has a fixed length and names no NUL: no two triples give one text
        return hmac.digest(self._key, state + name.encode() + b"\0" + password.encode(), "sha256")
