"""Settings that are each in order but do not go together."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from elemta.mail import Domain

from .choices import ListenerTls, RouteTls, TransportKind
from .positions import KeyPath
from .schema import Config, RouteConfig
from .units import DomainPattern, HostPort, RoutePattern, format_duration, shown

_OPTIONS = {
    TransportKind.SMTP: ("host", "port", "tls"),
    TransportKind.LMTP: ("host", "port", "tls"),
    TransportKind.MAILDIR: ("path",),
    TransportKind.DISCARD: (),
}
"""Which settings of a route mean something to its transport."""
_ROUTE_OPTIONS = {"host": None, "port": None, "tls": RouteTls.OPPORTUNISTIC, "path": None}
"""The settings that only some transports use, with their defaults."""


@attrs.frozen
class Contradiction:
    """A conflict seen at `path`. It says nothing while a value of `path` or `others` is itself mistaken."""

    path: KeyPath
    reason: str
    hint: str = ""
    others: tuple[KeyPath, ...] = ()


def find_contradictions(config: Config) -> Iterator[Contradiction]:
    """Compare the settings with each other."""
    yield from _listener_names(config)
    yield from _listener_addresses(config)
    yield from _certificates(config)
    yield from _domains(config)
    yield from _local_routes(config)
    yield from _route_options(config)
    yield from _dead_routes(config)
    yield from _numbers(config)


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
    if certificate is None and key is None:
        for index, listener in enumerate(config.listeners):
            if listener.tls is not ListenerTls.OFF:
                yield Contradiction(
                    ("listeners", index, "tls"),
                    f"{str(listener.tls)!r} needs a certificate and a key",
                    'set both in [tls], or tls = "off"',
                    (("tls",),),
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


def _local_routes(config: Config) -> Iterator[Contradiction]:
    """Mail for a local domain must end somewhere: its MX is this server, so asking it would be a loop."""
    routes: tuple[KeyPath, ...] = (("routes",),)
    table = _FirstMatch()
    for index, route in enumerate(config.routes):
        table.add(route.match, index)
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
        mailbox = route.match.mailbox
        if mailbox is not None and mailbox.domain in local and _asks_mx(route):
            yield Contradiction(
                ("routes", index, "match"),
                f"sends a local address to the MX of {mailbox.domain}, which is this server",
                "give the route a host, or another transport",
                (("routes", index), ("domains", "local")),
            )


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
                owner = "maildir" if name == "path" else "smtp and lmtp"
                reason = f"means nothing to the transport {route.transport}"
                yield Contradiction((*base, name), reason, f"it belongs to {owner}: remove it", transport)
        if route.transport is TransportKind.MAILDIR and route.path is None:
            hint = 'add path = "var/mail/{domain}/{local_part}"'
            yield Contradiction(base, "a maildir route needs a path", hint, ((*base, "path"), *transport))
        if route.transport is TransportKind.LMTP and route.host is None:
            hint = 'add host = "127.0.0.1"'
            yield Contradiction(base, "an lmtp route needs a host", hint, ((*base, "host"), *transport))


def _dead_routes(config: Config) -> Iterator[Contradiction]:
    table = _FirstMatch()
    for index, route in enumerate(config.routes):
        earlier = table.find(route.match)
        if earlier is not None:
            yield Contradiction(
                ("routes", index, "match"),
                f"never used: routes[{earlier}] ({config.routes[earlier].match}) takes all of it first",
                "the first match wins: put the narrower route first",
                (("routes", earlier),),
            )
        table.add(route.match, index)


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
