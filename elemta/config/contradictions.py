"""Settings that are each in order but do not go together."""

from __future__ import annotations

from collections.abc import Iterator

from elemta.mail import Domain

from .choices import (
    AuthMechanism,
    CheckAction,
    GreylistAction,
    ListenerAuth,
    ListenerTls,
    LogFormat,
    LogTarget,
    RateOf,
    RatePer,
    RouteTls,
    SyslogProtocol,
    TransportKind,
)
from .contradiction import Contradiction
from .outgoing import find_outgoing
from .positions import KeyPath
from .schema import (
    AuthConfig,
    Config,
    DnsListsConfig,
    FallbackConfig,
    HookConfig,
    LogOutputConfig,
    PluginConfig,
    RouteConfig,
)
from .units import (
    DomainPattern,
    HostPort,
    RoutePattern,
    did_you_mean,
    format_duration,
    format_size,
    is_on_this_machine,
    shown,
)

_OPTIONS = {
    TransportKind.SMTP: ("host", "port", "tls", "username", "password_file", "source", "fallback"),
    TransportKind.LMTP: ("host", "port", "tls"),
    TransportKind.MAILDIR: ("path",),
    TransportKind.PIPE: ("command", "memory", "time_limit"),
    TransportKind.HTTP: ("url", "key_file", "time_limit"),
    TransportKind.DISCARD: (),
}
"""Which settings of a route mean something to its transport."""
_ROUTE_OPTIONS = {
    "host": None,
    "port": None,
    "tls": RouteTls.OPPORTUNISTIC,
    "username": None,
    "password_file": None,
    "source": None,
    "path": None,
    "command": (),
    "memory": RouteConfig(RoutePattern()).memory,
    "time_limit": RouteConfig(RoutePattern()).time_limit,
    "url": None,
    "key_file": None,
    "fallback": FallbackConfig(),
}
"""The settings that only some transports use, with their defaults."""
_OWNERS = {
    "path": "maildir",
    "username": "smtp",
    "password_file": "smtp",
    "source": "smtp",
    "fallback": "smtp",
    "command": "pipe",
    "memory": "pipe",
    "time_limit": "pipe and http",
    "url": "http",
    "key_file": "http",
}


def find_contradictions(config: Config) -> Iterator[Contradiction]:
    """Compare the settings with each other."""
    yield from _listener_names(config)
    yield from _listener_addresses(config)
    yield from _certificates(config)
    yield from _client_certificates(config)
    yield from _accounts(config)
    yield from _listener_options(config)
    yield from _domains(config)
    yield from _srs(config)
    yield from _verification(config)
    yield from _local_routes(config)
    yield from _route_options(config)
    yield from _dead_routes(config)
    yield from _numbers(config)
    yield from find_outgoing(config)
    yield from _lists(("policy", "dns_lists"), config.policy.dns_lists)
    yield from _lists(("policy", "domain_lists"), config.policy.domain_lists)
    yield from _greylist(config)
    yield from _rates(config)
    yield from _early_talkers(config)
    yield from _signing(config)
    yield from _sealing(config)
    if config.tls_reports.send and not config.tls_reports.collect:
        others: tuple[KeyPath, ...] = (("tls_reports", "collect"),)
        yield Contradiction(
            ("tls_reports", "send"), "nothing is counted to report", "set tls_reports.collect", others
        )
    yield from _plugins(config)
    yield from _logging(config)


def _listener_names(config: Config) -> Iterator[Contradiction]:
    first: dict[str, int] = {}
    for index, listener in enumerate(config.listeners):
        earlier = first.setdefault(listener.name, index)
        if earlier != index:
            yield Contradiction(
                ("listeners", index, "name"),
                f"{shown(listener.name)} is already the name of listeners[{earlier}]",
                "give each listener its own",
                (("listeners", earlier, "name"),),
            )


def _listener_addresses(config: Config) -> Iterator[Contradiction]:
    bound: list[tuple[KeyPath, str, HostPort]] = [
        (("listeners", index, "address"), f"listeners[{index}]", listener.address)
        for index, listener in enumerate(config.listeners)
    ]
    if config.admin.address is not None:
        bound.append((("admin", "address"), "admin", config.admin.address))
    for index, (path, _, address) in enumerate(bound):
        for other_path, other_name, other in bound[:index]:
            if _overlap(address, other):
                what = (
                    f"is already the address of {other_name}"
                    if address == other
                    else f"overlaps with {other} of {other_name}"
                )
                yield Contradiction(path, f"{address} {what}", others=(other_path,))
                break


def _overlap(one: HostPort, two: HostPort) -> bool:
    """Whether Linux would refuse to bind both: the same port on the same address, or on all of its family."""
    if one.port != two.port or one.port == 0:
        return False
    hosts = {one.host, two.host}
    if len(hosts) == 1 or "" in hosts:
        return True
    return (":" in one.host) == (":" in two.host) and bool(hosts & {"0.0.0.0", "::"})  # noqa: S104  # compared only


def _certificates(config: Config) -> Iterator[Contradiction]:
    certificate, key = config.tls.certificate, config.tls.key
    if certificate is not None and key is None:
        yield Contradiction(
            ("tls", "certificate"), "a certificate needs its key", "set tls.key", (("tls", "key"),)
        )
    if key is not None and certificate is None:
        others: tuple[KeyPath, ...] = (("tls", "certificate"),)
        yield Contradiction(("tls", "key"), "a key needs its certificate", "set tls.certificate", others)
    if certificate is None and config.tls.certificates:
        others = (("tls", "certificate"), ("tls", "key"))
        reason = "clients that ask for none of these names need a certificate too"
        yield Contradiction(("tls", "certificates"), reason, "set tls.certificate and tls.key", others)
    if certificate is None and key is None:
        for index, listener in enumerate(config.listeners):
            if listener.tls is not ListenerTls.OFF:
                yield Contradiction(
                    ("listeners", index, "tls"),
                    f"{str(listener.tls)!r} needs a certificate and a key",
                    'set both in [tls], or tls = "off"',
                    (("tls",),),
                )


_WITHOUT_TLS = frozenset(
    {AuthMechanism.SCRAM_SHA_256, AuthMechanism.CRAM_MD5}
)  # the others show the secret, or need what only TLS has
_ON_LOOPBACK = _WITHOUT_TLS | {AuthMechanism.PLAIN, AuthMechanism.LOGIN}


def _accounts(config: Config) -> Iterator[Contradiction]:
    auth = config.auth
    offered = set(auth.mechanisms)
    yield from _stores(auth)
    if auth.ldap.server is not None or (auth.http.url is not None and not auth.http.scram):
        offered -= {AuthMechanism.SCRAM_SHA_256, AuthMechanism.SCRAM_SHA_256_PLUS}
    if auth.ldap.server is not None or auth.http.url is not None:
        offered.discard(AuthMechanism.CRAM_MD5)
    if AuthMechanism.CRAM_MD5 in offered and auth.recovery_key is None:
        yield Contradiction(
            ("auth", "mechanisms"),
            "CRAM-MD5 needs secrets that can be read back",
            "set auth.recovery_key, or leave CRAM-MD5 out: SCRAM-SHA-256 is better in every way",
            (("auth", "recovery_key"),),
        )
    if (auth.introspection_client is None) != (auth.introspection_secret is None):
        yield Contradiction(
            ("auth", "introspection_client"),
            "a name and its secret go together",
            "set both introspection_client and introspection_secret, or none",
            (("auth", "introspection_secret"),),
        )
    for index, listener in enumerate(config.listeners):
        if listener.auth is ListenerAuth.OFF:
            continue
        path: KeyPath = ("listeners", index, "auth")
        if not auth.stores:
            yield Contradiction(
                path,
                f"{str(listener.auth)!r} needs accounts, and there is no users file",
                "set users in [auth] and make one with 'elemta user add NAME'",
                (("auth", "users"),),
            )
        others: tuple[KeyPath, ...] = (("auth", "mechanisms"), ("auth", "loopback_without_tls"))
        if not offered:
            yield Contradiction(
                path, f"{str(listener.auth)!r} needs a mechanism", "add one to auth.mechanisms", others
            )
        elif listener.tls is ListenerTls.OFF and not offered & (
            _ON_LOOPBACK if auth.loopback_without_tls else _WITHOUT_TLS
        ):
            yield Contradiction(
                path,
                f"{str(listener.auth)!r}: without TLS none of auth.mechanisms is ever offered",
                'set tls = "starttls", or add SCRAM-SHA-256 to auth.mechanisms',
                (("listeners", index, "tls"), *others),
            )


def _stores(auth: AuthConfig) -> Iterator[Contradiction]:
    paths: list[KeyPath] = [("auth", *name.split(".")) for name in auth.stores]
    if len(paths) > 1:
        reason = f"accounts are in one place, and these are {len(paths)}: {', '.join(auth.stores)}"
        yield Contradiction(paths[1], reason, "keep one of them", (paths[0], *paths[2:]))
    ldap = auth.ldap
    if ldap.server is None:
        return
    if ldap.base is None:
        yield Contradiction(
            ("auth", "ldap", "server"), "it is not said where its accounts are", "set auth.ldap.base"
        )
    if (ldap.bind_name is None) != (ldap.bind_secret is None):
        yield Contradiction(
            ("auth", "ldap", "bind_name"),
            "a name and its secret go together",
            "set both bind_name and bind_secret, or none",
            (("auth", "ldap", "bind_secret"),),
        )
    if not ldap.starttls and ldap.server.startswith("ldap:") and not is_on_this_machine(ldap.server):
        yield Contradiction(
            ("auth", "ldap", "starttls"),
            f"without it {ldap.server} would be shown passwords in the clear",
            "leave it out; false is for this machine only",
            (("auth", "ldap", "server"),),
        )


def _client_certificates(config: Config) -> Iterator[Contradiction]:
    authorities: KeyPath = ("tls", "client_authorities")
    for index, listener in enumerate(config.listeners):
        if not listener.client_certificates:
            continue
        path: KeyPath = ("listeners", index, "client_certificates")
        if listener.tls is ListenerTls.OFF:
            yield Contradiction(
                path, "certificates are shown over TLS", 'set tls = "starttls"', ((*path[:-1], "tls"),)
            )
        if config.tls.client_authorities is None:
            reason = "nothing says which certificates of clients are good"
            yield Contradiction(path, reason, "set tls.client_authorities", (authorities,))


def _listener_options(config: Config) -> Iterator[Contradiction]:
    for index, listener in enumerate(config.listeners):
        path: KeyPath = ("listeners", index)
        most = config.limits.message_size
        if listener.message_size is not None and listener.message_size > most:
            size = format_size(listener.message_size)
            reason = f"{size} is more than limits.message_size ({format_size(most)})"
            yield Contradiction((*path, "message_size"), reason, others=(("limits", "message_size"),))
        if listener.proxy_protocol and not config.proxies.proxy_protocol:
            yield Contradiction(
                (*path, "proxy_protocol"),
                "no network may send a PROXY header",
                "name the load balancers in proxies.proxy_protocol",
                (("proxies", "proxy_protocol"),),
            )


def _domains(config: Config) -> Iterator[Contradiction]:
    first: dict[str, KeyPath] = {}
    names: list[tuple[KeyPath, str]] = [
        *((("domains", "local", i), str(domain)) for i, domain in enumerate(config.domains.local)),
        *((("domains", "relay", i), str(pattern)) for i, pattern in enumerate(config.domains.relay)),
    ]
    for path, name in names:
        earlier = first.setdefault(name, path)
        if earlier != path and earlier[1] == path[1]:
            yield Contradiction(path, f"{name} is listed twice", others=(earlier,))
        elif earlier != path:
            yield Contradiction(
                path, f"{name} is already in domains.local", "a domain is one or the other", (earlier,)
            )


def _verification(config: Config) -> Iterator[Contradiction]:
    ours = {DomainPattern(domain) for domain in config.domains.local} | set(config.domains.relay)
    wide = {pattern.domain.text for pattern in config.domains.relay if pattern.subdomains}
    for index, pattern in enumerate(config.verification.domains):
        name = pattern.domain.text
        if pattern in ours or any(name.endswith(f".{above}") for above in wide):
            continue
        reason = f"{pattern} is neither in domains.local nor in domains.relay"
        others: tuple[KeyPath, ...] = (("domains", "local"), ("domains", "relay"))
        yield Contradiction(("verification", "domains", index), reason, "name domains of ours", others)


def _srs(config: Config) -> Iterator[Contradiction]:
    srs = config.srs
    if srs.domain is None:
        if srs.secrets is not None:
            reason = "secrets for senders that are not rewritten"
            yield Contradiction(("srs", "secrets"), reason, "set srs.domain", (("srs", "domain"),))
        return
    if srs.secrets is None:
        hint = "set srs.secrets to a file with a random secret in its first line"
        yield Contradiction(
            ("srs", "domain"), "there is no secret to prove senders by", hint, (("srs", "secrets"),)
        )
    if srs.domain not in config.domains.local:
        reason = f"{srs.domain.text} is not in domains.local, so bounces would not come back"
        yield Contradiction(("srs", "domain"), reason, "use a domain of ours", (("domains", "local"),))


def _local_routes(config: Config) -> Iterator[Contradiction]:
    """Mail for a local domain must end somewhere: its MX is this server, so asking it would be a loop."""
    routes: tuple[KeyPath, ...] = (("routes",),)
    table = _FirstMatch()
    for index, route in enumerate(config.routes):
        table.add(route.match, index)
        for pattern in _meant(route.match, config):
            table.add(pattern, index)
    for index, domain in enumerate(config.domains.local):
        first = table.find(RoutePattern(domain=DomainPattern(domain)))
        path: KeyPath = ("domains", "local", index)
        if first is None:
            reason = f"no route takes {domain}: its mail would be sent to its MX, which is this server"
            yield Contradiction(path, reason, f'add [[routes]] with match = "{domain}"', routes)
        elif _asks_mx(config.routes[first]):
            match = shown(str(config.routes[first].match))
            reason = f"the route {match} sends {domain} to its MX, which is this server"
            yield Contradiction(path, reason, "give that route a host, or another transport", routes)
    local = set(config.domains.local)
    for index, route in enumerate(config.routes):
        if route.match.quarantine and _asks_mx(route):
            reason = "sends what is quarantined on to the MX of its recipients"
            hint = "give the route a host, or another transport"
            yield Contradiction(("routes", index, "match"), reason, hint, (("routes", index),))
        mailbox = route.match.mailbox
        if mailbox is not None and mailbox.domain in local and _asks_mx(route):
            yield Contradiction(
                ("routes", index, "match"),
                f"sends a local address to the MX of {mailbox.domain}, which is this server",
                "give the route a host, or another transport",
                (("routes", index), ("domains", "local")),
            )


def _meant(pattern: RoutePattern, config: Config) -> Iterator[RoutePattern]:
    """The domains that `local` stands for; of other patterns nothing."""
    if pattern.local:
        yield from (RoutePattern(domain=DomainPattern(domain)) for domain in config.domains.local)


def _asks_mx(route: RouteConfig) -> bool:
    return route.transport is TransportKind.SMTP and route.host is None


class _FirstMatch:
    """Finds the first of the patterns added so far that takes all of another, without trying each."""

    def __init__(self) -> None:
        self._first: dict[RoutePattern, int] = {}

    def add(self, pattern: RoutePattern, index: int) -> None:
        self._first.setdefault(pattern, index)

    def find(self, pattern: RoutePattern) -> int | None:
        """The lowest index of a pattern that matches every address that this one matches."""
        found = [self._first[wide] for wide in _wider(pattern) if wide in self._first]
        return min(found, default=None)


def _wider(pattern: RoutePattern) -> Iterator[RoutePattern]:
    """The pattern itself and all that take at least as much."""
    yield pattern
    if pattern.quarantine:
        return  # taken before all others
    yield RoutePattern()
    domain: DomainPattern | None = pattern.domain
    if pattern.mailbox is not None and isinstance(pattern.mailbox.domain, Domain):
        domain = DomainPattern(pattern.mailbox.domain)
        yield RoutePattern(domain=domain)
    above = domain.domain.text if domain is not None else ""
    while "." in above:
        above = above.partition(".")[2]
        yield RoutePattern(domain=DomainPattern(Domain(above), subdomains=True))


def _route_options(config: Config) -> Iterator[Contradiction]:
    for index, route in enumerate(config.routes):
        base: KeyPath = ("routes", index)
        transport: tuple[KeyPath, ...] = ((*base, "transport"),)
        for name, default in _ROUTE_OPTIONS.items():
            if name not in _OPTIONS[route.transport] and getattr(route, name) != default:
                owner = _OWNERS.get(name, "smtp and lmtp")
                reason = f"means nothing to the transport {route.transport}"
                yield Contradiction((*base, name), reason, f"it belongs to {owner}: remove it", transport)
        yield from _login_of_route(route, base)
        yield from _fallback(route.fallback, (*base, "fallback"))
        if route.transport is TransportKind.MAILDIR and route.path is None:
            hint = 'add path = "var/mail/{domain}/{local_part}"'
            yield Contradiction(base, "a maildir route needs a path", hint, ((*base, "path"), *transport))
        if route.transport is TransportKind.PIPE:
            yield from _command(route, (*base, "command"))
        if route.transport is TransportKind.HTTP and route.url is None:
            hint = 'add url = "https://app.example.org/mail"'
            yield Contradiction(base, "an http route needs a url", hint, ((*base, "url"), *transport))
        if route.transport is TransportKind.LMTP and route.host is None:
            hint = 'add host = "127.0.0.1"'
            yield Contradiction(base, "an lmtp route needs a host", hint, ((*base, "host"), *transport))


def _command(route: RouteConfig, path: KeyPath) -> Iterator[Contradiction]:
    if not route.command:
        hint = 'add command = ["/usr/local/bin/program", "{recipient}"]'
        yield Contradiction(path[:-1], "a pipe route needs a command", hint, (path,))
    elif not route.command[0].startswith("/") or "{" in route.command[0]:
        reason = f"{shown(route.command[0])} is no whole path of a program"
        yield Contradiction(path, reason, "no search path is looked at, and no shell")


def _login_of_route(route: RouteConfig, base: KeyPath) -> Iterator[Contradiction]:
    if route.transport is not TransportKind.SMTP:
        return
    if (route.username is None) is not (route.password_file is None):
        given, missing = "username", "password_file"
        if route.username is None:
            given, missing = missing, given
        yield Contradiction((*base, given), f"means nothing without {missing}", f"add {missing}", (base,))
    elif route.username is not None and route.host is None:
        reason = "every mail host of the world would be given that account"
        yield Contradiction((*base, "username"), reason, "give the route a host", (base,))


def _fallback(fallback: FallbackConfig, base: KeyPath) -> Iterator[Contradiction]:
    if fallback.host is None:
        if fallback != FallbackConfig():
            yield Contradiction(base, "a fallback needs a host", 'add host = "relay.example.net"')
        return
    if not fallback.after and not fallback.causes:
        yield Contradiction(base, "nothing ever leads there", "set after or causes")
    if (fallback.username is None) is not (fallback.password_file is None):
        missing = "username" if fallback.username is None else "password_file"
        yield Contradiction(base, f"a login needs {missing} as well", f"add {missing}")


def _dead_routes(config: Config) -> Iterator[Contradiction]:
    table = _FirstMatch()
    for index, route in enumerate(config.routes):
        meant = tuple(_meant(route.match, config))
        found = [table.find(pattern) for pattern in meant or (route.match,)]
        if None not in found:
            earlier = max(each for each in found if each is not None)
            yield Contradiction(
                ("routes", index, "match"),
                f"never used: routes[{earlier}] ({config.routes[earlier].match}) takes all of it first",
                "the first match wins: put the narrower route first",
                (("routes", earlier),),
            )
        for pattern in (route.match, *meant):
            table.add(pattern, index)


def _numbers(config: Config) -> Iterator[Contradiction]:
    """Pairs of settings of which one bounds the other."""
    queue, dns, timeouts = config.queue, config.dns, config.timeouts
    if not queue.retry:
        yield Contradiction(("queue", "retry"), "is empty", 'give at least one wait, like ["5m"]')
    elif queue.lifetime < queue.retry[0]:
        wait, lifetime = format_duration(queue.retry[0]), format_duration(queue.lifetime)
        reason = (
            f"{lifetime} is shorter than the first wait of queue.retry ({wait}): nothing would be tried again"
        )
        yield Contradiction(("queue", "lifetime"), reason, others=(("queue", "retry"),))
    if timeouts.drain <= timeouts.hard_cancel:
        reason = (
            f"{format_duration(timeouts.drain)} leaves no time to finish before "
            f"timeouts.hard_cancel ({format_duration(timeouts.hard_cancel)})"
        )
        yield Contradiction(("timeouts", "drain"), reason, "make it longer", (("timeouts", "hard_cancel"),))
    if dns.min_ttl > dns.max_ttl:
        reason = f"{format_duration(dns.min_ttl)} is more than dns.max_ttl ({format_duration(dns.max_ttl)})"
        yield Contradiction(("dns", "min_ttl"), reason, others=(("dns", "max_ttl"),))
    if dns.query_timeout > dns.timeout:
        reason = (
            f"{format_duration(dns.query_timeout)} is more than dns.timeout ({format_duration(dns.timeout)})"
        )
        yield Contradiction(("dns", "query_timeout"), reason, others=(("dns", "timeout"),))
    delivery = config.delivery
    if delivery.initial_concurrency > delivery.concurrency:
        reason = f"{delivery.initial_concurrency} is more than delivery.concurrency ({delivery.concurrency})"
        yield Contradiction(
            ("delivery", "initial_concurrency"), reason, others=(("delivery", "concurrency"),)
        )
    if delivery.source_ipv6 is not None and not delivery.ipv6:
        reason = "is never used while delivery.ipv6 is false"
        yield Contradiction(("delivery", "source_ipv6"), reason, others=(("delivery", "ipv6"),))


def _lists(path: KeyPath, lists: DnsListsConfig) -> Iterator[Contradiction]:
    """Lists that are asked for nothing, or whose answers could never be enough."""
    where = ".".join(str(step) for step in path)
    if lists.lookup_timeout > lists.timeout:
        reason = f"{format_duration(lists.lookup_timeout)} is more than {where}.timeout"
        reason += f" ({format_duration(lists.timeout)})"
        yield Contradiction((*path, "lookup_timeout"), reason, others=((*path, "timeout"),))
    if lists.action is CheckAction.OFF:
        return
    if not lists.zones:
        reason = f"{str(lists.action)!r} needs a list to ask"
        yield Contradiction((*path, "action"), reason, f"add [[{where}.zones]]", ((*path, "zones"),))
        return
    most = sum(zone.weight for zone in lists.zones if zone.weight > 0)
    if lists.action is not CheckAction.NOTE and most < lists.threshold:
        reason = f"{lists.threshold} is never reached: all weights together are {most}"
        yield Contradiction((*path, "threshold"), reason, others=((*path, "zones"), (*path, "action")))


def _greylist(config: Config) -> Iterator[Contradiction]:
    greylist = config.policy.greylist
    path: KeyPath = ("policy", "greylist")
    if greylist.action is not GreylistAction.OFF and greylist.window <= greylist.delay:
        window, delay = format_duration(greylist.window), format_duration(greylist.delay)
        reason = f"{window} leaves no time to come again after policy.greylist.delay ({delay})"
        yield Contradiction((*path, "window"), reason, "make it longer", ((*path, "delay"),))


_OF_RECIPIENTS = frozenset({RatePer.RECIPIENT, RatePer.DOMAIN, RatePer.ROUTE})


def _rates(config: Config) -> Iterator[Contradiction]:
    first: dict[tuple[object, ...], int] = {}
    for index, rate in enumerate(config.policy.rates):
        path: KeyPath = ("policy", "rates", index)
        whose = (rate.count, rate.per, rate.role, rate.trusted, rate.limit.seconds)
        earlier = first.setdefault(whose, index)
        if earlier != index:
            reason = f"policy.rates[{earlier}] is for the same, over the same time"
            yield Contradiction((*path, "limit"), reason, "keep one of them", (("policy", "rates", earlier),))
        if rate.per is RatePer.ACCOUNT and rate.count is RateOf.CONNECTIONS:
            reason = "counts nothing: when a client connects its account is not known"
            hint = 'count "messages" or "recipients"'
            yield Contradiction((*path, "per"), reason, hint, ((*path, "count"),))
        if rate.per is RatePer.SENDER and rate.count is RateOf.CONNECTIONS:
            reason = "counts nothing: when a client connects its sender is not known"
            hint = 'count "messages" or "recipients"'
            yield Contradiction((*path, "per"), reason, hint, ((*path, "count"),))
        if rate.per in _OF_RECIPIENTS and rate.count is not RateOf.RECIPIENTS:
            reason = f"counts nothing: {rate.count} have no {rate.per}"
            yield Contradiction((*path, "per"), reason, 'count "recipients"', ((*path, "count"),))
        if rate.trusted and not config.relay.networks:
            reason = "is for the clients of relay.networks, and there are none"
            yield Contradiction((*path, "trusted"), reason, others=(("relay", "networks"),))


def _early_talkers(config: Config) -> Iterator[Contradiction]:
    policy = config.policy
    if policy.greeting_delay and policy.early_talkers is CheckAction.OFF:
        reason = "delays everybody for nothing while policy.early_talkers is off"
        yield Contradiction(("policy", "greeting_delay"), reason, others=(("policy", "early_talkers"),))


def _signing(config: Config) -> Iterator[Contradiction]:
    first: dict[tuple[DomainPattern, str, Domain], int] = {}
    for index, entry in enumerate(config.signing):
        path: KeyPath = ("signing", index)
        others: tuple[KeyPath, ...] = ((*path, "domain"), ("domains", "local"))
        patterns = entry.patterns(config.domains.local)
        if not patterns:
            yield Contradiction(
                path, "there is no domain to sign for", "say domain, or domains.local", others
            )
        for pattern in patterns:
            domain = pattern.domain
            signer = entry.sign_as or domain
            if signer != domain and not domain.text.endswith("." + signer.text):
                reason = f"{signer} cannot sign for {domain}: DMARC wants the same domain or one above"
                yield Contradiction((*path, "sign_as"), reason, others=others)
            earlier = first.setdefault((pattern, entry.selector, signer), index)
            if earlier != index:
                reason = f"signing[{earlier}] signs the same mail with the same selector"
                yield Contradiction(
                    (*path, "selector"), reason, "give each key its own", (path, ("signing", earlier))
                )
                break


def _sealing(config: Config) -> Iterator[Contradiction]:
    arc = config.policy.arc
    names = ("seal_domain", "seal_selector", "seal_key")
    given = [name for name in names if getattr(arc, name) is not None]
    missing = [name for name in names if name not in given]
    if given and missing:
        reason = f"a seal needs {' and '.join(missing)}, too"
        others = tuple(("policy", "arc", name) for name in names)
        yield Contradiction(("policy", "arc", given[0]), reason, others=others)


def _logging(config: Config) -> Iterator[Contradiction]:
    """Places without an address, and addresses without a place."""
    settings = config.logging
    if settings.format is LogFormat.OFF and not settings.outputs:
        yield Contradiction(("logging", "format"), "leaves nobody to tell", "give [[logging.outputs]]")
    seen = set()
    for index, output in enumerate(settings.outputs):
        base: KeyPath = ("logging", "outputs", index)
        place = (output.to, output.path, output.address, output.address and output.protocol)
        if place in seen:
            yield Contradiction((*base, "to"), "goes where another output goes already")
        seen.add(place)
        if output.format is LogFormat.OFF:
            yield Contradiction((*base, "format"), "is only for standard error", "leave the whole output out")
        if output.to is LogTarget.FILE and output.path is None:
            yield Contradiction((*base, "to"), "needs a path")
        if output.address is not None and output.to is not LogTarget.SYSLOG:
            yield Contradiction((*base, "address"), 'means something only with to = "syslog"')
        if output.address is not None and output.path is not None:
            reason = "is another place than logging.outputs.path"
            yield Contradiction((*base, "address"), reason, "leave one of them out", ((*base, "path"),))
        yield from _log_over_tls(output, base)


def _log_over_tls(output: LogOutputConfig, base: KeyPath) -> Iterator[Contradiction]:
    if output.protocol is SyslogProtocol.TLS:
        if output.address is None:
            yield Contradiction((*base, "protocol"), "needs an address")
    else:
        for option in ("name", "authorities", "certificate"):
            if getattr(output, option) is not None:
                yield Contradiction((*base, option), 'means something only with protocol = "tls"')
    if (output.certificate is None) != (output.key is None):
        given = "certificate" if output.key is None else "key"
        other = "key" if output.key is None else "certificate"
        yield Contradiction((*base, given), f"needs a {other}")


def _plugins(config: Config) -> Iterator[Contradiction]:
    first: dict[str, int] = {}
    names = [plugin.name for plugin in config.plugins]
    listeners = [listener.name for listener in config.listeners]
    for index, plugin in enumerate(config.plugins):
        path: KeyPath = ("plugins", index)
        earlier = first.setdefault(plugin.name, index)
        if earlier != index:
            reason = f"{shown(plugin.name)} is already the name of plugins[{earlier}]"
            others = (("plugins", earlier, "name"),)
            yield Contradiction((*path, "name"), reason, "give each plugin its own", others)
        if plugin.path is not None and plugin.module is not None:
            reason = "a plugin has a path or a module, not both"
            yield Contradiction((*path, "module"), reason, others=((*path, "path"),))
        yield from _named_in(plugin, plugin.name, path, names, listeners)
        hooks: dict[str, int] = {}
        for place, hook in enumerate(plugin.hooks):
            inner: KeyPath = (*path, "hooks", place)
            if hooks.setdefault(hook.name, place) != place:
                reason = f"{shown(hook.name)} has its settings in hooks[{hooks[hook.name]}] already"
                yield Contradiction((*inner, "name"), reason)
            yield from _named_in(hook, plugin.name, inner, names, listeners)


def _named_in(
    entry: PluginConfig | HookConfig, plugin: str, path: KeyPath, names: list[str], listeners: list[str]
) -> Iterator[Contradiction]:
    """Names of plugins and listeners in an entry that nobody has."""
    for field, known in (("before", names), ("after", names), ("listeners", listeners)):
        for name in getattr(entry, field):
            if name not in known or (name == plugin and field != "listeners"):
                what = "listener" if field == "listeners" else "other plugin"
                reason = f"there is no {what} {shown(name)}"
                where: KeyPath = ("listeners" if field == "listeners" else "plugins",)
                yield Contradiction((*path, field), reason, did_you_mean(name, known), (where,))
