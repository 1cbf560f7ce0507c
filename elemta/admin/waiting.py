"""Why a recipient waits, in words for a person who has never seen the inside of a mail server."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import attrs

from elemta.config import QueueConfig
from elemta.mail import Cause
from elemta.queue import AttemptView, QueueStatistics, SiteStatistics
from elemta.spool import Pause, PauseKind, QueueEntry, RecipientEntry, RecipientState

_PHASES = {
    "dns": "asking DNS for the hosts of the domain",
    "connect": "making a connection",
    "greeting": "waiting for the next hop's greeting",
    "hello": "introducing ourselves",
    "starttls": "agreeing on encryption",
    "login": "logging in at the next hop",
    "mail": "naming the sender",
    "rcpt": "naming the recipients",
    "data": "waiting for leave to send the content",
    "body": "sending the content",
    "final-dot": "waiting for the next hop to say that it has the message",
    "rset": "beginning anew at the next hop",
    "quit": "ending the session",
}
_CAUSES = {
    "new": "it has just come in",
    Cause.REMOTE_REPLY: "the next hop put it off",
    Cause.CONNECT: "no host of the destination took a connection",
    Cause.TIMEOUT: "the next hop took too long",
    Cause.CONNECTION_LOST: "the connection broke",
    Cause.PROTOCOL: "the next hop sent something that is not SMTP",
    Cause.DNS: "DNS gave no usable answer",
    Cause.TLS: "no encryption came about",
    Cause.TLS_NOT_OFFERED: "the next hop offers no encryption, and mail may not go without",
    Cause.CERTIFICATE: "the next hop did not prove who it is",
    Cause.LOGIN: "the next hop did not take our account",
    Cause.UNKNOWN_AFTER_DOT: "all was sent and no reply came: it may have been delivered",
    Cause.UNSUPPORTED: "the next hop lacks something that the message needs",
    Cause.LOCAL: "something is wrong on this machine",
    Cause.INTERNAL: "an error of this server",
    Cause.SHUTDOWN: "the server was stopped meanwhile",
    Cause.BUSY: "enough is on its way to that destination",
    Cause.PAUSED: "it is paused",
    Cause.FUTURE_RELEASE: "its sender wanted it to wait",
    Cause.OPERATOR: "an operator ended the last attempt",
}


@attrs.frozen
class Surroundings:
    """What a message is looked at in."""

    now: float
    queue: QueueStatistics
    attempts: Sequence[AttemptView]
    pauses: Sequence[Pause]
    config: QueueConfig


@attrs.frozen
class Waiting:
    """What becomes of one recipient, for people."""

    recipient: str
    state: str
    route: str
    headline: str
    facts: tuple[str, ...]
    until: float | None
    """When something happens next, where that is known."""
    attempt: str
    """The attempt that is under way; empty: none."""


def explain(entry: QueueEntry, recipient: RecipientEntry, route: str, around: Surroundings) -> Waiting:
    """Say what a recipient waits for. Sync and pure."""
    attempt = _attempt_of(entry, recipient, around)
    site = next((each for each in around.queue.sites if each.route == route), None)
    headline, until = _headline(recipient, attempt, site, around)
    facts = [] if recipient.state.is_final else list(_facts(entry, recipient, route, site, around))
    if recipient.reply and recipient.attempts:
        by = f", by {recipient.remote}" if recipient.remote else ""
        ago = "" if recipient.last_attempt is None else f", {words(around.now - recipient.last_attempt)} ago"
        facts.insert(0, f"Attempt {recipient.attempts}{ago}{by}: {recipient.reply}")
    return Waiting(
        recipient=recipient.address,
        state=recipient.state.name.lower(),
        route=route,
        headline=headline,
        facts=tuple(facts),
        until=until,
        attempt="" if attempt is None else attempt.id,
    )


def _attempt_of(entry: QueueEntry, recipient: RecipientEntry, around: Surroundings) -> AttemptView | None:
    for attempt in around.attempts:
        if attempt.message == entry.id and recipient.address in attempt.recipients:
            return attempt
    return None


def _headline(
    recipient: RecipientEntry,
    attempt: AttemptView | None,
    site: SiteStatistics | None,
    around: Surroundings,
) -> tuple[str, float | None]:
    if recipient.state.is_final:
        return f"It does not wait: it was {recipient.state.name.lower()}.", None
    if attempt is not None:
        doing = _PHASES.get(attempt.phase, attempt.phase)
        at = f" ({attempt.remote})" if attempt.remote else ""
        left = f", at most {words(attempt.seconds_left)} more" if attempt.seconds_left < math.inf else ""
        begun = f"An attempt is under way since {words(attempt.seconds)}"
        return f"{begun}: {doing}{at}{left}.", None
    if recipient.state is RecipientState.HELD:
        if recipient.reason == Cause.PAUSED:
            return "It was put aside because mail like it is paused, until somebody resumes that.", None
        return f"It is held until somebody releases it: {recipient.reason}.", None
    if recipient.due is not None and recipient.due > around.now:
        why = _CAUSES.get(recipient.reason, f"of this: {recipient.reason}")
        return f"The next attempt is in {words(recipient.due - around.now)}, because {why}.", recipient.due
    if around.queue.draining:
        return "The server is stopping: nothing new is begun.", None
    if site is not None and site.suspended_for:
        until = around.now + site.suspended_for
        return f"Its destination is left alone for {words(site.suspended_for)}.", until
    if recipient.leased:
        return "It is next in line and waits for a connection to its destination.", None
    return "It is due and waits for its turn.", None


def _facts(
    entry: QueueEntry,
    recipient: RecipientEntry,
    route: str,
    site: SiteStatistics | None,
    around: Surroundings,
) -> Sequence[str]:
    facts = []
    for pause in around.pauses:
        if _concerns(pause, entry, recipient, route):
            reason = f": {pause.reason}" if pause.reason else ""
            facts.append(f"The {pause.kind} {pause.value} is paused{reason}.")
    if site is not None:
        facts.append(
            f"For {route} {site.ready} messages are ready; "
            f"{site.dispatchers} of {site.window} connections are open."
        )
        if site.waits_because:
            facts.append(
                f"A {site.waits_because} in the shaping of {route} lets the next one through "
                f"in {words(site.waits_for)}."
            )
        if site.suspended_for:
            last = f" Its last word: {site.last_error}" if site.last_error else ""
            facts.append(f"{route} is suspended: {site.suspended_because}.{last}")
    if around.queue.active_messages >= around.config.active_messages:
        facts.append(
            f"All {around.config.active_messages} places in memory are taken ([queue] active_messages): "
            "what is due waits in the spool."
        )
    if recipient.interrupted:
        facts.append(f"The last {recipient.interrupted} attempts ended in a crash.")
    null = entry.sender in ("", "<>")
    end = entry.received + (around.config.bounce_lifetime if null else around.config.lifetime)
    told = "nobody is told" if null else "the sender is told"
    facts.append(f"It is given up in {words(end - around.now)}, and {told}.")
    return facts


def _concerns(pause: Pause, entry: QueueEntry, recipient: RecipientEntry, route: str) -> bool:
    match pause.kind:
        case PauseKind.DOMAIN:
            return pause.value == recipient.address.rpartition("@")[2]
        case PauseKind.SENDER:
            return pause.value == (entry.sender or "<>")
    return pause.value == route


def words(seconds: float) -> str:
    """A span of time for people."""
    whole = int(max(0.0, seconds))
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min"
    if whole < 2 * 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def waiting_as_json(waiting: Waiting) -> dict[str, Any]:
    """The same for HTTP."""
    return attrs.asdict(waiting) | {"facts": list(waiting.facts)}
