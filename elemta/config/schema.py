"""Every setting: frozen sections with a default that is safe on the open internet, a unit, a sentence.

Durations are seconds, sizes are octets, paths are relative to the working directory. The sentence
under a field is its documentation everywhere: `elemta config show`, the JSON Schema, the reference.
The rules in a field's type hold for files; values made in code are not checked again.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, TypeAlias

import attrs

from elemta.mail import Domain

from .choices import (
    AuthMechanism,
    BreakerAction,
    Canonicalization,
    CheckAction,
    FallbackCause,
    GreylistAction,
    Isolation,
    LineEndPolicy,
    ListenerAuth,
    ListenerRole,
    ListenerTls,
    LogFacility,
    LogFormat,
    LogLevel,
    LogTarget,
    MessageAction,
    NulPolicy,
    OnFailure,
    OnStall,
    QuotaAction,
    QuotaOf,
    RateOf,
    RatePer,
    RefuseAt,
    ReverseDnsNeed,
    RouteTls,
    SigningAlgorithm,
    SyslogProtocol,
    TlsVersion,
    TransportKind,
    VerificationUnknown,
)
from .kinds import (
    ACCOUNT_FILTER,
    ARGUMENT,
    DIRECTORY_URL,
    EVENT_TYPES,
    FIELD_NAME,
    HOSTNAME,
    IPV4,
    IPV6,
    MAILBOX,
    MAILDIR_PATH,
    NAME,
    NEXT_HOP,
    SELECTOR,
    SERVICE_URL,
    ByteSize,
    Duration,
    NotTheInternet,
    Range,
    Reachable,
    Table,
)
from .units import AnswerRange, ByteRate, DomainPattern, HostPattern, HostPort, Network, Rate, RoutePattern

MIB = 1024 * 1024

Wait: TypeAlias = Annotated[Duration, Range(minimum=0.001)]
Count: TypeAlias = Annotated[int, Range(minimum=1)]
Port: TypeAlias = Annotated[int, Range(minimum=1, maximum=65535)]

LOOPBACK_NETWORKS: tuple[Network, ...] = tuple(map(ipaddress.ip_network, ("127.0.0.0/8", "::1/128")))
"""This machine."""
UNUSED_NETWORKS: tuple[Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in (
        # RFC 6890: this host, private use, shared (RFC 6598), loopback, link-local
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "::/128",
        "::1/128",
        "fc00::/7",
        "fe80::/10",
    )
)
"""Where no mail host of the internet can be."""

PLANNED_SECTIONS: tuple[str, ...] = ()
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
    auth: ListenerAuth = ListenerAuth.OFF
    """Whether clients log in: `off`, `optional`, or `required` before they may send, also of those in
    relay.networks. With `off`, only those in relay.networks may send anywhere."""
    client_certificates: bool = False
    """Ask clients for a certificate, which must be one of tls.client_authorities where one is shown."""
    proxy_protocol: bool = False
    """Expect a PROXY header from a load balancer in front, one of proxies.proxy_protocol; connections without
    one are closed."""
    vrfy: bool = False
    """Whether VRFY tells those who may relay which addresses are ours; all others always get 252."""
    message_size: Annotated[ByteSize, Range(minimum=65536, because="RFC 5321 4.5.3.1.7")] | None = None
    """Largest message here; default limits.message_size, and not more than that."""
    recipients: Annotated[int, Range(minimum=100, because="RFC 5321 4.5.3.1.8")] | None = None
    """Most recipients in one transaction here; default limits.recipients."""
    future_release: Annotated[Duration, Range(maximum=365 * 86400)] | None = None
    """How long our users may have a message held back here (FUTURERELEASE, RFC 4865), which is an extension
    for submission: default limits.future_release where the role is `submission`, else `0s`: not offered."""


@attrs.frozen
class CertificateConfig:
    """A further certificate, for clients that ask for one of the names in it (SNI, RFC 6066 3)."""

    certificate: Path
    """PEM file with the certificate and its chain."""
    key: Path
    """PEM file with the private key."""


@attrs.frozen
class TlsConfig:
    """The server's certificates; read again when the files change."""

    certificate: Path | None = None
    """PEM file with the certificate and its chain."""
    key: Path | None = None
    """PEM file with the private key."""
    minimum_version: TlsVersion = TlsVersion.TLS_1_2
    """The oldest TLS spoken with clients: `1.2` or `1.3`."""
    client_authorities: Path | None = None
    """PEM file of the authorities that sign certificates of clients; for listeners.client_certificates."""
    handshakes: Count = 100
    """Handshakes at once; more wait for their turn, within timeouts.tls_handshake."""
    check_interval: Annotated[Duration, Range(minimum=1)] = 30.0
    """How often it is looked whether the files have changed."""
    ticket_lifetime: Annotated[Duration, Range(minimum=60)] = 6 * 3600.0
    """How long the keys of session tickets are used before they are replaced (RFC 5077 5.5)."""
    certificates: tuple[CertificateConfig, ...] = ()
    """Further certificates, chosen by the name that a client asks for; the one above serves all others."""


@attrs.frozen
class HttpAccountsConfig:
    """Accounts from a web service, which is shown each password; docs/accounts.md says what it is asked."""

    url: Annotated[str, SERVICE_URL] | None = None
    """Where it is asked, `https://…`; default: the accounts are elsewhere."""
    secret: Path | None = None
    """File with what we show it as bearer token, readable by its owner only; default nothing."""
    authorities: Path | None = None
    """PEM file with the authorities that may vouch for the host; default those of the system."""
    timeout: Annotated[Duration, Range(minimum=1, maximum=60)] = 5.0
    """For one question; if that is late, the client is told to try later (454)."""
    scram: bool = False
    """Whether its answers have keys for SCRAM; without them SCRAM is not offered."""


@attrs.frozen
class LdapConfig:
    """Accounts from an LDAP directory: a search finds who it is, a bind as that entry checks the password.
    Needs the extra `elemta[ldap]`. SCRAM and CRAM-MD5 are not offered, as a directory keeps its secrets."""

    server: Annotated[str, DIRECTORY_URL] | None = None
    """Who is asked, `ldaps://…` or `ldap://…`; default: the accounts are elsewhere."""
    starttls: bool = True
    """Go on under TLS with `ldap://`; `false` is for this machine only."""
    authorities: Path | None = None
    """PEM file with the authorities that may vouch for the host; default those of the system."""
    bind_name: str | None = None
    """Distinguished name of who may search; default nobody in particular."""
    bind_secret: Path | None = None
    """File with the password of `bind_name`, readable by its owner only."""
    base: str | None = None
    """Below which entry the accounts are, such as `ou=people,dc=example,dc=org`."""
    filter: Annotated[str, ACCOUNT_FILTER] = "(mail={name})"
    """Which entry it is; also the place to leave out who may not send. `{local_part}` is what stands before
    the `@`."""
    send_as: str | None = None
    """Attribute with addresses that the account may use as sender, besides its own name; default none."""
    timeout: Annotated[Duration, Range(minimum=1, maximum=60)] = 5.0
    """For one login; if that is late, the client is told to try later (454)."""


@attrs.frozen
class AuthConfig:
    """Accounts, and how clients prove that one is theirs (RFC 4954)."""

    users: Path | None = None
    """File with the accounts, made by `elemta user add`; read again when it changes."""
    database: Path | None = None
    """SQLite file with the accounts, in place of `users`; made by `elemta user add`. For many accounts, or
    other programs that change them."""
    http: HttpAccountsConfig = HttpAccountsConfig()
    """Accounts from a web service."""
    ldap: LdapConfig = LdapConfig()
    """Accounts from an LDAP directory."""
    mechanisms: tuple[AuthMechanism, ...] = (
        AuthMechanism.SCRAM_SHA_256_PLUS,
        AuthMechanism.SCRAM_SHA_256,
        AuthMechanism.PLAIN,
        AuthMechanism.LOGIN,
    )
    """Ways to log in, the best first. PLAIN, LOGIN, EXTERNAL and tokens are offered under TLS only; what a
    client's connection cannot do is left out."""
    loopback_without_tls: bool = False
    """Offer PLAIN and LOGIN without TLS to clients on this machine."""
    recovery_key: Path | None = None
    """Key file for secrets that can be read back, which CRAM-MD5 needs; made by `elemta user`."""
    introspection: Annotated[str, SERVICE_URL] | None = None
    """Where tokens are introspected (RFC 7662), `https://…`: with it OAUTHBEARER and XOAUTH2 can be offered.
    Whose a token is must be an account."""
    introspection_client: str | None = None
    """Name under which we ask there; default no login."""
    introspection_secret: Path | None = None
    """File with the secret of that name, readable by its owner only."""
    introspection_scope: str | None = None
    """What a token must be for, as `mail`; default anything."""
    introspection_claim: str = "username"
    """Which part of the answer names the account, such as `username`, `email` or `sub`."""
    introspection_authorities: Path | None = None
    """PEM file with the authorities that may vouch for the host; default those of the system."""
    introspection_timeout: Annotated[Duration, Range(minimum=1, maximum=60)] = 5.0
    """For one question; if that is late, the client is told to try later (454)."""
    hash_memory: Annotated[ByteSize, Range(minimum=8 * MIB, maximum=1024 * MIB)] = 19 * MIB
    """Memory for one argon2id computation; holds for passwords set from now on."""
    hash_passes: Annotated[int, Range(minimum=1, maximum=20)] = 2
    """Passes of argon2id; holds for passwords set from now on."""
    scram_iterations: Annotated[int, Range(minimum=4096, maximum=10_000_000, because="RFC 7677 4")] = 100_000
    """Iterations of SCRAM-SHA-256, which the client computes; holds for passwords set from now on."""
    hash_threads: Annotated[int, Range(minimum=1, maximum=64)] = 2
    """Passwords that are checked at once, each in a thread."""
    hash_waiting: Count = 100
    """Most checks that wait for a thread; others are told to try later (454)."""
    remember: Duration = 300.0
    """How long a password that was right is known without another argon2id; `0s` never."""
    failure_delay: Annotated[Duration, Range(maximum=30)] = 2.0
    """A refusal is not given before this time is over, whatever the reason."""
    free_failures: Count = 5
    """Failures of an account, address or network before it has to wait between attempts."""
    longest_wait: Annotated[Duration, Range(minimum=1, maximum=86400)] = 3600.0
    """The wait doubles with each failure up to this; an account's own at most to 60 seconds, so that nobody
    can lock another out."""

    @property
    def stores(self) -> tuple[str, ...]:
        """The settings that say where accounts are; one, or without accounts none."""
        settings = {
            "users": self.users,
            "database": self.database,
            "http.url": self.http.url,
            "ldap.server": self.ldap.server,
        }
        return tuple(name for name, value in settings.items() if value is not None)


@attrs.frozen
class DomainsConfig:
    """Domains this server is responsible for; mail for others is refused, except from relay.networks."""

    local: tuple[Domain, ...] = ()
    """Accepted for delivery here; each needs a route."""
    relay: tuple[DomainPattern, ...] = ()
    """Accepted and passed on; `*.example.org` means all its subdomains."""
    recipients: Path | None = None
    """File that says who exists in these domains, and which addresses are aliases; read again at each reload.
    Without it, or for a domain of which it says nothing, everybody exists."""
    table: Path | None = None
    """SQLite file with the same as the recipients file, for what other programs change; `elemta recipients`
    makes it. Each RCPT reads it, so changes hold at once. Lines of the recipients file come first."""
    delimiter: str = "+"
    """What begins the tag in `user+tag`, which is the mailbox of `user` where `user+tag` is not listed
    itself; empty: there are no tags."""


@attrs.frozen
class VerificationConfig:
    """Recipients that are asked for at their next hop before mail for them is taken, so that what it does not
    know is refused at RCPT instead of bounced."""

    domains: tuple[DomainPattern, ...] = ()
    """Which of our domains, local or relay, whose routes are smtp or lmtp. Empty: nobody is asked for."""
    unknown: VerificationUnknown = VerificationUnknown.ACCEPT
    """What becomes of a recipient where the next hop cannot be asked or says neither: `accept` or `defer`."""
    timeout: Annotated[Duration, Range(minimum=1, maximum=240, because="RFC 5321 4.5.3.2.3")] = 20.0
    """Seconds that RCPT waits for the answer; clients wait at least 5 minutes for ours."""
    exists_for: Annotated[Duration, Range(minimum=1)] = 86400.0
    """How long it is remembered that a recipient exists."""
    refused_for: Annotated[Duration, Range(minimum=1)] = 3600.0
    """How long it is remembered that there is none."""
    unknown_for: Annotated[Duration, Range(minimum=1)] = 60.0
    """How long nobody is asked again after a question that got no answer."""
    probes: Count = 20
    """Questions at the same time; with more a recipient counts as unknown."""
    remembered: Count = 10000
    """Recipients that are remembered; the oldest are forgotten first."""


@attrs.frozen
class SrsConfig:
    """Another sender for mail that an alias sends on to somebody else's domain: one of ours, by the Sender
    Rewriting Scheme, so that SPF there finds us allowed to send it, and bounces find their way back."""

    domain: Domain | None = None
    """What such senders end in: one of domains.local, whose SPF record names this server. Without it senders
    stay as they are."""
    secrets: Path | None = None
    """File with a secret in each line, which only the server may read; read again at each reload. The first
    is used, the others are those of earlier times, to be kept for max_age."""
    max_age: Annotated[Duration, Range(minimum=86400, maximum=1000 * 86400)] = 21 * 86400.0
    """How long a bounce to such an address finds its way; to the day."""
    bounces_only: bool = True
    """Whether such an address takes only mail from `<>`, which bounces are."""


@attrs.frozen
class RelayConfig:
    """Who may send anywhere without authentication."""

    networks: tuple[Annotated[Network, NotTheInternet()], ...] = ()
    """Client networks, such as `127.0.0.0/8`. Empty: nobody."""


@attrs.frozen
class ProxiesConfig:
    """Who may say that its connection is another client's. Whoever stands here can pretend to be anybody."""

    proxy_protocol: tuple[Annotated[Network, NotTheInternet()], ...] = LOOPBACK_NETWORKS
    """Load balancers whose PROXY header is believed, on listeners with proxy_protocol."""
    xclient: tuple[Annotated[Network, NotTheInternet()], ...] = ()
    """Mail filters and gateways that may use XCLIENT, and so send as any client and any account."""
    xforward: tuple[Annotated[Network, NotTheInternet()], ...] = ()
    """Mail filters that may tell by XFORWARD where a message came from, for the log."""


@attrs.frozen
class SubmissionConfig:
    """What listeners of the role `submission` mend in messages of our users (RFC 6409 8)."""

    fix_header: bool = True
    """Whether a missing Date or Message-ID is added, and `domain` to addresses that have none."""
    domain: Domain | None = None
    """Completes addresses without a domain; default: the first of domains.local, else hostname."""


@attrs.frozen
class FallbackConfig:
    """Where mail of a route goes when the route itself does not serve: a relay that tries on for us."""

    host: Annotated[str, NEXT_HOP] | None = None
    """The relay, a name or an address; without it there is no fallback."""
    port: Port = 25
    """Its port."""
    tls: RouteTls = RouteTls.OPPORTUNISTIC
    """What is asked of it, as for a route."""
    username: str | None = None
    """Account to log in with there (RFC 4954); needs password_file."""
    password_file: Path | None = None
    """File with the password and nothing else; read for each session."""
    after: Annotated[int, Range(minimum=0)] = 0
    """Attempts that end without success, whatever the cause, before it is used; 0: their number does not
    count."""
    causes: tuple[FallbackCause, ...] = (
        FallbackCause.CONNECT,
        FallbackCause.TIMEOUT,
        FallbackCause.CONNECTION_LOST,
        FallbackCause.DNS,
    )
    """What an attempt ends with that leads there at once. After a final dot without an answer nothing does:
    the message may have been taken."""


@attrs.frozen
class RouteConfig:
    """Where matching recipients go; the first match wins, without one the MX of the domain."""

    match: RoutePattern
    """A domain, `*.example.org` (its subdomains), an address, `local` (all of domains.local), `*`, or
    `quarantine`: what a check with that action has marked, whoever its recipients are, before all others."""
    transport: TransportKind = TransportKind.SMTP
    """`smtp`, `lmtp`, `maildir`, `pipe` (to a program), `http` (POST) or `discard` (accept and forget)."""
    host: Annotated[str, NEXT_HOP] | None = None
    """Fixed next hop for smtp and lmtp, a name or an address; smtp without it asks for the MX."""
    port: Port | None = None
    """Port of the next hop; default 24 for lmtp, 25 for smtp, and delivery.port where the MX is asked."""
    tls: RouteTls = RouteTls.OPPORTUNISTIC
    """What smtp and lmtp ask of the next hop: `none` never uses TLS, `opportunistic` where it is offered,
    `required` always, `verified` with a certificate that proves the name, `dane` with one that meets the TLSA
    records where DNSSEC shows some and else like opportunistic, `dane-only` never without such records."""
    username: str | None = None
    """Account to log in with at the next hop of smtp (RFC 4954); needs password_file."""
    password_file: Path | None = None
    """File with the password and nothing else; read for each session."""
    source: Annotated[str, NAME] | None = None
    """Which of [[sources]] smtp connects from: the name of one, or of a pool; default what [[shaping]] and
    [delivery] say."""
    path: Annotated[str, MAILDIR_PATH] | None = None
    """Folder for maildir; `{domain}` and `{local_part}` are filled in."""
    command: tuple[Annotated[str, ARGUMENT], ...] = ()
    """Program for pipe, by its whole path, and its arguments; no shell reads them. `{recipient}`,
    `{local_part}`, `{domain}`, `{sender}` and `{message}` are filled in. It gets one recipient at a time."""
    memory: Annotated[ByteSize, Range(minimum=MIB)] = 512 * MIB
    """Address space of the program."""
    time_limit: Wait = 120.0
    """How long the program, or the server of http, may take for a message."""
    url: Annotated[str, SERVICE_URL] | None = None
    """Where http posts messages; https, with a certificate that proves the name."""
    key_file: Path | None = None
    """File with the secret that signs what http posts (HMAC-SHA256), at least 16 octets; read for each
    message."""
    fallback: FallbackConfig = FallbackConfig()
    """What cannot go by this route goes there."""


@attrs.frozen
class QueueConfig:
    """When to try again and when to give up."""

    # Waits of a second are for tests; a server that hammers its peers gets blocked by them.
    retry: tuple[Annotated[Duration, Range(minimum=1)], ...] = (300.0, 600.0, 1200.0, 2400.0, 4800.0, 7200.0)
    """Waits between attempts; the last one repeats (RFC 5321 4.5.4.1). Where the next hop did not answer the
    final dot, so that the message may have been taken, two of them are left out."""
    retry_jitter: Annotated[float, Range(minimum=0, maximum=0.5)] = 0.1
    """Part of each wait by which it varies at random, so that failures do not come back in step."""
    lifetime: Wait = 5 * 86400.0
    """After this the sender is told that it failed."""
    bounce_lifetime: Wait = 86400.0
    """The same for notices (null sender), which then end without one."""
    double_bounces: bool = True
    """Whether postmaster gets the notices of ours that reach nobody (he must be a local mailbox or named)."""
    delay_notice: Duration = 4 * 3600.0
    """When the sender is told once that it is late; `0s` never."""
    lease: Annotated[Duration, Range(minimum=1)] = 900.0
    """How long an attempt may hold a recipient before another process may take it."""
    active_messages: Count = 20000
    """Messages in memory at once; the rest waits in the spool."""
    active_bytes: Annotated[ByteSize, Range(minimum=1)] = 64 * MIB
    """Bodies kept in memory between acceptance and first attempt."""
    hold_after_crashes: Annotated[int, Range(minimum=0)] = 3
    """A recipient is held for an operator when so many attempts in a row ended in a crash of the attempt or
    the server, so that no message can bring the server down for ever; 0: never."""
    retention: Duration = 7 * 86400.0
    """How long it is known what became of a message that is gone, for `elemta trace`; `0s` not at all."""
    retention_messages: Count = 500_000
    """At most so many of them, the last ones; each takes about half a KiB of the spool."""


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
    mx_sessions: Count = 2
    """Most sessions in which a message is offered in one attempt: where one ends early or says 4yz, another
    host of the domain is asked at once, as far as mx_hosts goes. 1: never."""
    source_ipv4: Annotated[str, IPV4] | None = None
    """Local address for outgoing IPv4 connections; without it the system chooses."""
    source_ipv6: Annotated[str, IPV6] | None = None
    """Local address for outgoing IPv6 connections; without it the system chooses."""
    source: Annotated[str, NAME] | None = None
    """Which of [[sources]] connections come from, instead of the two above: the name of one, or of a pool."""
    ipv6: bool = True
    """Whether IPv6 next hops are tried."""
    port: Port = 25
    """Port of MX hosts; anything but 25 is for tests."""
    prohibited_networks: tuple[Network, ...] = UNUSED_NETWORKS
    """Never connected to for mail that goes by MX: no stranger's DNS record leads into our networks. Fixed
    hosts of routes are exempt. The default holds for port 25 only, as no other is used but in tests."""
    dane: bool = True
    """Whether hosts of domains whose MX is asked must meet their TLSA records (RFC 7672), also where the
    route says opportunistic or required. Without a validating name server (dns.trust_ad) there are none."""
    mta_sts: bool = False
    """Whether policies of domains whose MX is asked are fetched over HTTPS and obeyed (MTA-STS, RFC 8461).
    They are renewed each day, or after half of their time if that is less, also while there is no mail for
    the domain; one that cannot be renewed holds until its time is over."""
    max_hops: Annotated[int, Range(minimum=10, maximum=1000)] = 50
    """Received fields after which a message is seen as looping (RFC 5321 6.3)."""


@attrs.frozen
class ShapingConfig:
    """How some next hops are treated, instead of what [delivery] says. Of all tables that fit, the most
    specific one that has a setting counts: by `match` before by `mx`, a name before a pattern, the longer
    pattern first."""

    match: HostPattern | None = None
    """The domain whose MX is asked, or the fixed host of a route: `example.org`, `.example.org` (all below
    it) or a glob such as `*.example.*`; without it any."""
    mx: HostPattern | None = None
    """The same of the hosts that the MX names; one of them has to fit."""
    concurrency: Count | None = None
    """Most connections at once."""
    initial_concurrency: Count | None = None
    """Connections at once where it is not known yet what is borne."""
    recipients_per_transaction: Count | None = None
    """Most recipients in one transaction."""
    messages_per_connection: Count | None = None
    """Most messages sent over one connection; then it is closed."""
    connection_lifetime: Wait | None = None
    """A kept connection is closed after this."""
    idle: Duration | None = None
    """How long a connection is kept without work."""
    connection_rate: Rate | None = None
    """Connections in a time, such as `10/1m`: as many may be made at once, then they come back evenly."""
    connection_burst: Count | None = None
    """How many may be made at once, if not as many as `connection_rate` says."""
    message_rate: Rate | None = None
    """Messages in a time (transactions, where a message has many recipients), such as `600/1h`."""
    message_burst: Count | None = None
    """How many may go at once, if not as many as `message_rate` says."""
    byte_rate: ByteRate | None = None
    """Octets of messages in a time, such as `100MiB/1h`. One that is larger than that goes all the same, and
    the next waits the longer."""
    byte_burst: Annotated[ByteSize, Range(minimum=1)] | None = None
    """How many octets may go at once, if not as many as `byte_rate` says."""
    source: Annotated[str, NAME] | None = None
    """Which of [[sources]] connections come from: the name of one, or of a pool."""
    tls: RouteTls | None = None
    """What is asked of the next hop, as in [[routes]], where the route says no more than `opportunistic`."""


@attrs.frozen
class SourceConfig:
    """An address of ours to connect from, or one of each family. Used where a route, [[shaping]] or
    [delivery] names it or a pool that it belongs to."""

    name: Annotated[str, NAME]
    """Unique, also among the pools."""
    ipv4: Annotated[str, IPV4] | None = None
    """For connections over IPv4; without it none are made from here."""
    ipv6: Annotated[str, IPV6] | None = None
    """For connections over IPv6; without it none are made from here."""
    hello: Annotated[str, HOSTNAME] | None = None
    """Our name in EHLO from here, which should be the name of the address in DNS; default hostname."""
    pools: tuple[Annotated[str, NAME], ...] = ()
    """The pools that it belongs to."""
    weight: Annotated[int, Range(minimum=0, maximum=10000)] = 1
    """Its share of the connections of a pool; 0: only where no other can be had."""


@attrs.frozen
class DnsConfig:
    """The resolver."""

    nameservers: tuple[Annotated[HostPort, Reachable()], ...] = ()
    """Addresses with ports, such as `127.0.0.1:53`; empty: those of /etc/resolv.conf."""
    trust_ad: tuple[Annotated[Network, NotTheInternet()], ...] = LOOPBACK_NETWORKS
    """Networks of name servers that validate DNSSEC and are reached over a safe path: where every name server
    in use is in one of them, answers with the AD bit are believed, which is what DANE rests on."""
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
    sessions_per_network: Count = 250
    """At once from one IPv4 /24 or IPv6 /48, and four times as many from an IPv6 /32; relay networks are
    exempt."""
    errors: Count = 20
    """Bad commands and refused recipients in a session, then 421."""
    soft_errors: Annotated[int, Range(minimum=0)] = 10
    """From here on each error reply is held back for `error_delay`."""
    error_delay: Annotated[Duration, Range(maximum=60)] = 1.0
    """How long an error reply is held back, to slow down those who guess."""
    junk_commands: Count = 100
    """NOOP, RSET, VRFY, HELP and such with no message between them, then 421."""
    pipelining_errors: Annotated[int, Range(minimum=0)] = 0
    """How often a client may go on where it has to wait for a reply (RFC 2920 3.1), then 421; 0: always.
    Programs that mean no harm do it, too."""
    future_release: Annotated[Duration, Range(maximum=365 * 86400)] = 30 * 86400.0
    """How long our users may have a message held back (FUTURERELEASE, RFC 4865) where the listener says
    nothing else and its role is `submission`; `0s`: not offered."""
    loop_lag: Duration = 2.0
    """New mail is deferred while the process is on average this late for everything it does; `0s`: never."""
    commit_latency: Duration = 10.0
    """The same while storing a message takes this long on average; `0s`: never."""
    blank_before_path: bool = False
    """Take `MAIL FROM: <…>` with a blank, which RFC 5321 3.3 forbids and some old programs send."""
    line_ends: LineEndPolicy = LineEndPolicy.REJECT
    """`reject` or `repair` a message with bare CR or LF; they never end a message either way."""
    nul: NulPolicy = NulPolicy.REFUSE
    """`refuse` or `repair` a message with NUL, which no text has (RFC 5322 2.3); repaired, each is a `?`.
    BINARYMIME in BDAT may have it."""


@attrs.frozen
class TimeoutsConfig:
    """Every wait; the phases of the client are the minimums of RFC 5321 4.5.3.2."""

    proxy_header: Wait = 10.0
    """Server: the PROXY header of a load balancer."""
    tls_handshake: Wait = 30.0
    """Server: TLS handshake."""
    auth: Wait = 60.0
    """Server: until it is known whether a password is right."""
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
    policy_fetch: Wait = 60.0
    """Client: the MTA-STS policy of a domain over HTTPS (RFC 8461 3.3)."""
    connect: Wait = 30.0
    """Client: TCP connection to one address."""
    greeting: Wait = 300.0
    """Client: the 220 of the next hop (RFC 5321 4.5.3.2.1)."""
    hello: Wait = 300.0
    """Client: reply to EHLO, HELO or LHLO."""
    starttls: Wait = 60.0
    """Client: STARTTLS with its handshake."""
    login: Wait = 60.0
    """Client: each step of a login."""
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
    draft_memory: ByteSize = 128 * MIB
    """Bodies that are being received and kept in memory, in all; beyond that they go to files at once."""
    ballast: ByteSize = 4 * MIB
    """A file that is given up when the disk is full, so that completions can still be written."""
    alarm: Wait = 5.0
    """A commit that takes longer is reported."""


@attrs.frozen
class DnsListZoneConfig:
    """One DNS list (RFC 5782); the same zone may stand here several times, with other answers."""

    zone: Domain
    """The name below which the list is asked, such as `zen.spamhaus.org`."""
    name: Annotated[str, NAME] | None = None
    """What it is called in replies and logs; for zones that have a secret key in their name."""
    weight: Annotated[int, Range(minimum=-1000, maximum=1000)] = 1
    """Added to the score of what is listed; below 0 for lists of good clients."""
    answers: tuple[AnswerRange, ...] = ()
    """The answers that count: `127.0.0.2`, `127.0.0.2-127.0.0.11`, `127.0.2.0/24`. Empty: all that mean
    listed. Codes for errors, such as 127.255.255.254, never count."""


@attrs.frozen
class DnsListsConfig:
    """Lists in DNS of clients or senders that are known."""

    action: CheckAction = CheckAction.OFF
    """What to do with what is listed: `off`, `note`, `defer` or `refuse`."""
    threshold: Annotated[int, Range(minimum=1)] = 1
    """Score from which it counts as listed."""
    lookup_timeout: Wait = 3.0
    """For one list; one that is late does not count."""
    timeout: Wait = 5.0
    """For all lists, which are asked at the same time."""
    zones: tuple[DnsListZoneConfig, ...] = ()
    """The lists to ask. Many may be used freely only up to some size: read their terms."""


@attrs.frozen
class ReverseDnsConfig:
    """Whether the addresses of clients have names (RFC 1912 2.1, RFC 8601 3)."""

    action: CheckAction = CheckAction.OFF
    """What to do with those that have none: `off`, `note`, `defer` or `refuse`."""
    require: ReverseDnsNeed = ReverseDnsNeed.CONFIRMED
    """`name`: any name; `confirmed`: one that leads back to the address."""
    timeout: Wait = 5.0
    """For all lookups of one client; if they are late, `defer` and `refuse` both defer."""


@attrs.frozen
class HelloConfig:
    """What clients call themselves in HELO and EHLO. Honest ones fail these checks, too: note first."""

    own_name: CheckAction = CheckAction.NOTE
    """It says our own name: `off`, `note`, `defer` or `refuse`."""
    # RFC 5321 4.1.4 forbids to refuse mail because a name does not match the address. For literals, too:
    # a client behind address translation does not know its address.
    address_literal: CheckAction = CheckAction.NOTE
    """It says an address in brackets that is not its own; `refuse` is against RFC 5321 4.1.4."""
    unqualified: CheckAction = CheckAction.NOTE
    """It says a name without a dot, such as `localhost`."""
    unresolvable: CheckAction = CheckAction.OFF
    """It says a name that has neither addresses nor an MX in DNS."""
    timeout: Wait = 5.0
    """For the lookups of one name; if they are late, `defer` and `refuse` both defer."""


@attrs.frozen
class GreylistConfig:
    """Unknown clients must come again (RFC 6647). Not for authenticated clients and relay networks."""

    action: GreylistAction = GreylistAction.OFF
    """What to do when client, sender and recipient are new together: `off`, `note` or `defer`."""
    delay: Wait = 300.0
    """How long they must wait before they may come again."""
    window: Wait = 2 * 86400.0
    """How long they may take to do so, counted from the first attempt."""
    lifetime: Wait = 36 * 86400.0
    """How long they are known afterwards, counted from the last message."""
    clients_after: Annotated[int, Range(minimum=0)] = 5
    """A client network that came again for this many messages is no longer asked to; 0: always asked."""
    timeout: Wait = 2.0
    """For looking one up; if that is late, it passes."""


@attrs.frozen
class RateConfig:
    """How fast clients may be. Those in relay.networks have rates of their own (`trusted`). What a rate over
    an hour or more has counted outlives a restart."""

    count: RateOf
    """`connections`, `messages` (MAIL) or `recipients` (RCPT)."""
    limit: Rate
    """Such as `60/1m` or `1000/1h`; as many may come at once, then they come back evenly over the time."""
    per: RatePer = RatePer.ADDRESS
    """Each `address`, `network` (policy.ipv4_network and ipv6_network), `account`, `sender`, `recipient`,
    `domain` (of the recipient) or `route`, or all of a `role` together. Authenticated clients are not counted
    by address and network, and mail without a sender not by sender."""
    burst: Annotated[int, Range(minimum=0)] = 0
    """How many may come at once, if not as many as `limit` says."""
    role: ListenerRole | None = None
    """Only for listeners of this role; without it for all."""
    trusted: bool = False
    """For the clients of relay.networks, in place of all others: so that none of them (a web server that was
    broken into) sends without end."""


@attrs.frozen
class QuotaConfig:
    """How much each account may send; 0 is without a limit. An hour and a day begin with the first message.
    The sums outlive a restart."""

    hourly_messages: Annotated[int, Range(minimum=0)] = 0
    """Messages in an hour."""
    daily_messages: Annotated[int, Range(minimum=0)] = 0
    """Messages in a day."""
    hourly_recipients: Annotated[int, Range(minimum=0)] = 0
    """Recipients in an hour."""
    daily_recipients: Annotated[int, Range(minimum=0)] = 0
    """Recipients in a day: what somebody with a stolen password can do at most."""
    hourly_size: ByteSize = 0
    """Octets of stored messages in an hour; the message that reaches it is still taken."""
    daily_size: ByteSize = 0
    """The same for a day."""
    action: QuotaAction = QuotaAction.DEFER
    """What the account is told then: `defer` (4yz) or `refuse` (5yz)."""

    def limits(self, what: QuotaOf) -> tuple[int, int]:
        """For an hour and for a day."""
        match what:
            case QuotaOf.MESSAGES:
                return self.hourly_messages, self.daily_messages
            case QuotaOf.RECIPIENTS:
                return self.hourly_recipients, self.daily_recipients
            case QuotaOf.OCTETS:
                return self.hourly_size, self.daily_size


@attrs.frozen
class BreakerConfig:
    """When an account does not send like itself, as with a stolen password."""

    action: BreakerAction = BreakerAction.OFF
    """`off`; `note` tells the log and postmaster; `hold` also holds its mail until
    `elemta user release NAME`."""
    recipients: Count = 100
    """Recipients in an hour that are no burst, whatever is usual."""
    factor: Annotated[int, Range(minimum=2, maximum=1000)] = 10
    """More than so many times the usual recipients of an hour are a burst."""
    refused: Annotated[int, Range(minimum=0)] = 50
    """Recipients in an hour that next hops refuse for good, or that we know not to exist; 0: does not
    count."""
    networks: Annotated[int, Range(minimum=0)] = 5
    """Networks in an hour that the account was never seen in (policy.ipv4_network and ipv6_network); 0: does
    not count."""
    trusted: bool = False
    """Watch the clients of relay.networks, too: each address as if it were an account, with the name
    `[192.0.2.1]`. Their networks do not count."""


@attrs.frozen
class SpfConfig:
    """Whether a client was allowed to send as that domain (RFC 7208)."""

    action: MessageAction = MessageAction.NOTE
    """What to do with a message whose sender's domain forbids it (`fail`): `off` (checked only as DMARC needs
    it), `note`, `quarantine`, `defer` or `refuse`. Forwarded mail fails, too: leave that to DMARC, which
    looks at signatures as well."""
    hello_action: MessageAction = MessageAction.NOTE
    """The same for the name that the client calls itself; for mail without a sender, `action` holds."""
    timeout: Annotated[Duration, Range(minimum=1, maximum=60)] = 20.0
    """For all lookups of one name (RFC 7208 4.6.4); if they are late it is `temperror`."""


@attrs.frozen
class DmarcConfig:
    """Whether a message is from the domain in From, and what that domain asks for if not (RFC 9989)."""

    action: MessageAction = MessageAction.NOTE
    """The most that is done with a message that fails: `off`; `note`; `quarantine` what its domain wants
    quarantined or rejected; `defer` or `refuse` what it wants rejected, and quarantine what it wants
    quarantined. Mailing lists make honest mail fail: RFC 9989 7.4 warns of `refuse` for that alone."""
    no_author: MessageAction = MessageAction.NOTE
    """What to do with a message whose From is missing, repeated, unreadable, or has authors of several
    domains, so that it could pretend to be from any of them (RFC 9989 11.5)."""
    domains: Annotated[int, Range(minimum=1, maximum=20)] = 4
    """Most domains of authors that are looked at; what has more is unreadable."""
    timeout: Annotated[Duration, Range(minimum=1, maximum=60)] = 10.0
    """For all lookups of one message; if they are late it is `temperror`."""
    reports: bool = False
    """Whether to tell domains each day what was found about mail in their name, if their record asks for it
    (rua=, RFC 9990). That has addresses of clients and domains in it, no other part of a message."""
    reports_from: Annotated[str, MAILBOX] | None = None
    """From of these reports; default postmaster@hostname. Have a key for it in [[signing]]: reports without a
    signature are often refused."""
    report_rows: Annotated[int, Range(minimum=100, maximum=10_000_000)] = 100_000
    """Most rows that wait for their report, some 500 octets each; what is more is not told."""
    failure_reports: bool = False
    """Whether to tell domains at once of single messages that failed, if their record asks for it (ruf=,
    RFC 9991). That shows From, dates, ids and signatures of the message, and the address of its client."""
    failure_reports_hourly: Annotated[Count, Range(minimum=1, maximum=10_000)] = 10
    """Most of these for one domain; all domains together get ten times as many. What is more is not told."""


@attrs.frozen
class DkimConfig:
    """Signatures of mail that arrives (RFC 6376)."""

    action: MessageAction = MessageAction.NOTE
    """What to do with a message that has signatures of which none is good: `off`, `note`, `quarantine`,
    `defer` or `refuse`. Mailing lists break signatures of honest mail (RFC 6376 6.3): leave that to DMARC."""
    signatures: Annotated[int, Range(minimum=1, maximum=50)] = 8
    """Signatures of one message that are looked at, the topmost first."""
    timeout: Wait = 10.0
    """For the keys of one message, which are asked for at the same time; late ones count as `temperror`."""
    minimum_key: Annotated[int, Range(minimum=1024, maximum=4096, because="RFC 8301 3.2")] = 1024
    """Bits of the shortest RSA key that counts; the longest always has 4096."""
    clock_skew: Annotated[Duration, Range(maximum=86400)] = 300.0
    """How far the clocks of those who sign may be wrong, for signatures that end or are from the future."""
    partial_body: bool = False
    """Whether a signature counts that leaves the end of the body to others (l=, RFC 6376 8.2)."""


@attrs.frozen
class ArcConfig:
    """What those say who passed a message on (RFC 8617), and whether we say it of what we pass on."""

    action: MessageAction = MessageAction.NOTE
    """What to do with a message whose chain is broken: `off`, `note`, `quarantine`, `defer` or `refuse`."""
    timeout: Wait = 10.0
    """For the keys of one message, which are asked for at the same time."""
    trusted: tuple[DomainPattern, ...] = ()
    """Domains whose seals are believed when they say that DMARC was passed before them."""
    seal_domain: Domain | None = None
    """Seal what is passed on as this domain; its key is to be found in DNS. Without it nothing is sealed."""
    seal_selector: Annotated[str, SELECTOR] | None = None
    """Selector of the key to seal with."""
    seal_key: Path | None = None
    """PEM file of the key to seal with, or `credential:NAME`; made by `elemta dkim generate`."""
    seal_headers: tuple[Annotated[str, FIELD_NAME], ...] = ()
    """Header fields that are signed, From always; empty: those that RFC 8617 4.1.2 recommends."""


@attrs.frozen
class SigningConfig:
    """One key that outgoing mail is signed with (DKIM). Of the entries that match, all with the closest
    pattern sign."""

    selector: Annotated[str, SELECTOR]
    """Which of the domain's keys it is: in DNS below `selector._domainkey.domain`."""
    key: Path
    """PEM file of the private key, made by `elemta dkim generate`, or `credential:NAME` of systemd."""
    domain: DomainPattern | None = None
    """Mail from this domain is signed: `example.org`, or `*.example.org` for all below it; default: each of
    domains.local, with the same key. It is the domain in From, which DMARC looks at; where From has none that
    matches, that of the sender's address."""
    algorithm: SigningAlgorithm | None = None
    """`rsa-sha256` or `ed25519-sha256`; default: what the key is for. Receivers that do not know Ed25519
    need a second key."""
    sign_as: Domain | None = None
    """The domain that signs (d=), the same or one above; default: `domain` without its `*.`."""
    canonicalization: Canonicalization = Canonicalization.RELAXED_RELAXED
    """What may change on the way, of header and body: `relaxed` allows for blanks, `simple` for nothing."""
    headers: tuple[Annotated[str, FIELD_NAME], ...] = ()
    """Header fields that are signed, From always; empty: those that RFC 6376 5.4.1 recommends."""
    oversign: bool = True
    """Whether a second Subject, To and such, added later, break the signature (RFC 6376 8.15); a second From
    always does."""
    lifetime: Annotated[Duration, Range(minimum=86400, or_zero=True)] = 0.0
    """How long a signature is valid (x=); `0s`: without end."""

    def patterns(self, local: Iterable[Domain]) -> tuple[DomainPattern, ...]:
        """Whose mail is signed."""
        return (self.domain,) if self.domain is not None else tuple(map(DomainPattern, local))


@attrs.frozen
class PolicyConfig:
    """Which clients and messages are welcome. As it stands messages are checked, and none is refused.

    Rates and early talkers are for all listeners, everything else for those of the role `mx`. Relay
    networks and `exempt` are never checked, authenticated clients only against rates.
    """

    refuse_at: RefuseAt = RefuseAt.RECIPIENT
    """When to refuse for lists, reverse DNS and names: at `recipient`, so that clients may still authenticate
    and postmaster can be reached (RFC 5321 4.5.1), or at `once`."""
    exempt: tuple[Network, ...] = ()
    """Client networks that no check of this section is made for."""
    quarantine_mailbox: Annotated[str, MAILBOX] | None = None
    """Who gets what a check with the action `quarantine` marks, in the place of its recipients, which then
    stand in X-Elemta-Recipient fields. Without one it goes on to them, marked, or by the route whose match is
    `quarantine`."""
    early_talkers: CheckAction = CheckAction.NOTE
    """What to do with clients that send before they are greeted (RFC 5321 4.3.1)."""
    greeting_delay: Annotated[Duration, Range(maximum=60)] = 0.0
    """How long the greeting is held back, to find early talkers; up to a fifth more, at random."""
    ipv4_network: Annotated[int, Range(minimum=8, maximum=32)] = 24
    """Bits that IPv4 clients of one network have in common, for rates and greylisting."""
    ipv6_network: Annotated[int, Range(minimum=16, maximum=128)] = 64
    """The same for IPv6; one customer has a whole /64 at least (RFC 6177)."""
    rate_keys: Annotated[int, Range(minimum=1, maximum=10_000_000)] = 20_000
    """Clients that each rate remembers, some 300 octets for each; those seen longest ago are forgotten."""
    dns_lists: DnsListsConfig = DnsListsConfig()
    """Lists that are asked for the client's address."""
    domain_lists: DnsListsConfig = DnsListsConfig()
    """Lists that are asked for the domain of the sender's address."""
    reverse_dns: ReverseDnsConfig = ReverseDnsConfig()
    """Whether the addresses of clients have names."""
    hello: HelloConfig = HelloConfig()
    """What clients call themselves."""
    greylist: GreylistConfig = GreylistConfig()
    """Whether unknown clients must come again."""
    rates: tuple[RateConfig, ...] = ()
    """How fast clients may be; all that apply must be kept."""
    quota: QuotaConfig = QuotaConfig()
    """How much each account may send in an hour and in a day."""
    relay_quota: QuotaConfig = QuotaConfig()
    """The same for each address in relay.networks."""
    breaker: BreakerConfig = BreakerConfig()
    """When an account does not send like itself."""
    authserv_id: Annotated[str, HOSTNAME] | None = None
    """Our name in Authentication-Results (RFC 8601 2.5); default hostname. What comes with that name is
    forged, and removed."""
    spf: SpfConfig = SpfConfig()
    """Whether clients were allowed to send as the domain of the sender's address."""
    dkim: DkimConfig = DkimConfig()
    """Signatures of mail that arrives."""
    dmarc: DmarcConfig = DmarcConfig()
    """Whether mail is from the domain in From."""
    arc: ArcConfig = ArcConfig()
    """What those say who passed a message on."""


@attrs.frozen
class TlsReportsConfig:
    """What domains learn of how TLS with their hosts went (TLSRPT, RFC 8460)."""

    collect: bool = False
    """Whether sessions with the hosts of MX domains are counted, for `elemta tls report`."""
    send: bool = False
    """Whether domains that ask for it (TXT at `_smtp._tls`) get a report of each day; needs collect."""
    organization: Annotated[str, HOSTNAME] | None = None
    """Who reports; default: hostname."""
    contact: Annotated[str, MAILBOX] | None = None
    """Sender of reports, and whom to ask about them; default: postmaster."""


@attrs.frozen
class HookConfig:
    """What is different for one hook of a plugin. What is not said here is as the plugin's entry says."""

    name: Annotated[str, NAME]
    """The hook, such as `rcpt` or `before_attempt`."""
    enabled: bool = True
    """Whether the plugin is asked or told at it."""
    timeout: Wait | None = None
    """Time for one answer."""
    on_error: OnFailure | None = None
    """Where it raises, or answers nonsense: `defer`, `continue`, `reject` or `hold`."""
    on_timeout: OnFailure | None = None
    """Where it does not answer in time."""
    on_crash: OnFailure | None = None
    """Where it is out of service."""
    before: tuple[Annotated[str, NAME], ...] = ()
    """Plugins that are asked after it at this hook."""
    after: tuple[Annotated[str, NAME], ...] = ()
    """Plugins that are asked before it at this hook."""
    listeners: tuple[Annotated[str, NAME], ...] = ()
    """Ask it only about clients of these listeners."""
    roles: tuple[ListenerRole, ...] = ()
    """Ask it only at listeners of these roles."""
    domains: tuple[DomainPattern, ...] = ()
    """Ask it about recipients only in these domains, and messages with one of them."""
    sample: Annotated[float, Range(minimum=0, maximum=1)] | None = None
    """Share of the sessions it is asked about."""


@attrs.frozen
class PluginConfig:
    """Policy in Python: one plugin, where it runs, and what is decided when it gives no answer."""

    name: Annotated[str, NAME]
    """Appears in logs, metrics and events; unique."""
    path: Path | None = None
    """Its file, or the folder with its plugin.py; default plugins/NAME. Refused where others may write it."""
    module: str | None = None
    """An importable module, or the name of an entry point of `elemta.plugins`, in the place of a path."""
    enabled: bool = True
    """Whether it is loaded."""
    isolation: Isolation = Isolation.TASK
    """`task` in the server's own loop, `process` in two worker processes that are restarted when they die."""
    timeout: Wait = 10.0
    """Time for one answer."""
    on_error: OnFailure = OnFailure.DEFER
    """Where it raises, or answers nonsense: `defer`, `continue`, `reject` or `hold`."""
    on_timeout: OnFailure = OnFailure.DEFER
    """Where it does not answer in time."""
    on_crash: OnFailure = OnFailure.DEFER
    """Where it is out of service."""
    before: tuple[Annotated[str, NAME], ...] = ()
    """Plugins that are asked after it; without, they are asked in the order of this file."""
    after: tuple[Annotated[str, NAME], ...] = ()
    """Plugins that are asked before it."""
    listeners: tuple[Annotated[str, NAME], ...] = ()
    """Ask it only about clients of these listeners; empty: of all."""
    roles: tuple[ListenerRole, ...] = ()
    """Ask it only at listeners of these roles; empty: at all."""
    domains: tuple[DomainPattern, ...] = ()
    """Ask it about recipients only in these domains, and messages with one of them; empty: about all."""
    sample: Annotated[float, Range(minimum=0, maximum=1)] = 1.0
    """Share of the sessions it is asked about."""
    shadow: bool = False
    """Ask it and tell its answers in events, but do not heed them."""
    suspend_after: Annotated[int, Range(minimum=1, or_zero=True)] = 10
    """Failures within a minute after which it is not asked for a while; 0: never."""
    suspend_for: Wait = 300.0
    """How long then; `on_crash` decides meanwhile."""
    stall: Wait = 1.0
    """With `isolation = "task"`: computing without an await, after which a step of it is broken off."""
    on_stall: OnStall = OnStall.SUSPEND
    """What follows then: `suspend`, `process` for going on in worker processes, or only `tell`."""
    workers: Annotated[int, Range(minimum=1, maximum=64)] = 2
    """With `isolation = "process"`: how many processes."""
    memory: ByteSize = 512 * 1024 * 1024
    """With `isolation = "process"`: what each of them may use."""
    hooks: tuple[HookConfig, ...] = ()
    """What is different at single hooks."""
    config: Table = attrs.field(factory=dict)
    """Its own settings."""


@attrs.frozen
class AdminConfig:
    """The port to look and steer."""

    address: HostPort | None = None
    """`127.0.0.1:8025`; without it only the socket in the state folder."""
    token_file: Path | None = None
    """Default: `admin.token` in the state folder, made at the first start."""
    names: tuple[Annotated[str, NEXT_HOP], ...] = ()
    """Names that `Host` may be, of a proxy or service; besides `localhost`, our name and addresses."""
    tail_clients: Annotated[int, Range(minimum=0, maximum=100_000)] = 200
    """Programs and people that may follow the events at the same time."""
    tail_events: Annotated[int, Range(minimum=100, maximum=1_000_000)] = 10_000
    """The last events, kept in memory for who comes later or was away; each recipient of a message counts."""
    flights: Annotated[ByteSize, Range(minimum=0)] = 4 * MIB
    """Memory for what was said in the sessions and attempts that failed, the last ones; `0`: none is kept."""


@attrs.frozen
class LogOutputConfig:
    """A further place that the log goes to."""

    to: LogTarget
    """`file`, `journal` (journald, with a field for each value) or `syslog` (RFC 5424)."""
    format: LogFormat = LogFormat.JSON
    """`json`, `console`, or `mail` for the lines that tools for the logs of Postfix read."""
    level: LogLevel = LogLevel.INFO
    """`debug`, `info`, `warning` or `error`."""
    types: tuple[Annotated[str, EVENT_TYPES], ...] = ()
    """Only events of these types, such as `message.accepted` or `recipient.*`; `log`: diagnostics."""
    sample: Annotated[float, Range(minimum=0, maximum=1)] = 1.0
    """Share of sessions and messages that are told of; warnings and errors always are."""
    path: Path | None = None
    """The file, opened again at SIGHUP; of `syslog` and `journal` the socket, default `/dev/log` and that of
    journald."""
    address: Annotated[HostPort, Reachable()] | None = None
    """Of `syslog`: another machine, such as `192.0.2.1:514`."""
    protocol: SyslogProtocol = SyslogProtocol.UDP
    """How that one is reached: `udp`, `tcp`, or `tls` (RFC 5425, port 6514), which alone is encrypted."""
    name: Annotated[str, HOSTNAME] | None = None
    """With `tls`: what its certificate must be for, default its address."""
    authorities: Path | None = None
    """With `tls`: a PEM file of the authorities to trust, default the system's."""
    certificate: Path | None = None
    """With `tls`: PEM file of the certificate chain with which we say who we are; read at the start."""
    key: Path | None = None
    """PEM file of its private key, without a passphrase."""
    facility: LogFacility = LogFacility.MAIL
    """Of `syslog` and `journal`: `mail`, `daemon`, `local0` to `local7`."""
    tag: Annotated[str, NAME] = "elemta"
    """What the program is called in it; `postfix` for tools that know only that."""


@attrs.frozen
class LoggingConfig:
    """What is written to standard error, and where else."""

    format: LogFormat = LogFormat.JSON
    """`json` for programs, `console` for people, `mail` for tools that read the logs of Postfix, or `off`."""
    level: LogLevel = LogLevel.INFO
    """`debug`, `info`, `warning` or `error`."""
    sample: Annotated[float, Range(minimum=0, maximum=1)] = 1.0
    """Share of sessions and messages that are told of; warnings and errors always are."""
    outputs: tuple[LogOutputConfig, ...] = ()
    """Further places."""


@attrs.frozen
class TracingConfig:
    """Traces for OpenTelemetry: how long each step of a message took."""

    endpoint: Annotated[str, SERVICE_URL] | None = None
    """A collector that takes OTLP over HTTP, such as `http://127.0.0.1:4318/v1/traces`; without it nothing is
    traced. Takes `pip install 'elemta[otel]'`."""
    sample: Annotated[float, Range(minimum=0, maximum=1)] = 1.0
    """Share of sessions and messages that are traced, where the program that hands a message in does not
    say so itself (`traceparent`)."""
    service: Annotated[str, NAME] = "elemta"
    """What the server is called in traces (`service.name`)."""


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
    auth: AuthConfig = AuthConfig()
    """Accounts, and how clients prove that one is theirs."""
    domains: DomainsConfig = DomainsConfig()
    """Domains this server is responsible for."""
    verification: VerificationConfig = VerificationConfig()
    """Recipients that are asked for at their next hop."""
    srs: SrsConfig = SrsConfig()
    """Senders of mail that aliases send on."""
    relay: RelayConfig = RelayConfig()
    """Who may send anywhere without authentication."""
    proxies: ProxiesConfig = ProxiesConfig()
    """Who may say that its connection is another client's."""
    submission: SubmissionConfig = SubmissionConfig()
    """What is mended in messages of our users."""
    routes: tuple[RouteConfig, ...] = ()
    """Where recipients go; the first match wins, without one the MX of the domain."""
    queue: QueueConfig = QueueConfig()
    """When to try again and when to give up."""
    delivery: DeliveryConfig = DeliveryConfig()
    """How next hops are treated."""
    shaping: tuple[ShapingConfig, ...] = ()
    """How some next hops are treated."""
    sources: tuple[SourceConfig, ...] = ()
    """Addresses of ours to connect from."""
    dns: DnsConfig = DnsConfig()
    """The resolver."""
    limits: LimitsConfig = LimitsConfig()
    """What one client, session or message may take."""
    timeouts: TimeoutsConfig = TimeoutsConfig()
    """Every wait."""
    policy: PolicyConfig = PolicyConfig()
    """Which clients are welcome."""
    signing: tuple[SigningConfig, ...] = ()
    """Keys that outgoing mail is signed with."""
    plugins: tuple[PluginConfig, ...] = ()
    """Policy in Python, asked in this order."""
    spool: SpoolConfig = SpoolConfig()
    """Where messages are safe."""
    tls_reports: TlsReportsConfig = TlsReportsConfig()
    """Reports on TLS with the hosts of other domains."""
    admin: AdminConfig = AdminConfig()
    """The port to look and steer."""
    logging: LoggingConfig = LoggingConfig()
    """What is written to standard error, and where else."""
    tracing: TracingConfig = TracingConfig()
    """Traces for OpenTelemetry."""


SECTIONS: tuple[type, ...] = (
    Config,
    ListenerConfig,
    CertificateConfig,
    TlsConfig,
    HttpAccountsConfig,
    LdapConfig,
    AuthConfig,
    DomainsConfig,
    VerificationConfig,
    SrsConfig,
    RelayConfig,
    ProxiesConfig,
    SubmissionConfig,
    FallbackConfig,
    RouteConfig,
    QueueConfig,
    DeliveryConfig,
    ShapingConfig,
    SourceConfig,
    DnsConfig,
    LimitsConfig,
    TimeoutsConfig,
    SpoolConfig,
    DnsListZoneConfig,
    DnsListsConfig,
    ReverseDnsConfig,
    HelloConfig,
    GreylistConfig,
    BreakerConfig,
    QuotaConfig,
    RateConfig,
    SpfConfig,
    DmarcConfig,
    DkimConfig,
    ArcConfig,
    SigningConfig,
    PolicyConfig,
    TlsReportsConfig,
    HookConfig,
    PluginConfig,
    AdminConfig,
    LogOutputConfig,
    LoggingConfig,
    TracingConfig,
)
for _section in SECTIONS:
    attrs.resolve_types(_section)  # the types hold the rules: from here on they are objects, not text
