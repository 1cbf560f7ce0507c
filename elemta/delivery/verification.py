"""Asks a next hop whether it knows a recipient before we take mail for him: MAIL FROM:<>, RCPT, no message.

What it says is remembered for as long as the configuration says, yes and no also beyond a restart (in the
memo, which forgets what is over, and what is too much). Of one recipient one question is under way,
however many sessions want to know; all wait for its answer, and none longer than the configuration says.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial

import attrs
import msgspec
import trio

from elemta.config import Config, TransportKind, VerificationUnknown
from elemta.events import EventBus, RecipientVerified, TaskCrashed
from elemta.mail import Delivered, Failed, Mailbox, Outcome
from elemta.routing import Destination, DomainTable, Route, Router
from elemta.runtime import Memo, WallClock, summarize

from .transport import ConnectFailed, Transport

_POLICY = 7
"""Subject of enhanced codes that are about who asks (RFC 3463 §3.8): of another sender it may be taken."""

_FULL = 552
"""A mailbox that is full exists, and as too many recipients it is for a time (RFC 5321 §4.5.3.1.10)."""


class Verdict(enum.StrEnum):
    """What is known of a recipient."""

    EXISTS = "exists"
    REFUSED = "refused"
    """The next hop said no for good."""
    UNKNOWN = "unknown"
    """It could not be asked, or did not say."""


@attrs.frozen
class VerifierStatistics:
    """A verifier at one moment."""

    remembered: int
    under_way: int
    verdicts: tuple[tuple[str, int], ...]
    """Questions since the start, by what was said."""
    answered: int
    """Answers from memory since the start."""


@attrs.frozen
class _Known:
    verdict: Verdict
    until: float
    """Trio time."""


@attrs.frozen
class _Kept:
    """The same in the memo."""

    verdict: Verdict
    since: float
    """Wall clock, so that the time for which it holds is that of the configuration now."""


class Verifier:
    """What is known of recipients at next hops. Made by `open_verifier`."""

    def __init__(
        self,
        config: Config,
        router: Router,
        make_transport: Callable[[Route], Transport],
        bus: EventBus,
        clock: WallClock,
        nursery: trio.Nursery,
        memo: Memo | None = None,
    ) -> None:
        self._config = config.verification
        self._domains = DomainTable(self._config.domains)
        self._router = router
        self._make_transport = make_transport
        self._bus = bus
        self._clock = clock
        self._nursery = nursery
        self._memo = memo
        self._known: dict[tuple[Mailbox, Route], _Known] = {}
        self._under_way: dict[tuple[Mailbox, Route], trio.Event] = {}
        self._answered = 0
        self._verdicts = dict.fromkeys(Verdict, 0)

    def replace(self, config: Config) -> None:
        """Use other settings from now on; what is known stays known."""
        self._config = config.verification
        self._domains = DomainTable(self._config.domains)

    def statistics(self) -> VerifierStatistics:
        return VerifierStatistics(
            len(self._known), len(self._under_way), tuple(self._verdicts.items()), self._answered
        )

    def may_ask(self, mailbox: Mailbox) -> bool:
        """Whether recipients of that domain are to be verified, and can be."""
        if mailbox.domain not in self._domains:
            return False
        # elsewhere anybody who may relay could have strangers' servers asked
        return self._router.destination(mailbox) is not Destination.FOREIGN and self._router.route(
            mailbox
        ).transport in (TransportKind.SMTP, TransportKind.LMTP)

    @property
    def defers_unknown(self) -> bool:
        """Whether a recipient that could not be verified is put off; else it is taken."""
        return self._config.unknown is VerificationUnknown.DEFER

    @property
    def timeout(self) -> float:
        """Seconds that an answer may take."""
        return self._config.timeout

    async def ask(self, mailbox: Mailbox) -> Verdict:
        """What the next hop of a recipient says of it, within `verification.timeout`.

        Cancelled, the question goes on for others, and for who asks again.
        """
        config, key = self._config, (mailbox, self._router.route(mailbox))
        if self._is_known(key):
            self._answered += 1
            await trio.lowlevel.checkpoint()
            return self._known[key].verdict
        done = self._under_way.get(key)
        if done is None:
            if len(self._under_way) >= config.probes:
                await trio.lowlevel.checkpoint()
                return Verdict.UNKNOWN
            done = self._under_way[key] = trio.Event()
            self._nursery.start_soon(partial(self._probe, *key, done), name=f"verify {mailbox.domain.text}")
        with trio.move_on_after(config.timeout):
            await done.wait()
        known = self._known.get(key)
        if known is None or not done.is_set():
            return Verdict.UNKNOWN
        return known.verdict

    async def _probe(self, mailbox: Mailbox, route: Route, done: trio.Event) -> None:
        key, began = (mailbox, route), trio.current_time()
        outcome: Outcome | None = None
        reason = "no answer in time"

        def settle(said: Outcome) -> None:
            nonlocal outcome, reason
            outcome, reason = said, str(said.reply)
            self._remember(key, _verdict(said))
            done.set()

        try:
            with trio.move_on_after(self._config.timeout):
                if (kept := await self._recall(key)) is not None:
                    self._answered += 1
                    self._keep(key, kept)
                    return
                await self._talk(mailbox, route, settle)
        except* Exception as errors:  # of a bug: the sessions only know that they do not know
            reason = summarize(errors)
            self._bus.publish(TaskCrashed(time=self._clock.time(), task="verification", error=reason))
        finally:
            if outcome is None and not self._is_known(key):
                self._remember(key, Verdict.UNKNOWN)
            del self._under_way[key]
            done.set()
        self._bus.publish(
            RecipientVerified(
                time=self._clock.time(),
                recipient=str(mailbox),
                route=str(route),
                remote="" if outcome is None else outcome.remote,
                verdict=str(_verdict(outcome)),
                reply=reason,
                seconds=trio.current_time() - began,
            )
        )

    async def _talk(self, mailbox: Mailbox, route: Route, settle: Callable[[Outcome], None]) -> None:
        try:
            connection = await self._make_transport(route).connect()
        except ConnectFailed as failed:
            settle(failed.outcome)
            return
        try:
            settle(await connection.probe(mailbox))
        finally:
            await connection.aclose()

    def _is_known(self, key: tuple[Mailbox, Route]) -> bool:
        known = self._known.get(key)
        return known is not None and trio.current_time() < known.until

    def _remember(self, key: tuple[Mailbox, Route], verdict: Verdict) -> None:
        seconds = self._seconds(verdict)
        self._verdicts[verdict] += 1
        self._keep(key, _Known(verdict, trio.current_time() + seconds))
        if self._memo is not None and verdict is not Verdict.UNKNOWN:
            now = self._clock.time()
            self._memo.put(_name(key), msgspec.json.encode(_Kept(verdict, now)), now + seconds)

    def _seconds(self, verdict: Verdict) -> float:
        config = self._config
        return {
            Verdict.EXISTS: config.exists_for,
            Verdict.REFUSED: config.refused_for,
            Verdict.UNKNOWN: config.unknown_for,
        }[verdict]

    def _keep(self, key: tuple[Mailbox, Route], known: _Known) -> None:
        self._known.pop(key, None)
        while len(self._known) >= self._config.remembered:
            del self._known[next(iter(self._known))]  # the oldest
        self._known[key] = known

    async def _recall(self, key: tuple[Mailbox, Route]) -> _Known | None:
        """What was said before the last start, where that holds on."""
        stored = None if self._memo is None else await self._memo.get(_name(key))
        if stored is None:
            return None
        try:
            kept = msgspec.json.decode(stored, type=_Kept)
        except msgspec.MsgspecError:
            return None
        seconds = self._seconds(kept.verdict)
        left = min(kept.since + seconds - self._clock.time(), seconds)  # the clock may have been wrong
        return None if left <= 0 else _Known(kept.verdict, trio.current_time() + left)


@asynccontextmanager
async def open_verifier(
    config: Config,
    router: Router,
    make_transport: Callable[[Route], Transport],
    bus: EventBus,
    clock: WallClock,
    memo: Memo | None = None,
) -> AsyncGenerator[Verifier, None]:
    """A verifier for as long as the block runs; what is under way at its end is given up."""
    async with trio.open_nursery() as nursery:
        yield Verifier(config, router, make_transport, bus, clock, nursery, memo)
        nursery.cancel_scope.cancel(reason="nobody is verified any more")


def _name(key: tuple[Mailbox, Route]) -> str:
    mailbox, route = key
    return f"verification/{hashlib.sha256(f'{mailbox} {route}'.encode()).hexdigest()}"


def _verdict(outcome: Outcome | None) -> Verdict:
    match outcome:
        case Delivered():
            return Verdict.EXISTS
        case Failed(from_remote=True):
            enhanced = outcome.reply.enhanced
            if outcome.reply.code == _FULL:
                return Verdict.UNKNOWN
            if enhanced is not None and enhanced.subject == _POLICY:
                return Verdict.UNKNOWN
            return Verdict.REFUSED
        case _:
            return Verdict.UNKNOWN
