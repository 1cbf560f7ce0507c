"""What happens, as frozen values. Each has a `type` that users filter by; the fields are its JSON."""

from __future__ import annotations

from typing import ClassVar

import attrs

from elemta.mail import NO_PHASES, Phases


@attrs.frozen(slots=True, kw_only=True)
class Event:
    """Base. `time` is wall clock, seconds since 1970; it is shown as RFC 3339 UTC."""

    type: ClassVar[str] = ""
    level: ClassVar[str] = "info"
    time: float


@attrs.frozen(slots=True, kw_only=True)
class ServerStarted(Event):
    type = "server.started"
    version: str
    listeners: tuple[str, ...]
    queued: int


@attrs.frozen(slots=True, kw_only=True)
class ServerStopping(Event):
    type = "server.stopping"
    reason: str


@attrs.frozen(slots=True, kw_only=True)
class ServerReloaded(Event):
    """SIGHUP. With an error nothing was changed at all."""

    type = "server.reloaded"
    changed: tuple[str, ...]
    """Sections that are in effect now, each listener with what became of it."""
    error: str = ""
    restart: tuple[str, ...] = ()
    """Sections that differ in the file and need a restart."""


@attrs.frozen(slots=True, kw_only=True)
class TlsReloaded(Event):
    """The files of certificates changed, and clients are shown the new ones."""

    type = "tls.reloaded"
    certificates: tuple[str, ...]
    """Each with its names and its end."""


@attrs.frozen(slots=True, kw_only=True)
class TlsTrouble(Event):
    """Certificates changed and cannot be used; those before are still shown."""

    type = "tls.trouble"
    level = "error"
    reason: str


@attrs.frozen(slots=True, kw_only=True)
class TlsExpiring(Event):
    """A certificate ends soon: told at 14, 7, 3 and 1 days, and at the end."""

    type = "tls.expiring"
    level = "warning"
    certificate: str
    """Its file."""
    names: tuple[str, ...]
    days: int
    """At most so many are left; 0: it has ended."""
    until: str
    """RFC 3339 UTC."""


@attrs.frozen(slots=True, kw_only=True)
class ServerOverloaded(Event):
    """New mail is deferred from now on because the server is behind, or no longer."""

    type = "server.overloaded"
    level = "warning"
    reason: str
    """Empty: it has recovered."""


@attrs.frozen(slots=True, kw_only=True)
class SessionOpened(Event):
    type = "session.opened"
    session: str
    listener: str
    peer: str
    port: int


@attrs.frozen(slots=True, kw_only=True)
class SessionClosed(Event):
    type = "session.closed"
    session: str
    cause: str
    """`quit`, `eof`, `timeout`, `errors`, `drain`, `reset`, `crash`, `tls`, `operator` …"""
    seconds: float
    commands: int
    messages: int
    errors: int
    octets_in: int
    early: int = 0
    """How often the client went on where it had to wait for a reply (RFC 2920 3.1)."""
    detail: str = ""
    """What the cause does not say, such as why no TLS came about."""


@attrs.frozen(slots=True, kw_only=True)
class SessionRefused(Event):
    """A connection that was turned away before it became a session."""

    type = "session.refused"
    listener: str
    peer: str
    reason: str
    more: int = 0
    """Others that were turned away since the last one that was told: in a flood only some are."""


@attrs.frozen(slots=True, kw_only=True)
class SessionTls(Event):
    type = "session.tls"
    session: str
    version: str
    cipher: str


@attrs.frozen(slots=True, kw_only=True)
class SessionAuthenticated(Event):
    """The client proved who it is; what failed is a rejected AUTH command."""

    type = "session.authenticated"
    session: str
    account: str
    mechanism: str
    credential: str
    """What it was proved with: `password`, `app:LABEL`, `certificate`, `token`, `xclient`."""


@attrs.frozen(slots=True, kw_only=True)
class SessionForwarded(Event):
    """The session is another client's: a PROXY header or XCLIENT said whose, XFORWARD for the log only."""

    type = "session.forwarded"
    session: str
    by: str
    """`proxy`, `xclient` or `xforward`."""
    via: str
    """Address of the connection itself."""
    peer: str
    port: int = 0
    hello: str = ""
    name: str = ""
    """Host name of the client, as it was said."""
    account: str = ""
    protocol: str = ""
    ident: str = ""
    """XFORWARD: the queue id at the other side."""


@attrs.frozen(slots=True, kw_only=True)
class SessionNoted(Event):
    """A policy check found something that is not refused, or not yet."""

    type = "session.noted"
    session: str
    check: str
    finding: str


@attrs.frozen(slots=True, kw_only=True)
class AccountSuspicious(Event):
    """An account does not send like itself: its password may be stolen."""

    type = "account.suspicious"
    level = "error"
    account: str
    finding: str
    held: bool
    """Whether its mail is held from now on."""


@attrs.frozen(slots=True, kw_only=True)
class CommandRejected(Event):
    """A command was answered 4yz or 5yz."""

    type = "command.rejected"
    level = "info"
    session: str
    verb: str
    """`CONNECT` for what was refused in the place of the greeting."""
    reply: str
    sender: str = ""
    recipient: str = ""
    reason: str = ""
    """For the operator, where there is more to say than the reply does."""


@attrs.frozen(slots=True, kw_only=True)
class MessageAccepted(Event):
    type = "message.accepted"
    session: str
    message: str
    sender: str
    recipients: tuple[str, ...]
    size: int
    peer: str
    protocol: str
    message_id_header: str = ""
    traceparent: str = ""
    """W3C Trace Context of the program that handed the message in; empty: none."""


@attrs.frozen(slots=True, kw_only=True)
class MessageRejected(Event):
    """A body was received, or begun, and not accepted."""

    type = "message.rejected"
    session: str
    sender: str
    recipients: tuple[str, ...]
    reply: str
    reason: str


@attrs.frozen(slots=True, kw_only=True)
class MessageJudged(Event):
    """A stranger's message was checked: SPF, DKIM, ARC, DMARC, reverse DNS."""

    type = "message.judged"
    session: str
    message: str
    """The id that it has if it is accepted."""
    results: tuple[str, ...]
    """As `dkim=pass header.d=example.org`, in the order of Authentication-Results."""
    action: str
    """`note`, `quarantine`, `defer` or `refuse`."""
    check: str = ""
    """Which one that follows from."""
    reason: str = ""


@attrs.frozen(slots=True, kw_only=True)
class MessageSigned(Event):
    """A message of ours got signatures (DKIM)."""

    type = "message.signed"
    message: str
    keys: tuple[str, ...]
    """Their names in DNS."""


@attrs.frozen(slots=True, kw_only=True)
class MessageSealed(Event):
    """A stranger's message got an ARC set."""

    type = "message.sealed"
    message: str
    domain: str
    instance: int
    chain: str
    """What the seal says of those before it: `none`, `pass` or `fail`."""


@attrs.frozen(slots=True, kw_only=True)
class RecipientDelivered(Event):
    type = "recipient.delivered"
    message: str
    recipient: str
    route: str
    remote: str
    reply: str
    attempts: int
    seconds: float
    """Since the message was received."""
    delays: tuple[float, ...] | None = None
    """Seconds of the attempt, as Postfix has them: before it was taken up (earlier attempts included), until
    the attempt began, until there was a connection, over it. None: nothing was tried."""
    phases: Phases = NO_PHASES
    """Seconds of the attempt in each of its phases."""
    traceparent: str = ""
    """W3C Trace Context of the program that handed the message in; empty: none."""


@attrs.frozen(slots=True, kw_only=True)
class RecipientDeferred(Event):
    type = "recipient.deferred"
    level = "warning"
    message: str
    recipient: str
    route: str
    remote: str
    cause: str
    reply: str
    detail: str
    attempts: int
    due: float
    delays: tuple[float, ...] | None = None
    """Seconds of the attempt, as Postfix has them: before it was taken up (earlier attempts included), until
    the attempt began, until there was a connection, over it. None: nothing was tried."""
    phases: Phases = NO_PHASES
    """Seconds of the attempt in each of its phases."""
    traceparent: str = ""
    """W3C Trace Context of the program that handed the message in; empty: none."""


@attrs.frozen(slots=True, kw_only=True)
class RecipientFailed(Event):
    type = "recipient.failed"
    level = "warning"
    message: str
    recipient: str
    route: str
    remote: str
    cause: str
    reply: str
    detail: str
    attempts: int
    expired: bool = False
    delays: tuple[float, ...] | None = None
    """Seconds of the attempt, as Postfix has them: before it was taken up (earlier attempts included), until
    the attempt began, until there was a connection, over it. None: nothing was tried."""
    phases: Phases = NO_PHASES
    """Seconds of the attempt in each of its phases."""
    traceparent: str = ""
    """W3C Trace Context of the program that handed the message in; empty: none."""


@attrs.frozen(slots=True, kw_only=True)
class RecipientHeld(Event):
    """The server itself put a recipient on hold: an operator should look at it."""

    type = "recipient.held"
    level = "error"
    message: str
    recipient: str
    reason: str
    """`crashes`: too many attempts in a row ended in a crash; `corrupt`: its content is damaged."""
    detail: str
    attempts: int


@attrs.frozen(slots=True, kw_only=True)
class RecipientDiscarded(Event):
    """A plugin had a recipient of a message in the queue forgotten, without a notice."""

    type = "recipient.discarded"
    level = "warning"
    message: str
    recipient: str
    reason: str
    """Which plugin, and why."""


@attrs.frozen(slots=True, kw_only=True)
class SiteSuspended(Event):
    """A destination is left alone for a while; what is for it waits, and no attempt of it is counted."""

    type = "site.suspended"
    level = "warning"
    route: str
    reason: str
    """`unreachable`, or what the next hop holds against us: `rate limited`, `blocked` …"""
    reply: str
    """The last word behind it."""
    until: float
    """Seconds since the epoch."""


@attrs.frozen(slots=True, kw_only=True)
class SiteResumed(Event):
    """The time of a suspended destination is over: it is tried again."""

    type = "site.resumed"
    route: str


@attrs.frozen(slots=True, kw_only=True)
class RecipientVerified(Event):
    """A next hop was asked whether it knows a recipient."""

    type = "recipient.verified"
    recipient: str
    route: str
    remote: str
    verdict: str
    """`exists`, `refused` or `unknown`."""
    reply: str
    """What it said, or why it said nothing."""
    seconds: float


@attrs.frozen(slots=True, kw_only=True)
class SourceFailed(Event):
    """An address of ours could not be used to connect from; it is left out for a while."""

    type = "source.failed"
    level = "warning"
    source: str
    address: str
    error: str


@attrs.frozen(slots=True, kw_only=True)
class NoticeQueued(Event):
    """A delivery status notification was stored for the sender of `about`."""

    type = "notice.queued"
    message: str
    about: str
    recipient: str
    action: str


@attrs.frozen(slots=True, kw_only=True)
class MessageRemoved(Event):
    """All recipients are final; the spool no longer has the message."""

    type = "message.removed"
    message: str
    reason: str
    """`done`, or `operator`."""


@attrs.frozen(slots=True, kw_only=True)
class QueueChanged(Event):
    """An operator held, released, retried or removed recipients."""

    type = "queue.changed"
    action: str
    recipients: int


@attrs.frozen(slots=True, kw_only=True)
class AuditEvent(Event):
    """Somebody changed something through the admin port or socket."""

    type = "admin.changed"
    operation: str
    """As the OpenAPI document names it."""
    actor: str
    """The name of the token; `operator`: that of the token file, `local`: the socket in the state folder."""
    peer: str
    path: str
    detail: str
    """What exactly, where the operation says so."""
    status: int
    """Of the answer; 500 and above: it failed, perhaps half-way."""


@attrs.frozen(slots=True, kw_only=True)
class AccessRefused(Event):
    """Somebody without the right to it asked something of the admin port; in a flood not each is told."""

    type = "admin.refused"
    level = "warning"
    peer: str
    reason: str


@attrs.frozen(slots=True, kw_only=True)
class TaskCrashed(Event):
    """A session, attempt or service crashed and was contained."""

    type = "task.crashed"
    level = "error"
    task: str
    error: str
    session: str = ""
    message: str = ""


@attrs.frozen(slots=True, kw_only=True)
class PluginCallFailed(Event):
    """A plugin gave no answer; what the configuration says for that was decided."""

    type = "plugin.failed"
    level = "error"
    plugin: str
    hook: str
    kind: str
    """`error`, `timeout` or `crash`."""
    detail: str
    session: str = ""
    message: str = ""


@attrs.frozen(slots=True, kw_only=True)
class PluginSuspended(Event):
    """A plugin failed so often that it is not asked for a while; `on_crash` decides meanwhile."""

    type = "plugin.suspended"
    level = "error"
    plugin: str
    seconds: float
    detail: str
    """Of its last failure."""


@attrs.frozen(slots=True, kw_only=True)
class PluginResumed(Event):
    """A plugin that was suspended is asked again."""

    type = "plugin.resumed"
    plugin: str


@attrs.frozen(slots=True, kw_only=True)
class PluginStalled(Event):
    """A plugin in the loop computed without an await, and everything else had to wait."""

    type = "plugin.stalled"
    level = "error"
    plugin: str
    place: str
    """File and line at which it was found."""
    seconds: float
    """For how long, when it was found."""
    action: str
    """What follows: `tell`, `suspend` or `process`."""


@attrs.frozen(slots=True, kw_only=True)
class PluginChanged(Event):
    """An operator took a plugin into service, out of it, or had its file loaded again."""

    type = "plugin.changed"
    plugin: str
    change: str
    """`enabled`, `disabled`, `reloaded`, or `moved` into processes of its own."""


@attrs.frozen(slots=True, kw_only=True)
class PluginDecided(Event):
    """A plugin decided something, or changed a message. In shadow mode: would have, and nobody heeded it."""

    type = "plugin.decided"
    plugin: str
    hook: str
    decision: str
    """`Reject`, `Hold` …; `Continue` where it only changed something."""
    reason: str
    changes: str
    """Which, in words; empty: none."""
    shadow: bool = False
    session: str = ""
    message: str = ""


@attrs.frozen(slots=True, kw_only=True)
class StorageTrouble(Event):
    type = "storage.trouble"
    level = "error"
    what: str
    """`full`, `slow`, `unavailable`, `corrupt`, `recovered`; `lease-lost`: a result came after its recipient
    was given to someone else; `record`: a result could not be written; `handover`: a stored message could
    not be given to the queue and waits for its lease to end; `note`: what start-up says of the spool;
    `memo-unusable`, `memo-damaged`, `memo-recovered`, `memo-crashed`: of the memo, which holds hints only."""
    detail: str
    message: str = ""


@attrs.frozen(slots=True, kw_only=True)
class ClockChanged(Event):
    """The wall clock was set; what waits in the queue waits on for as long as it was meant to."""

    type = "clock.changed"
    level = "warning"
    seconds: float
    """Forward, or back where below 0."""
    moved: int
    """Recipients whose due time was moved along."""
