"""What goes in and out of an exchange: the client's situation, challenges, verdicts."""

from __future__ import annotations

from typing import TypeAlias

import attrs

from elemta.mail import Identity, Reply


@attrs.frozen(slots=True)
class AuthClient:
    """The client of one session, as far as authentication depends on it. Make a new one after STARTTLS."""

    peer: str
    """Its address as text, IPv4-mapped IPv6 unmapped."""
    tls: bool
    """Whether the connection is private by now."""
    channel_binding: bytes | None = attrs.field(default=None, repr=False)
    """`tls-server-end-point` of this connection (RFC 5929 §4), see `server_end_point`; None: not known."""
    loopback: bool = False
    """Whether the connection does not leave this machine."""
    tls_exporter: bytes | None = attrs.field(default=None, repr=False)
    """`tls-exporter` of this connection (RFC 9266), where the TLS library gives it."""
    tls_unique: bytes | None = attrs.field(default=None, repr=False)
    """`tls-unique` of this connection (RFC 5929 §3); None under TLS 1.3 and in a session that was resumed."""
    certificate: str | None = None
    """The account that a verified client certificate stands for; EXTERNAL is offered only with it."""


@attrs.frozen(slots=True)
class Challenge:
    """Send 334 with this in base64, and give the client's answer to the next step."""

    data: bytes = attrs.field(repr=False)


@attrs.frozen(slots=True)
class Accepted:
    """The client is who it says: send `replies.AUTHENTICATED`. The exchange is over."""

    identity: Identity
    credential: str = "password"
    """What it was proved with, for logs: `password`, `app:LABEL`, `certificate` or `token`."""


@attrs.frozen(slots=True)
class Refused:
    """Send the reply. The exchange is over; the session may begin another one."""

    reply: Reply
    reason: str
    """For logs and events: one of a few fixed phrases, never what the client sent."""
    account: str = ""
    """The name that was claimed, escaped and shortened for logs; empty where none was said, or what was said
    looks like none."""


Step: TypeAlias = Challenge | Accepted | Refused
