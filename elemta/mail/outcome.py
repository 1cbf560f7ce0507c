"""What happened to one recipient in one attempt."""

from __future__ import annotations

import enum
from typing import TypeAlias

import attrs

from .reply import Reply


class Cause(enum.StrEnum):
    """Why a recipient waits or failed, for machines: metrics, filters, per-reason schedules."""

    REMOTE_REPLY = "remote-reply"
    """The next hop said so in a reply."""
    CONNECT = "connect"
    """No address of the next hop took a connection."""
    TIMEOUT = "timeout"
    """A phase or the whole attempt ran past its deadline."""
    CONNECTION_LOST = "connection-lost"
    PROTOCOL = "protocol"
    """The next hop sent something that is no SMTP."""
    DNS = "dns"
    """DNS gave no usable answer for now."""
    NO_SUCH_DOMAIN = "no-such-domain"
    NULL_MX = "null-mx"
    """RFC 7505: the domain takes no mail."""
    LOOP = "loop"
    """The best next hop is this server, or the message was here too often."""
    TLS = "tls"
    """The handshake came to nothing."""
    TLS_NOT_OFFERED = "tls-not-offered"
    """The next hop has no STARTTLS, or not now, and mail may not go without."""
    CERTIFICATE = "certificate"
    """The next hop did not prove who it is."""
    LOGIN = "login"
    """The next hop did not take our account."""
    UNKNOWN_AFTER_DOT = "unknown-after-dot"
    """The final dot was sent and no reply came: it may have been delivered (RFC 1047)."""
    UNSUPPORTED = "unsupported"
    """The next hop lacks an extension that the message needs."""
    LOCAL = "local"
    """Storage or rights on this machine."""
    CORRUPT = "corrupt"
    """The stored body does not match its digest."""
    INTERNAL = "internal-error"
    SHUTDOWN = "shutdown"
    BUSY = "busy"
    """Our own limits for that destination were reached."""
    RATE = "rate"
    """Its turn by the rates of that destination comes later."""
    PAUSED = "paused"
    """An operator, or a reply about our reputation, paused its sender, domain or route."""
    FUTURE_RELEASE = "future-release"
    """It waits for the time that its sender set (RFC 4865)."""
    PLUGIN = "plugin"
    """A plugin decided so, or gave no answer and this was to be decided then."""
    EXPIRED = "expired"
    OPERATOR = "operator"


@attrs.frozen(slots=True)
class Relay:
    """A server that took a message to pass it on, and which of the sender's wishes it was told."""

    dsn: bool = False
    """It offers DSN and got what was asked for: notices of success are its duty (RFC 3461 §5.2.1)."""
    deliver_by: bool = False
    """It offers DELIVERBY and got the deadline (RFC 2852 §4)."""


@attrs.frozen(slots=True)
class Delivered:
    """The next hop took responsibility."""

    reply: Reply
    remote: str = ""
    """Who said so, as `host[address]:port`, or the transport's own word such as a folder."""
    from_remote: bool = False
    """Whether `reply` is the remote's own word (a notice quotes it as smtp Diagnostic-Code)."""
    relay: Relay | None = None
    """Where it was passed on; `None`: it is in a mailbox, which is final delivery."""


@attrs.frozen(slots=True)
class Deferred:
    """Not now; try again later."""

    cause: Cause
    reply: Reply
    """The remote's reply, or ours in the same form: always 4yz."""
    remote: str = ""
    from_remote: bool = False
    """Whether `reply` is the remote's own word (a notice quotes it as smtp Diagnostic-Code)."""
    detail: str = ""
    """For the operator only: the local error behind it."""


@attrs.frozen(slots=True)
class Failed:
    """Never; tell the sender."""

    cause: Cause
    reply: Reply
    """The remote's reply, or ours in the same form: always 5yz."""
    remote: str = ""
    from_remote: bool = False
    detail: str = ""


Outcome: TypeAlias = Delivered | Deferred | Failed
