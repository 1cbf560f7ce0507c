"""Every setting: frozen sections with a default that is safe on the open internet, a unit, a sentence.

Durations are seconds, sizes are octets, paths are relative to the working directory. The sentence
under a field is its documentation everywhere: `elemta config show`, the JSON Schema, the reference.
The rules in a field's type hold for files; values made in code are not checked again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import attrs

from elemta.mail import Domain

from .choices import (
    LineEndPolicy,
    ListenerAuth,
    ListenerRole,
    ListenerTls,
    LogFormat,
    LogLevel,
    RouteTls,
    TransportKind,
)
from .kinds import (
    HOSTNAME,
    IPV4,
    IPV6,
    MAILBOX,
    MAILDIR_PATH,
    NAME,
    NEXT_HOP,
    ByteSize,
    Duration,
    NotTheInternet,
    NotYet,
    Range,
    Reachable,
)
from .units import DomainPattern, HostPort, Network, RoutePattern

MIB = 1024 * 1024

Wait: TypeAlias = Annotated[Duration, Range(minimum=0.001)]
Count: TypeAlias = Annotated[int, Range(minimum=1)]
Port: TypeAlias = Annotated[int, Range(minimum=1, maximum=65535)]

PLANNED_SECTIONS = ("auth", "policy", "signing", "plugins")
"""First-level names that a later version will have: refused with that explanation."""


@attrs.frozen
class ListenerConfig:
    """One address to listen on."""

    name: Annotated[str, NAME]
    """Appears in logs, metrics and policy; unique."""
    address: HostPort
    """`127.0.0.1:2525`, `[::]:25`, or a bare `:25` for both families; port 0 takes any free one."""
    role: ListenerRole = ListenerRole.MX
    """`mx` takes mail for our domains, `submission` from our users, `lmtp` speaks LMTP."""
    tls: ListenerTls = ListenerTls.OFF
    """`off`, `starttls` or `implicit`; the last two need [tls]."""
    auth: Annotated[ListenerAuth, NotYet("optional", "required")] = ListenerAuth.OFF
    """Whether clients log in. With `off`, only those in relay.networks may send anywhere."""
    proxy_protocol: Annotated[bool, NotYet(True)] = False
    """Expect a PROXY header from a load balancer in front."""


@attrs.frozen
class TlsConfig:
    """The server's certificate; read again when the files change."""

    certificate: Path | None = None
    """PEM file with the certificate and its chain."""
    key: Path | None = None
    """PEM file with the private key."""


@attrs.frozen
class DomainsConfig:
    """Domains this server is responsible for; mail for others is refused, except from relay.networks."""

    local: tuple[Domain, ...] = ()
    """Accepted for delivery here; each needs a route."""
    relay: tuple[DomainPattern, ...] = ()
    """Accepted and passed on; `*.example.org` means all its subdomains."""


@attrs.frozen
class RelayConfig:
    """Who may send anywhere without authentication."""

    networks: tuple[Annotated[Network, NotTheInternet()], ...] = ()
    """Client networks, such as `127.0.0.0/8`. Empty: nobody."""


@attrs.frozen
class RouteConfig:
    """Where matching recipients go; the first match wins, without one the MX of the domain."""

    match: RoutePattern
    """A domain, `*.example.org` (its subdomains), an address, or `*`."""
    transport: Annotated[TransportKind, NotYet("pipe", "http")] = TransportKind.SMTP
    """`smtp`, `lmtp`, `maildir` or `discard` (accept and forget)."""
    host: Annotated[str, NEXT_HOP] | None = None
    """Fixed next hop for smtp and lmtp, a name or an address; smtp without it asks for the MX."""
    port: Port | None = None
    """Port of the next hop; default 24 for lmtp, 25 for smtp, and delivery.port where the MX is asked."""
    tls: RouteTls = RouteTls.OPPORTUNISTIC
    """What smtp and lmtp ask of the next hop: `none` never uses TLS, `opportunistic` where it is offered,
    `required` always, `verified` with a certificate that proves the name."""
    path: Annotated[str, MAILDIR_PATH] | None = None
    """Folder for maildir; `{domain}` and `{local_part}` are filled in."""


@attrs.frozen
class QueueConfig:
    """When to try again and when to give up."""

    # Waits of a second are for tests; a server that hammers its peers gets blocked by them.
    retry: tuple[Annotated[Duration, Range(minimum=1)], ...] = (300.0, 600.0, 1200.0, 2400.0, 4800.0, 7200.0)
    """Waits between attempts; the last one repeats (RFC 5321 4.5.4.1)."""
    retry_jitter: Annotated[float, Range(minimum=0, maximum=0.5)] = 0.1
    """Part of each wait by which it varies at random, so that failures do not come back in step."""
    lifetime: Wait = 5 * 86400.0
    """After this the sender is told that it failed."""
    bounce_lifetime: Wait = 86400.0
    """The same for notices (null sender), which then end without one."""
    delay_notice: Duration = 4 * 3600.0
    """When the sender is told once that it is late; `0s` never."""
    lease: Annotated[Duration, Range(minimum=1)] = 900.0
    """How long an attempt may hold a recipient before another process may take it."""
    active_messages: Count = 20000
    """Messages in memory at once; the rest waits in the spool."""
    active_bytes: Annotated[ByteSize, Range(minimum=1)] = 64 * MIB
    """Bodies kept in memory between acceptance and first attempt."""


@attrs.frozen
class DeliveryConfig:
    """How next hops are treated."""

    initial_concurrency: Count = 5
    """Connections to a destination that has not shown what it bears."""
    concurrency: Count = 20
    """Most connections to one destination."""
    recipients_per_transaction: Count = 50
    """Most recipients in one transaction to a next hop."""
    messages_per_connection: Count = 1000
    """Most messages sent over one connection; then it is closed."""
    connection_lifetime: Wait = 300.0
    """A kept connection is closed after this."""
    idle: Duration = 10.0
    """How long a connection is kept without work."""
    mx_hosts: Count = 5
    """Most addresses tried in one attempt."""
    source_ipv4: Annotated[str, IPV4] | None = None
    """Local address for outgoing IPv4 connections; without it the system chooses."""
    source_ipv6: Annotated[str, IPV6] | None = None
    """Local address for outgoing IPv6 connections; without it the system chooses."""
    ipv6: bool = True
    """Whether IPv6 next hops are tried."""
    port: Port = 25
    """Port of MX hosts; anything but 25 is for tests."""
    max_hops: Annotated[int, Range(minimum=10, maximum=1000)] = 50
    """Received fields after which a message is seen as looping (RFC 5321 6.3)."""


@attrs.frozen
class DnsConfig:
    """The resolver."""

    nameservers: tuple[Annotated[HostPort, Reachable()], ...] = ()
    """Addresses with ports, such as `127.0.0.1:53`; empty: those of /etc/resolv.conf."""
    query_timeout: Wait = 5.0
    """For one query to one server."""
    timeout: Wait = 15.0
    """For one answer with all retries."""
    cache_entries: Count = 20000
    """Most answers remembered; the least recently used go first."""
    min_ttl: Duration = 5.0
    """Shortest time an answer is kept, whatever its TTL."""
    max_ttl: Duration = 86400.0
    """Longest time an answer is kept, whatever its TTL."""
    negative_ttl: Duration = 300.0
    """Longest time that 'no such name' is believed."""
    failure_ttl: Duration = 5.0
    """How long a SERVFAIL or time-out is remembered."""


@attrs.frozen
class LimitsConfig:
    """What one client, session or message may take (RFC 5321 4.5.3)."""

    message_size: Annotated[ByteSize, Range(minimum=65536, because="RFC 5321 4.5.3.1.7")] = 50 * MIB
    """Largest message, announced as SIZE (RFC 1870)."""
    recipients: Annotated[int, Range(minimum=100, because="RFC 5321 4.5.3.1.8")] = 1000
    """Most recipients in one transaction; the rest is deferred with 452."""
    messages_per_session: Count = 1000
    """Most messages in one session, then 421; the client comes back."""
    command_line: Annotated[int, Range(minimum=512, maximum=65536, because="RFC 5321 4.5.3.1.4")] = 4096
    """Longest command in octets with CRLF; extensions need more than the 512 of the standard."""
    text_line: Annotated[int, Range(minimum=1000, or_zero=True, because="RFC 5321 4.5.3.1.6")] = 0
    """Longest line of a message in octets with CRLF; 0: no limit."""
    header_size: Annotated[ByteSize, Range(minimum=4096)] = 1 * MIB
    """Largest header of a message."""
    sessions: Count = 5000
    """At once in this process."""
    sessions_per_client: Count = 50
    """At once from one IPv4 address or IPv6 /64; relay networks are exempt."""
    errors: Count = 20
    """Bad commands and refused recipients in a session, then 421."""
    soft_errors: Annotated[int, Range(minimum=0)] = 10
    """From here on each error reply is held back for `error_delay`."""
    error_delay: Annotated[Duration, Range(maximum=60)] = 1.0
    """How long an error reply is held back, to slow down those who guess."""
    junk_commands: Count = 100
    """NOOP, RSET, VRFY, HELP and such in a session, then 421."""
    line_ends: LineEndPolicy = LineEndPolicy.REJECT
    """`reject` or `repair` a message with bare CR or LF; they never end a message either way."""


@attrs.frozen
class TimeoutsConfig:
    """Every wait; the phases of the client are the minimums of RFC 5321 4.5.3.2."""

    tls_handshake: Wait = 30.0
    """Server: TLS handshake."""
    command: Wait = 300.0
    """Server: next command (RFC 5321 4.5.3.2.7)."""
    body_idle: Wait = 300.0
    """Server: more of the body."""
    body_rate: ByteSize = 500
    """Server: a body that comes slower than this many octets a second, over a minute, is ended; 0: never."""
    write: Wait = 60.0
    """Server: until a reply is taken."""
    transaction: Wait = 1800.0
    """Server: from MAIL to the final reply."""
    session: Wait = 7200.0
    """Server: a whole session, whatever the client does."""
    final_reply: Wait = 30.0
    """Server: until the reply to a stored message is taken, even when shutting down."""
    connect: Wait = 30.0
    """Client: TCP connection to one address."""
    greeting: Wait = 300.0
    """Client: the 220 of the next hop (RFC 5321 4.5.3.2.1)."""
    hello: Wait = 300.0
    """Client: reply to EHLO, HELO or LHLO."""
    starttls: Wait = 60.0
    """Client: STARTTLS with its handshake."""
    mail: Wait = 300.0
    """Client: reply to MAIL (RFC 5321 4.5.3.2.2)."""
    rcpt: Wait = 300.0
    """Client: reply to RCPT (RFC 5321 4.5.3.2.3)."""
    data: Wait = 120.0
    """Client: reply to DATA (RFC 5321 4.5.3.2.4)."""
    block: Wait = 180.0
    """Client: until a block of the body is taken (RFC 5321 4.5.3.2.5)."""
    final_dot: Wait = 600.0
    """Client: reply to the final dot (RFC 5321 4.5.3.2.6); less brings duplicates."""
    rset: Wait = 20.0
    """Client: reply to RSET between two messages."""
    quit: Wait = 5.0
    """Client: QUIT and closing."""
    attempt: Wait = 3600.0
    """Client: a whole attempt, whatever its phases."""
    stuck: Wait = 900.0
    """A dispatcher without progress is ended."""
    drain: Wait = 30.0
    """From the stop signal to the end, hard cancel included."""
    hard_cancel: Wait = 5.0
    """The last part of `drain`, in which everything is cancelled."""


@attrs.frozen
class SpoolConfig:
    """Where messages are safe."""

    inline_size: Annotated[ByteSize, Range(maximum=16 * MIB)] = 256 * 1024
    """Bodies up to this are kept in the database, larger ones as files."""
    min_free: ByteSize = 0
    """Free space below which new mail is refused with 452; 0: the larger of 1.5 × message_size and 5 %, at
    most 1 GiB."""
    ballast: ByteSize = 4 * MIB
    """A file that is given up when the disk is full, so that completions can still be written."""
    alarm: Wait = 5.0
    """A commit that takes longer is reported."""


@attrs.frozen
class AdminConfig:
    """The port to look and steer."""

    address: HostPort | None = None
    """`127.0.0.1:8025`; without it only the socket in the state folder."""
    token_file: Path | None = None
    """Default: `admin.token` in the state folder, made at the first start."""


@attrs.frozen
class LoggingConfig:
    """What is written to standard error."""

    format: LogFormat = LogFormat.JSON
    """`json` for programs or `console` for people."""
    level: LogLevel = LogLevel.INFO
    """`debug`, `info`, `warning` or `error`."""


@attrs.frozen
class Config:
    """The whole configuration."""

    hostname: Annotated[str, HOSTNAME]
    """Our full name in banner, EHLO and trace fields; should resolve to this machine."""
    state_dir: Path = Path("var")
    """Spool, caches, locks."""
    postmaster: Annotated[str, MAILBOX] | None = None
    """Where mail for the bare `<postmaster>` goes; default postmaster@hostname."""
    listeners: tuple[ListenerConfig, ...] = ()
    """Addresses to listen on; a server needs at least one."""
    tls: TlsConfig = TlsConfig()
    """The server's certificate."""
    domains: DomainsConfig = DomainsConfig()
    """Domains this server is responsible for."""
    relay: RelayConfig = RelayConfig()
    """Who may send anywhere without authentication."""
    routes: tuple[RouteConfig, ...] = ()
    """Where recipients go; the first match wins, without one the MX of the domain."""
    queue: QueueConfig = QueueConfig()
    """When to try again and when to give up."""
    delivery: DeliveryConfig = DeliveryConfig()
    """How next hops are treated."""
    dns: DnsConfig = DnsConfig()
    """The resolver."""
    limits: LimitsConfig = LimitsConfig()
    """What one client, session or message may take."""
    timeouts: TimeoutsConfig = TimeoutsConfig()
    """Every wait."""
    spool: SpoolConfig = SpoolConfig()
    """Where messages are safe."""
    admin: AdminConfig = AdminConfig()
    """The port to look and steer."""
    logging: LoggingConfig = LoggingConfig()
    """What is written to standard error."""


SECTIONS: tuple[type, ...] = (
    Config,
    ListenerConfig,
    TlsConfig,
    DomainsConfig,
    RelayConfig,
    RouteConfig,
    QueueConfig,
    DeliveryConfig,
    DnsConfig,
    LimitsConfig,
    TimeoutsConfig,
    SpoolConfig,
    AdminConfig,
    LoggingConfig,
)
for _section in SECTIONS:
    attrs.resolve_types(_section)  # the types hold the rules: from here on they are objects, not text
