"""What a configuration amounts to, for people: what listens, where state lives, what bounds each wait."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator

import attrs

from .choices import AuthMechanism, ListenerAuth, ListenerRole, ListenerTls, QuotaOf, RouteTls, TransportKind
from .schema import (
    AuthConfig,
    Config,
    ListenerConfig,
    QuotaConfig,
    RouteConfig,
    ShapingConfig,
    SourceConfig,
)
from .units import HostPort, RoutePattern, format_duration, format_size, shown

_BLOCK = 64 * 1024
"""Octets that are written to a next hop under one `timeouts.block`, for the estimate."""
MINIMUM_FINAL_DOT = 600
"""Seconds, RFC 5321 4.5.3.2.6."""


@attrs.frozen
class Fact:
    """One line: a name and what there is to say about it."""

    name: str
    text: str


@attrs.frozen
class Phase:
    """A wait that an attempt may meet, and how often."""

    name: str
    seconds: float
    times: int = 1

    @property
    def total(self) -> float:
        return self.seconds * self.times


@attrs.frozen
class AttemptDeadline:
    """How long one attempt for one message can take when every peer is as slow as allowed."""

    phases: tuple[Phase, ...]
    cap: float
    """`timeouts.attempt`, which ends the attempt whatever its phases."""

    @property
    def total(self) -> float:
        """The sum of all phases."""
        return sum(phase.total for phase in self.phases)

    @property
    def bound(self) -> float:
        """The longest time in fact."""
        return min(self.total, self.cap)


@attrs.frozen
class Description:
    """A configuration in words and sums."""

    hostname: str
    listeners: tuple[Fact, ...]
    domains: tuple[Fact, ...]
    routes: tuple[Fact, ...]
    shaping: tuple[Fact, ...]
    """How some next hops are treated otherwise than the rest."""
    sources: tuple[Fact, ...]
    """Our addresses to connect from."""
    state: tuple[Fact, ...]
    limits: tuple[Fact, ...]
    policy: tuple[Fact, ...]
    """What is checked of clients and messages, and what follows."""
    signing: tuple[Fact, ...]
    """Which mail is signed as whom."""
    session: float
    """Seconds after which a session is ended, whatever the client does (`timeouts.session`)."""
    attempt: AttemptDeadline
    stop: tuple[Fact, ...]
    notes: tuple[str, ...]
    """What is allowed but perhaps not meant."""

    def __str__(self) -> str:
        """All of it as plain text, without a final line end."""
        lines = [f"Host name: {self.hostname}"]
        for title, facts in (
            ("Listeners", self.listeners),
            ("Domains", self.domains),
            ("Routes, first match wins", self.routes),
            *((("Shaping, most specific first", self.shaping),) if self.shaping else ()),
            *((("Sources", self.sources),) if self.sources else ()),
            ("State", self.state),
            ("Limits", self.limits),
            ("Checks", self.policy),
            ("Signatures", self.signing),
        ):
            lines += ["", f"{title}:", *_table(facts)]
        lines += ["", f"A session ends after {format_duration(self.session)} at the latest.", ""]
        lines.append(f"An attempt ends after {format_duration(self.attempt.bound)} at the latest:")
        lines += _table(
            [
                *(Fact(phase.name, _phase_text(phase)) for phase in self.attempt.phases),
                Fact("all of them", format_duration(self.attempt.total)),
                Fact("timeouts.attempt", format_duration(self.attempt.cap)),
            ]
        )
        lines += ["", "Stop:", *_table(self.stop)]
        if self.notes:
            lines += ["", "Notes:", *(f"  - {note}" for note in self.notes)]
        return "\n".join(lines)


def describe(config: Config) -> Description:
    """Say what `config` means. Pure: nothing is looked up, opened or bound."""
    return Description(
        hostname=config.hostname,
        listeners=tuple(Fact(listener.name, _listener_text(listener)) for listener in config.listeners),
        domains=_domains(config),
        routes=_routes(config),
        shaping=_shaping(config),
        sources=tuple(Fact(source.name, _source_text(source)) for source in config.sources),
        state=_state(config),
        limits=_limits(config),
        policy=_policy(config),
        signing=_signing(config),
        session=config.timeouts.session,
        attempt=attempt_deadline(config),
        stop=(
            Fact("finish", format_duration(max(0.0, config.timeouts.drain - config.timeouts.hard_cancel))),
            Fact("then cancel", format_duration(config.timeouts.hard_cancel)),
        ),
        notes=tuple(_notes(config)),
    )


def attempt_deadline(config: Config) -> AttemptDeadline:
    """Add up the waits of one attempt by MX with STARTTLS: the longest way there is."""
    timeouts, delivery = config.timeouts, config.delivery
    hosts = delivery.mx_hosts
    blocks = -(-config.limits.message_size // _BLOCK)
    logs_in = any(route.username is not None for route in config.routes)
    login = (Phase("login", timeouts.login, 3 * hosts),) if logs_in else ()
    sts = (Phase("policy fetch", timeouts.policy_fetch),) if delivery.mta_sts else ()
    return AttemptDeadline(
        phases=(
            # the MX, then A and AAAA of each host, and TLSA of it and of the name behind an alias
            Phase("dns", config.dns.timeout, 1 + hosts * ((2 if delivery.ipv6 else 1) + 2 * delivery.dane)),
            *sts,
            Phase("connect", timeouts.connect, hosts),
            Phase("greeting", timeouts.greeting, hosts),
            Phase("hello", timeouts.hello, 2 * hosts),
            Phase("starttls", timeouts.starttls, hosts),
            *login,
            Phase("mail", timeouts.mail),
            Phase("rcpt", timeouts.rcpt, delivery.recipients_per_transaction),
            Phase("data", timeouts.data),
            Phase("block", timeouts.block, blocks),
            Phase("final dot", timeouts.final_dot),
        ),
        cap=timeouts.attempt,
    )


def _table(facts: Iterable[Fact]) -> list[str]:
    rows = list(facts)
    width = max((len(fact.name) for fact in rows), default=0)
    return [f"  {fact.name:<{width}}  {fact.text}" for fact in rows] or ["  none"]


def _phase_text(phase: Phase) -> str:
    each = format_duration(phase.seconds)
    return each if phase.times == 1 else f"{each} × {phase.times} = {format_duration(phase.total)}"


def _listener_text(listener: ListenerConfig) -> str:
    tls = {
        ListenerTls.OFF: "no TLS",
        ListenerTls.STARTTLS: "STARTTLS",
        ListenerTls.IMPLICIT: "TLS from the start",
    }[listener.tls]
    every = "" if listener.address.host else " (every address)"
    return f"{listener.address}{every}, {listener.role}, {tls}"


def _route_text(route: RouteConfig, mx_port: int) -> str:
    if route.transport is TransportKind.MAILDIR:
        return f"maildir {route.path}"
    if route.transport is TransportKind.DISCARD:
        return "discard"
    if route.transport is TransportKind.PIPE:
        limits = f"at most {format_duration(route.time_limit)} and {format_size(int(route.memory))}"
        return f"pipe to {' '.join(map(shown, route.command))}, {limits}"
    if route.transport is TransportKind.HTTP:
        signed = f"signed with {route.key_file}" if route.key_file else "not signed"
        return f"POST to {route.url}, {signed}, at most {format_duration(route.time_limit)}"
    way_out = ""
    if route.fallback.host is not None:
        relay = HostPort(route.fallback.host, route.fallback.port)
        way_out = f", else to {relay}, TLS {route.fallback.tls}"
    if route.host is None:
        return f"smtp to the MX, port {route.port or mx_port}, TLS {route.tls}{way_out}"
    port = route.port or (24 if route.transport is TransportKind.LMTP else 25)
    return f"{route.transport} to {HostPort(route.host, port)}, TLS {route.tls}{way_out}"


def _routes(config: Config) -> tuple[Fact, ...]:
    facts = [Fact(str(route.match), _route_text(route, config.delivery.port)) for route in config.routes]
    if not any(route.match == RoutePattern() for route in config.routes):
        facts.append(
            Fact("others", f"smtp to the MX, port {config.delivery.port}, TLS {RouteTls.OPPORTUNISTIC}")
        )
    return tuple(facts)


def _shaping(config: Config) -> tuple[Fact, ...]:
    def rank(table: ShapingConfig) -> tuple[object, ...]:
        return tuple((False, -1) if each is None else each.rank for each in (table.match, table.mx))

    facts = []
    for table in sorted(config.shaping, key=rank, reverse=True):
        patterns = [f"{name} {each}" for name, each in (("", table.match), ("mx", table.mx)) if each]
        settings = [
            f"{field.name} {_setting_text(field.name, value)}"
            for field in attrs.fields(ShapingConfig)
            if field.name not in ("match", "mx") and (value := getattr(table, field.name)) is not None
        ]
        facts.append(Fact(", ".join(patterns).strip() or "all", ", ".join(settings)))
    return tuple(facts)


def _source_text(source: SourceConfig) -> str:
    addresses = " and ".join(address for address in (source.ipv4, source.ipv6) if address)
    pools = f"in {', '.join(source.pools)} with weight {source.weight}" if source.pools else "in no pool"
    return f"{addresses}{f' as {source.hello}' if source.hello else ''}, {pools}"


def _setting_text(name: str, value: object) -> str:
    if name == "byte_burst" and isinstance(value, int):
        return format_size(value)
    return format_duration(value) if isinstance(value, float) else str(value)


def _domains(config: Config) -> tuple[Fact, ...]:
    return (
        Fact("local", ", ".join(map(str, config.domains.local)) or "none"),
        Fact("relay", ", ".join(map(str, config.domains.relay)) or "none"),
        Fact("may send anywhere", ", ".join(map(str, config.relay.networks)) or "nobody"),
    )


def _state(config: Config) -> tuple[Fact, ...]:
    token = config.admin.token_file or config.state_dir / "admin.token"
    return (
        Fact("folder", str(config.state_dir)),
        Fact("admin", str(config.admin.address) if config.admin.address else "only the socket in the folder"),
        Fact("token", str(token)),
        Fact("accounts", _accounts(config.auth)),
        Fact("certificate", str(config.tls.certificate or "none")),
        Fact("key", str(config.tls.key or "none")),
    )


def _accounts(auth: AuthConfig) -> str:
    """Where they are."""
    if auth.http.url is not None:
        return f"asked of {auth.http.url}"
    if auth.ldap.server is not None:
        return f"asked of {auth.ldap.server}, below {auth.ldap.base}"
    return str(auth.database or auth.users or "none")


def _limits(config: Config) -> tuple[Fact, ...]:
    limits, queue = config.limits, config.queue
    return (
        Fact("message", format_size(limits.message_size)),
        Fact("recipients", f"{limits.recipients} in one transaction"),
        Fact("sessions", f"{limits.sessions}, {limits.sessions_per_client} from one client"),
        Fact("in memory", f"{queue.active_messages} messages, {format_size(queue.active_bytes)} of bodies"),
        Fact("connections", f"{config.delivery.concurrency} to one destination"),
        Fact("retry after", ", ".join(map(format_duration, queue.retry)) + ", then the last again"),
        Fact(
            "give up after",
            f"{format_duration(queue.lifetime)}; notices {format_duration(queue.bounce_lifetime)}",
        ),
    )


def _policy(config: Config) -> tuple[Fact, ...]:
    policy = config.policy
    lists = {"dns lists": policy.dns_lists, "domain lists": policy.domain_lists}
    return (
        Fact("spf", f"{policy.spf.action}, name of the host {policy.spf.hello_action}"),
        Fact("dkim", str(policy.dkim.action)),
        Fact("arc", f"{policy.arc.action}, trusted {', '.join(map(str, policy.arc.trusted)) or 'nobody'}"),
        Fact("dmarc", f"at most {policy.dmarc.action}, without a readable author {policy.dmarc.no_author}"),
        Fact("reverse dns", str(policy.reverse_dns.action)),
        Fact("early talkers", str(policy.early_talkers)),
        *(
            Fact(name, f"{each.action}, {', '.join(str(zone.zone) for zone in each.zones) or 'none'}")
            for name, each in lists.items()
        ),
        Fact("greylist", str(policy.greylist.action)),
        Fact(
            "rates",
            ", ".join(
                f"{each.count} per {each.per} {each.limit}" + (" (trusted)" if each.trusted else "")
                for each in policy.rates
            )
            or "none",
        ),
        Fact("quota", _quota(policy.quota)),
        Fact("relay quota", _quota(policy.relay_quota)),
        Fact("breaker", str(policy.breaker.action)),
        Fact("exempt", ", ".join(map(str, policy.exempt)) or "nobody"),
        Fact("shown as", policy.authserv_id or config.hostname),
    )


def _quota(quota: QuotaConfig) -> str:
    """What an account may send."""
    parts = []
    for what in QuotaOf:
        for limit, period in zip(quota.limits(what), ("hour", "day"), strict=True):
            if limit:
                amount = format_size(limit) if what is QuotaOf.OCTETS else f"{limit} {what}"
                parts.append(f"{amount} in an {period}" if period == "hour" else f"{amount} in a {period}")
    return ", ".join(parts) or "none"


def _signing(config: Config) -> tuple[Fact, ...]:
    facts = [
        Fact(
            str(pattern),
            f"signed by {each.selector}._domainkey.{each.sign_as or pattern.domain}, key {each.key}",
        )
        for each in config.signing
        for pattern in each.patterns(config.domains.local)
    ]
    arc = config.policy.arc
    if arc.seal_domain is not None:
        facts.append(Fact("from outside", f"sealed as {arc.seal_selector}._domainkey.{arc.seal_domain}"))
    return tuple(facts)


def _notes(config: Config) -> Iterator[str]:
    if not config.listeners:
        yield "no [[listeners]]: without one there is nothing to run"
    for listener in config.listeners:
        # without authentication the relay networks are all that tells users from strangers
        if listener.role is ListenerRole.SUBMISSION and listener.auth is ListenerAuth.OFF:
            who = "those in relay.networks" if config.relay.networks else "nobody: relay.networks is empty"
            yield f"listener {listener.name}: without authentication it serves {who}"
        if listener.role is not ListenerRole.MX and not _is_loopback(listener.address):
            if listener.role is ListenerRole.LMTP:
                yield f"listener {listener.name}: LMTP is not for the open internet"
            elif listener.tls is ListenerTls.OFF:
                yield f"listener {listener.name}: users would send their mail in the clear"
    tokens = {AuthMechanism.OAUTHBEARER, AuthMechanism.XOAUTH2} & set(config.auth.mechanisms)
    if tokens and config.auth.introspection is None:
        yield f"{' and '.join(sorted(tokens))} not offered: set auth.introspection, who is asked about tokens"
    if config.admin.address is not None and not _is_loopback(config.admin.address):
        yield f"the admin port {config.admin.address} can be reached from other machines, without TLS"
    if config.postmaster is None and not any(
        domain.text == config.hostname for domain in config.domains.local
    ):
        # RFC 5321 4.5.1: postmaster must be a working mailbox
        yield f"postmaster is not set, and {config.hostname} is not a local domain: name a mailbox"
    if config.queue.delay_notice >= config.queue.lifetime:
        yield "queue.delay_notice is not before queue.lifetime: no sender is told of a delay"
    if config.timeouts.final_dot < MINIMUM_FINAL_DOT:
        yield "timeouts.final_dot is below the 10 minutes of RFC 5321 4.5.3.2.6: expect duplicates"


def _is_loopback(address: HostPort) -> bool:
    return bool(address.host) and ipaddress.ip_address(address.host).is_loopback
