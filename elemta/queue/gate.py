"""Asks plugins about mail in the queue, and turns what they say into outcomes.

Where no plugin has a hook of the queue, that costs one look-up. A question is asked while the message is
claimed and before anything of it is sent, so whatever becomes of the question, the claim goes back or gets
an outcome. Behind the word of a next hop nobody is asked, only told: nothing may come between that word
and its record.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from elemta.config import ListenerRole, RouteTls, TransportKind
from elemta.mail import (
    Cause,
    Deferred,
    Delivered,
    Envelope,
    Failed,
    Origin,
    Outcome,
    Reply,
    TlsFacts,
    replies,
)
from elemta.plugin import (
    AttemptView,
    Defer,
    Discard,
    EnvelopeView,
    Hold,
    HookArguments,
    OutcomeView,
    PluginHost,
    Quarantine,
    Reject,
    SessionView,
    Verdict,
    changes_in_words,
    line_of,
    parse_hop,
)
from elemta.routing import Route
from elemta.runtime import escape_text
from elemta.spool import AttemptFacts, ClaimedRecipient, RecipientState

from .context import QueueContext
from .site import Active, Job, Site

_LONGEST_REASON = 300
_LONGEST_NOTE = 500


@attrs.frozen
class Ruling:
    """What plugins decided about recipients before anything was sent."""

    outcome: Outcome
    state: RecipientState | None = None
    """HELD or REMOVED; None: what follows from the outcome."""
    reason: str = ""
    """Of a hold or a removal, for the operator."""
    plugin: str = ""


@attrs.frozen
class Routing:
    """What plugins say of where one recipient goes."""

    route: Route
    ruling: Ruling | None = None
    priority: int | None = None
    note: str = ""
    """What was changed, for the story of the message."""


@attrs.frozen(eq=False)
class Gate:
    """The plugins before the queue. Cancelling a question leaves nothing behind."""

    context: QueueContext

    def asks(self, hook: str) -> bool:
        """Whether any plugin has that hook."""
        host = self.context.plugins
        return host is not None and host.has(hook)

    async def route(self, active: Active, claimed: ClaimedRecipient, route: Route) -> Routing:
        """Where a recipient goes, and whether it goes at all.

        Takes at most the sum of the plugins' timeouts. Never raises for what a plugin does.
        """
        arguments = attrs.evolve(
            self._arguments(active, (claimed,), route), recipient=str(claimed.recipient.mailbox)
        )
        verdict = await self._host.ask("route", arguments, active.findings)
        ruling = self._ruling(verdict)
        priority, notes = None, []
        for plugin, changes in verdict.changes:
            if changes.route is not None:
                route = _replaced(route, changes.route)
            if changes.priority is not None:
                priority = changes.priority
            notes.append(f"plugin {plugin}: {changes_in_words(changes)}")
        return Routing(route, ruling, priority, escape_text("; ".join(notes), _LONGEST_NOTE))

    async def attempt(
        self, hook: str, site: Site, job: Job, *, tls: TlsFacts | None = None, remote: str = ""
    ) -> Ruling | None:
        """Whether an attempt may be made, or made over this connection; None: it may. As `route`."""
        arguments = self._arguments(job.active, job.recipients, site.route, tls=tls, remote=remote)
        return self._ruling(await self._host.ask(hook, arguments, job.active.findings))

    def tell_attempt(self, site: Site, job: Job, outcomes: Sequence[Outcome], facts: AttemptFacts) -> None:
        """An attempt was made, and this came of it. Sync, cannot fail."""
        if all(not isinstance(each, Delivered) and each.cause is Cause.PLUGIN for each in outcomes):
            return  # there was none
        arguments = self._arguments(job.active, job.recipients, site.route, remote=outcomes[0].remote)
        assert arguments.attempt is not None
        views = tuple(
            OutcomeView(
                message=job.message.id,
                recipient=str(claimed.recipient.mailbox),
                result=type(outcome).__name__.lower(),
                reply=str(outcome.reply),
                cause="" if isinstance(outcome, Delivered) else outcome.cause,
                remote=outcome.remote,
            )
            for claimed, outcome in zip(job.recipients, outcomes, strict=True)
        )
        attempt = attrs.evolve(arguments.attempt, seconds=facts.seconds)
        self._host.tell(
            "after_attempt",
            attrs.evolve(
                arguments,
                attempt=attempt,
                outcomes=views,
                tls=facts.secured,
                notes=dict(job.active.findings),
            ),
        )

    @property
    def _host(self) -> PluginHost:
        host = self.context.plugins
        assert host is not None
        return host

    def _arguments(
        self,
        active: Active,
        recipients: Sequence[ClaimedRecipient],
        route: Route,
        *,
        tls: TlsFacts | None = None,
        remote: str = "",
    ) -> HookArguments:
        message = active.message
        return HookArguments(
            session=self._session(message.origin),
            envelope=envelope_view(message.envelope),
            attempt=AttemptView(
                message.id,
                tuple(str(each.recipient.mailbox) for each in recipients),
                str(route),
                max(each.attempts for each in recipients) - 1,
                message.received,
                remote,
            ),
            tls=tls,
            notes=active.findings,
        )

    def _session(self, origin: Origin) -> SessionView | None:
        """The session that the message came in; None: we wrote it ourselves."""
        if not origin.session:
            return None
        role = next(
            (each.role for each in self.context.config.listeners if each.name == origin.listener),
            ListenerRole.MX,
        )
        return SessionView(
            id=origin.session,
            listener=origin.listener,
            role=role.value,
            peer=origin.peer,
            port=origin.port,
            hello=origin.hello,
            tls=origin.tls,
            identity=origin.identity,
        )

    def _ruling(self, verdict: Verdict) -> Ruling | None:
        decision, plugin = verdict.decision, verdict.plugin
        reason = escape_text(verdict.reason, _LONGEST_REASON)
        match decision:
            case Defer():
                reply = Reply.of(decision.code, decision.enhanced, line_of(decision.text))
                return Ruling(Deferred(Cause.PLUGIN, reply, detail=reason), plugin=plugin)
            case Reject():
                reply = Reply.of(decision.code, decision.enhanced, line_of(decision.text))
                return Ruling(Failed(Cause.PLUGIN, reply, detail=reason), plugin=plugin)
            case Hold() | Quarantine():
                held = f"quarantine: {reason}" if isinstance(decision, Quarantine) else reason
                outcome = Deferred(Cause.PLUGIN, replies.HELD_BY_POLICY, detail=reason)
                return Ruling(outcome, RecipientState.HELD, held, plugin)
            case Discard():
                gone = Failed(Cause.PLUGIN, replies.DISCARDED_BY_POLICY, detail=reason)
                return Ruling(gone, RecipientState.REMOVED, reason, plugin)
        return None


def envelope_view(envelope: Envelope) -> EnvelopeView:
    """An envelope that was accepted, as plugins see it."""
    sender = envelope.reverse_path.mailbox
    return EnvelopeView(
        sender="" if sender is None else str(sender),
        recipients=tuple(str(each.mailbox) for each in envelope.recipients),
        body_type=envelope.body_type.value,
        smtputf8=envelope.smtputf8,
        require_tls=envelope.require_tls,
        priority=envelope.priority,
        tags=envelope.tags,
    )


def _replaced(route: Route, hop: str) -> Route:
    """The host that a plugin names, secured as the route is. An account of the route is not used there."""
    host, port = parse_hop(hop)
    tls = route.tls if route.transport is TransportKind.SMTP else RouteTls.OPPORTUNISTIC
    return Route(TransportKind.SMTP, host, port, tls=tls)
