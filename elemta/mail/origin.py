"""Where a message came from: peer, hello name, TLS, authenticated identity (never a secret)."""

from __future__ import annotations

import attrs


@attrs.frozen(slots=True)
class Identity:
    """Who the client proved to be."""

    name: str
    mechanism: str


@attrs.frozen(slots=True)
class TlsFacts:
    """What was negotiated, for trace fields, logs and policy."""

    version: str
    cipher: str
    verified: bool = False
    """Whether the peer's certificate was checked and matched."""
    peer_name: str = ""
    """Whom a client's verified certificate names: its mail address, else host name, else common name."""
    end_point: bytes | None = attrs.field(default=None, repr=False)
    """Channel binding `tls-server-end-point`: the hash of the server's certificate (RFC 5929 §4)."""
    unique: bytes | None = attrs.field(default=None, repr=False)
    """Channel binding `tls-unique`: the first Finished message (RFC 5929 §3). None: it proves nothing."""


@attrs.frozen(slots=True)
class Origin:
    """The client and its session, as stored beside each message."""

    session: str
    peer: str
    """The client's address as text, IPv4-mapped IPv6 unmapped; `local` for what this server made itself."""
    port: int = 0
    hello: str = ""
    """The argument of HELO, EHLO or LHLO."""
    protocol: str = "SMTP"
    """The `with` word of Received (RFC 3848): SMTP, ESMTP, ESMTPS, ESMTPSA, LMTP …"""
    listener: str = ""
    tls: TlsFacts | None = None
    identity: Identity | None = None
    traceparent: str = ""
    """W3C Trace Context of the request that the message came with, for events; empty: none."""
