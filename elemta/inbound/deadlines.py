"""The deadlines of one session on one cancel scope: which one is next, and which one has passed."""

from __future__ import annotations

import enum
import functools
import math

import trio

from elemta.runtime import Alarm, Drain

PACE_WINDOW = 60.0
"""Seconds of waiting over which the rate of a body is averaged."""


class Phase(enum.StrEnum):
    """What a session waits for now; shown to people."""

    PROXY = "proxy"
    """The header of a load balancer."""
    TLS = "tls"
    """The handshake."""
    GREETING = "greeting"
    """Holding back the greeting."""
    POLICY = "policy"
    """A check asks DNS, or what is remembered."""
    PLUGIN = "plugin"
    """A plugin is asked, which has its own deadline."""
    AUTH = "auth"
    """Whether a password is right."""
    COMMAND = "command"
    BODY = "body"
    """More of the message."""
    WRITE = "write"
    """The client takes our replies."""
    WORK = "work"
    """Nothing outside: it computes, or writes a body to disk."""
    DELAY = "delay"
    """Holding back the reply to an error."""
    COMMIT = "commit"
    """The message becomes durable."""
    FINAL_REPLY = "final-reply"
    """The reply to a message that is stored."""


class Expiry(enum.Enum):
    """Whose deadline passed."""

    PHASE = enum.auto()
    TRANSACTION = enum.auto()
    SESSION = enum.auto()
    DRAIN = enum.auto()


class Deadlines:
    """Moves the deadline of one scope as the session goes from phase to phase.

    It is the earliest of the phase's, the transaction's, the session's and the drain's. The first two
    move all the time and are an alarm's; the other two are the scope's own.
    """

    __slots__ = ("_alarm", "_drain", "_session", "_transaction", "phase", "scope")

    def __init__(self, session: float, drain: Drain) -> None:
        """`session`: seconds from now."""
        self._session = trio.current_time() + session
        self.scope = trio.CancelScope(deadline=min(self._session, drain.deadline))
        self.phase = Phase.WORK
        self._drain = drain
        self._alarm = Alarm(functools.partial(self.scope.cancel, reason="deadline"))
        self._transaction = math.inf

    def enter(self, phase: Phase, seconds: float = math.inf, *, since: float | None = None) -> None:
        """Begin a phase that may take so long, from `since` or now; by default only the outer deadlines
        bound it."""
        self.phase = phase
        if seconds == math.inf:
            self._alarm.set(self._transaction)
        else:
            start = trio.current_time() if since is None else since
            self._alarm.set(min(start + seconds, self._transaction))

    def close(self) -> None:
        """The session is over."""
        self._alarm.close()

    @property
    def next(self) -> float:
        """When the scope is cancelled, as things stand now."""
        return min(self._alarm.time, self.scope.deadline)

    def begin_transaction(self, seconds: float) -> None:
        """Bound everything up to `end_transaction`; holds from the next `enter`."""
        self._transaction = trio.current_time() + seconds

    def end_transaction(self) -> None:
        self._transaction = math.inf

    def expired(self) -> Expiry:
        """Whose deadline ended the scope, the outermost first."""
        now = trio.current_time()
        if now >= self._drain.deadline:
            return Expiry.DRAIN
        if now >= self._session:
            return Expiry.SESSION
        if now >= self._transaction:
            return Expiry.TRANSACTION
        return Expiry.PHASE


class BodyPace:
    """Whether a body comes fast enough: in each minute of waiting for the client, `rate` octets a second.

    Only the time spent waiting for the client counts, so that a slow disk is not his fault.
    """

    __slots__ = ("_idle", "_needed", "_octets", "_waited")

    def __init__(self, idle: float, rate: int) -> None:
        """`idle`: longest wait for a single piece, in seconds; `rate` 0: no other bound."""
        self._idle = idle
        self._needed = rate * PACE_WINDOW
        self._waited = 0.0
        self._octets = 0

    def allowance(self) -> float:
        """How long the next piece may take."""
        if not self._needed:
            return self._idle
        # Enough came in this minute, so the next one is the first that can be too slow.
        minutes = 2 if self._octets >= self._needed else 1
        return min(self._idle, minutes * PACE_WINDOW - self._waited)

    def received(self, octets: int, waited: float) -> None:
        """Count a piece and the time that it took to come."""
        self._waited += waited
        if self._waited >= PACE_WINDOW:
            self._waited -= PACE_WINDOW
            self._octets = 0
        self._octets += octets
