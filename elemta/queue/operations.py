"""What operators do with mail in the running queue: pause and resume, return to the sender.

Holding, releasing, retrying and removing are the spool's own; here is what needs the routes, the ready queues
or the rules of notices.
"""

from __future__ import annotations

import math

import attrs
import trio

from elemta.config import TransportKind
from elemta.events import QueueChanged
from elemta.mail import Cause, Failed, MailSyntaxError, Reply, parse_mailbox
from elemta.routing import Router
from elemta.spool import (
    AddressTest,
    Pause,
    PauseKind,
    QueueFilter,
    SpoolFull,
    StoredMessage,
    sender_text,
)

from .claims import Claims
from .context import QueueContext
from .pauses import Pauses

BOUNCED = Failed(
    Cause.OPERATOR, Reply.of(554, "5.0.0", "The operator of this server returned the message undelivered")
)
CHUNK = 25
"""Messages returned in one step: that many originals are in memory at once."""
CHUNK_SECONDS = 60.0
"""How long a step may take once its recipients are claimed; what is left then comes back with its lease."""
RETRY_SECONDS = 60.0
"""Until a pause that could not be ended (a full disk) is tried again."""


def route_test(router: Router, route: str) -> AddressTest:
    """Chooses recipients by the route that they would take now."""

    def takes(text: str) -> bool:
        try:
            return str(router.route(parse_mailbox(text, utf8=True))) == route
        except MailSyntaxError:
            return False

    kind, _, hop = route.partition(":")
    by_mx = kind == "smtp" and not hop.startswith("[")

    def may_take(domain: str) -> bool:
        # Where MX decides, domain and route have one name; else a single address may have a route of its own.
        return not by_mx or domain.lower() == hop or takes(f"postmaster@{domain}")

    return AddressTest(may_take, takes)


def route_named(router: Router, name: str) -> str:
    """The name of the route that people mean by its own name, by an address or by a domain.

    Raises:
      MailSyntaxError: it can be none of these.
    """
    if name in set(TransportKind) or (":" in name and "@" not in name and not name.startswith("[")):
        return name
    return str(router.route(parse_mailbox(name if "@" in name else f"postmaster@{name}", utf8=True)))


def holds_quarantined(router: Router, kind: PauseKind, value: str) -> bool:
    """Whether a pause may have put quarantined mail aside. Addresses do not tell which that is, so where it
    ends all is due that is paused; what another pause keeps back is put aside again."""
    return kind is PauseKind.ROUTE and value == router.quarantine_name


@attrs.define(eq=False)
class Operations:
    """Each is done step by step, so that mail flows on meanwhile; cancelled, the steps done so far stay.

    All raise what the spool raises (`SpoolFull`, `SpoolUnavailable`).
    """

    context: QueueContext
    router: Router
    claims: Claims
    pauses: Pauses
    _changed: trio.Event = attrs.field(factory=trio.Event, init=False)

    async def load(self) -> None:
        """Take up the pauses that were written down before this start."""
        for pause in await self.context.spool.pauses():
            self.pauses.add(pause)

    async def pause(self, kind: PauseKind, value: str, *, reason: str, until: float | None = None) -> None:
        """Try nothing of this from now on; it is durable when this returns. What is under way goes on."""
        pause = Pause(kind, value, self.context.clock.time(), until, reason)
        await self.context.spool.set_pause(pause)
        self.pauses.add(pause)
        self.claims.put_ready_aside()
        self._changed.set()
        self._tell("pause", 0)

    async def resume(self, kind: PauseKind, value: str) -> int | None:
        """End a pause; what it put aside is due now. Returns how many recipients; `None`: there was none."""
        spool = self.context.spool
        pause = self.pauses.discard(kind, value)
        if pause is None:
            return None
        try:
            # What was put aside a moment ago is seen by the selection below only when it is written.
            await spool.wait_recorded()
            count = await spool.resume(
                QueueFilter() if holds_quarantined(self.router, kind, value) else self.selection(kind, value)
            )
            await spool.end_pause(kind, value)
        except BaseException:
            self.pauses.add(pause)  # as it is written down
            raise
        self._tell("resume", count)
        return count

    async def end_rest(self, route: str) -> int | None:
        """Try a destination that rests again at once, with all that waits for it. Returns how many recipients
        are due now; `None`: it did not rest."""
        if not self.claims.sites.end_rest(route):
            return None
        count = await self.context.spool.retry(QueueFilter(test=self.test_of(route)))
        self._tell("retry", count)
        return count

    def test_of(self, route: str) -> AddressTest:
        """What a selection by route goes by."""
        return route_test(self.router, route)

    def selection(self, kind: PauseKind, value: str) -> QueueFilter:
        """The recipients that such a pause is about."""
        match kind:
            case PauseKind.SENDER:
                return QueueFilter(sender=value)
            case PauseKind.DOMAIN:
                return QueueFilter(domain=value)
            case PauseKind.ROUTE:
                return QueueFilter(test=self.test_of(value))

    def pause_of(self, message: StoredMessage, address: str) -> Pause | None:
        """The pause that keeps a recipient of the message back, if one does."""
        mailbox = parse_mailbox(address, utf8=True)
        return self.pauses.find(
            sender=sender_text(message.envelope.reverse_path),
            domain=mailbox.domain.text,
            route=str(self.router.route(mailbox, quarantined=message.envelope.quarantined)),
        )

    async def bounce(self, which: QueueFilter) -> int:
        """Return what matches and is not under way to its senders, as if it had failed; returns how many
        recipients that were. Each notice is stored with the end it is about."""
        spool = self.context.spool
        count, after = 0, None
        while True:
            page = await spool.matching(which, after=after, limit=CHUNK)
            if page.messages:
                claims = await spool.seize(page.messages, which)
                with trio.move_on_after(CHUNK_SECONDS, shield=True):
                    for claim in claims:
                        await self.claims.end(claim, BOUNCED)
                        count += len(claim.recipients)
                await spool.wait_recorded()
            if page.further is None:
                return count
            after = page.further

    async def run(self) -> None:
        """End the pauses whose time is over, until cancelled."""
        while True:
            self._changed = trio.Event()
            end = self.pauses.next_end()
            wait = math.inf if end is None else max(0.0, end - self.context.clock.time())
            with trio.move_on_after(min(wait, RETRY_SECONDS) if wait < math.inf else math.inf):
                await self._changed.wait()
            now = self.context.clock.time()
            for pause in tuple(self.pauses.all):
                if pause.until is not None and pause.until <= now:
                    try:
                        await self.resume(pause.kind, pause.value)
                    except SpoolFull:
                        await trio.sleep(RETRY_SECONDS)

    def _tell(self, action: str, recipients: int) -> None:
        self.context.bus.publish(
            QueueChanged(time=self.context.clock.time(), action=action, recipients=recipients)
        )
