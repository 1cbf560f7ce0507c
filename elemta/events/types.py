"""What happens, as frozen values. Each has a `type` that users filter by; the fields are its JSON."""

from __future__ import annotations

from typing import ClassVar

import attrs


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
    type = "server.reloaded"
    changed: tuple[str, ...]
    error: str = ""


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
    """`quit`, `eof`, `timeout`, `errors`, `drain`, `reset`, `crash`, `tls` …"""
    seconds: float
    commands: int
    messages: int
    errors: int
    octets_in: int


@attrs.frozen(slots=True, kw_only=True)
class SessionRefused(Event):
    """A connection that was turned away before it became a session."""

    type = "session.refused"
    listener: str
    peer: str
    reason: str


@attrs.frozen(slots=True, kw_only=True)
class SessionTls(Event):
    type = "session.tls"
    session: str
    version: str
    cipher: str


@attrs.frozen(slots=True, kw_only=True)
class CommandRejected(Event):
    """A command was answered 4yz or 5yz."""

    type = "command.rejected"
    level = "info"
    session: str
    verb: str
    reply: str
    sender: str = ""
    recipient: str = ""


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
class TaskCrashed(Event):
    """A session, attempt or service crashed and was contained."""

    type = "task.crashed"
    level = "error"
    task: str
    error: str
    session: str = ""
    message: str = ""


@attrs.frozen(slots=True, kw_only=True)
class StorageTrouble(Event):
    type = "storage.trouble"
    level = "error"
    what: str
    """`full`, `slow`, `unavailable`, `corrupt`, `recovered`."""
    detail: str
    message: str = ""
