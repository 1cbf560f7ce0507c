"""What a listener announces in each situation of a session; each combination is made once."""

from __future__ import annotations

import attrs

from elemta import smtp
from elemta.config import Config, ListenerConfig, ListenerRole

_FRESH = 60.0
"""Seconds for which what was made is used: the announcement of FUTURERELEASE has a date in it."""
_LARGEST_LIMIT = 999_999
"""RFC 9422: values of LIMITS have six digits at most; what is larger need not be announced."""

XCLIENT_ATTRIBUTES = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT")
XFORWARD_ATTRIBUTES = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE")


@attrs.frozen(slots=True)
class Situation:
    """On what the announcement depends, besides the listener."""

    tls: bool = False
    starttls: bool = False
    """TLS can begin now."""
    may_submit: bool = False
    """One of our users: authenticated, or trusted for its address."""
    mechanisms: tuple[str, ...] = ()
    """Of AUTH, that are offered now."""
    under_tls: tuple[str, ...] = ()
    """Of AUTH, that would be offered if the session were private."""
    xclient: bool = False
    xforward: bool = False


class Offers:
    """The announcements of one listener."""

    def __init__(
        self,
        config: Config,
        listener: ListenerConfig,
        *,
        message_size: int,
        recipients: int,
        longest_hold: float,
    ) -> None:
        limits = config.limits
        self._submission = listener.role is ListenerRole.SUBMISSION
        self._longest_hold = int(longest_hold)
        self._made: dict[Situation, smtp.Capabilities] = {}
        self._fresh_until = 0.0
        numbers = (("MAILMAX", limits.messages_per_session), ("RCPTMAX", recipients))
        self._always = smtp.Capabilities(
            pipelining=True,
            size=message_size,
            eight_bit_mime=True,
            enhanced_status_codes=True,
            smtputf8=True,
            dsn=True,
            chunking=True,
            binary_mime=True,
            deliver_by=0,
            mt_priority=True,
            help=True,
            limits=tuple((name, number) for name, number in numbers if number <= _LARGEST_LIMIT),
        )

    def at(self, situation: Situation, now: float) -> smtp.Capabilities:
        """What is offered; `now` is wall clock."""
        if not self._fresh_until - _FRESH <= now < self._fresh_until:
            self._made.clear()
            self._fresh_until = now + _FRESH
        made = self._made.get(situation)
        if made is None:
            made = self._made[situation] = self._make(situation, now)
        return made

    def _make(self, situation: Situation, now: float) -> smtp.Capabilities:
        holds = self._longest_hold > 0 and (situation.may_submit or self._submission)
        return attrs.evolve(
            self._always,
            starttls=situation.starttls,
            # RFC 8689 §2: only where the message came over TLS itself
            require_tls=situation.tls,
            auth=situation.mechanisms,
            auth_under_tls=situation.under_tls,
            # RFC 4865 §3: for submission, and where it is configured for those who may submit
            future_release=smtp.FutureRelease(self._longest_hold, int(now) + self._longest_hold)
            if holds
            else None,
            xclient=XCLIENT_ATTRIBUTES if situation.xclient else (),
            xforward=XFORWARD_ATTRIBUTES if situation.xforward else (),
        )
