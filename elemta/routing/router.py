"""Accept or refuse a recipient; recipient to route. Pure table look-ups, no DNS.

A local part is never read as an address: `user%elsewhere@ours`, `elsewhere!user@ours` and
`"user@elsewhere"@ours` are literal local parts at our domain (RELIABILITY 6.5 no. 7, 11, 19).
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

import attrs
import trio

from elemta.config import (
    Config,
    DomainPattern,
    FallbackCause,
    FallbackConfig,
    RouteConfig,
    RouteTls,
    SrsConfig,
    TransportKind,
)
from elemta.mail import AddressLiteral, Cause, Domain, ForwardPath, Mailbox, parse_domain, parse_mailbox
from elemta.runtime import ThreadPool, run_in_thread

from .folders import fill_folder
from .recipients import MAX_TARGETS, RecipientTable, read_recipients, strip_tag
from .recipientstore import RecipientStore, RecipientsUnavailable
from .srs import Keep, KeptSender, Srs, SrsSecretsError, read_srs_secrets
from .tables import DomainTable, RouteTable, fold_local_part, mailbox_key

IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

SMTP_PORT = 25
LMTP_PORT = 24
_ROUTING_CHARACTERS = frozenset("@%!")


@attrs.frozen
class Route:
    """Where a recipient goes. Equal routes share a site: its connections, limits and suspension."""

    transport: TransportKind
    next_hop: str
    """Domain whose MX is asked, fixed host, or folder; lower case."""
    port: int = 0
    use_mx: bool = False
    """Whether `next_hop` is a domain whose MX records say where to go."""
    tls: RouteTls = RouteTls.OPPORTUNISTIC
    username: str | None = None
    """The account to log in with; the password is in `password_file`."""
    password_file: Path | None = None
    command: tuple[str, ...] = ()
    """The program and its arguments, to be filled in for each recipient."""
    memory: int = 0
    """Octets of address space that the program may have."""
    time_limit: float = 0.0
    """Seconds that the program or the web server may take for a message."""
    url: str = ""
    key_file: Path | None = None
    source: str | None = None
    """Where connections come from: one of `[[sources]]`, or a pool of them."""

    def __str__(self) -> str:
        if self.transport in (TransportKind.SMTP, TransportKind.LMTP):
            host = self.next_hop if self.use_mx else f"[{self.next_hop}]:{self.port}"
            return f"{self.transport}:{host}"
        if self.url:
            return f"{self.transport}:{self.url}"
        return f"{self.transport}:{self.next_hop}" if self.next_hop else str(self.transport)


@attrs.frozen
class Fallback:
    """Where mail of a route goes when the route does not serve, and when that is so."""

    route: Route
    after: int
    """Attempts; 0: their number does not count."""
    causes: frozenset[str]

    def is_due(self, attempts: int, reason: str) -> bool:
        """Whether the next attempt goes there, after so many of which the last one ended for that reason."""
        return reason in self.causes or 0 < self.after <= attempts

    def begins(self, attempts: int, cause: Cause) -> bool:
        """Whether it goes there at once: with a cause that says that nothing was taken."""
        return cause in _NOTHING_TAKEN and self.is_due(attempts, cause)


_NOTHING_TAKEN = frozenset(map(str, FallbackCause))


@attrs.frozen
class Found:
    """What is known of a recipient."""

    exists: bool
    behind: tuple[Mailbox, ...]
    """Who gets its mail, each once; often only itself."""


@attrs.frozen
class OriginalSender:
    """What is to be known of a sender that was rewritten, where mail comes to it."""

    mailbox: Mailbox | None
    """None: the address was not made here, or too long ago, or see `kept`."""
    may_write: bool
    """Whether mail from such a sender is taken for it."""
    kept: str = ""
    """The key under which he has been kept."""


class Destination(enum.Enum):
    """Whose a recipient is, which decides who may send to it."""

    LOCAL = "local"
    """Ours: anybody may."""
    RELAY = "relay"
    """Of a domain that we pass mail on for: anybody may."""
    FOREIGN = "foreign"
    """Somebody else's: only those who may relay."""


@attrs.frozen
class _Tables:
    """All that one configuration says, so that a reload swaps it in one step."""

    local: DomainTable
    relay: DomainTable
    routes: RouteTable
    mx_port: int
    hostname: Domain | AddressLiteral
    postmaster: Mailbox
    addresses: frozenset[IpAddress]
    recipients: RecipientTable | None
    store: RecipientStore | None
    delimiter: str
    has_fallbacks: bool
    srs: Srs | None
    bounces_only: bool

    @classmethod
    def of(cls, config: Config, local_addresses: frozenset[IpAddress]) -> _Tables:
        for route in config.routes:
            _check(route)
        hostname = parse_domain(config.hostname)
        domains = config.domains
        local = DomainTable(DomainPattern(domain) for domain in domains.local)
        relay = DomainTable(domains.relay)

        def is_ours(name: str) -> bool:
            return any(parse_domain(name) in table for table in (local, relay))

        recipients = store = None
        if domains.recipients is not None:
            recipients = read_recipients(domains.recipients, domains.delimiter, is_ours)
        if domains.table is not None:
            store = RecipientStore(domains.table, recipients, domains.delimiter, is_ours)
        return cls(
            local=local,
            relay=relay,
            routes=RouteTable(config.routes, domains.local),
            mx_port=config.delivery.port,
            hostname=hostname,
            postmaster=(
                parse_mailbox(config.postmaster, utf8=True)
                if config.postmaster is not None
                else Mailbox("postmaster", hostname)
            ),
            addresses=local_addresses | frozenset(_listener_addresses(config)),
            recipients=recipients,
            store=store,
            delimiter=domains.delimiter,
            has_fallbacks=any(route.fallback.host is not None for route in config.routes),
            srs=_srs(config.srs),
            bounces_only=config.srs.bounces_only,
        )


class Router:
    """The routing tables. Each method is one look-up in the configuration of that moment.

    `local_addresses` are those that we are reached at, beside those of the listeners; `is_our_address` says
    whether an address is, for listeners that are reached at all of the machine's. A recipient at
    such an address literal is still FOREIGN, so nobody relays through it, except postmaster, who must
    be reachable wherever we take mail (RFC 5321 §4.5.1).

    Raises:
      ValueError: of the constructor, `prepare` and `replace`, which block for as long as the files
        are read: a route lacks what its transport needs (host for lmtp, path for maildir), a name is
        none, or (`RecipientsFileError`, `SrsSecretsError`) a file cannot be used. Then nothing has changed.
    """

    def __init__(
        self,
        config: Config,
        *,
        local_addresses: Iterable[IpAddress | str] = (),
        is_our_address: Callable[[str], bool] = lambda address: False,
    ) -> None:
        self._is_our_address = is_our_address
        self._asking = ThreadPool("recipients-table", 1)
        self._local_addresses = frozenset(_unmap(ipaddress.ip_address(item)) for item in local_addresses)
        self._tables = _Tables.of(config, self._local_addresses)

    def replace(self, config: Config) -> None:
        """Use another configuration from now on."""
        self.prepare(config)()

    def prepare(self, config: Config) -> Callable[[], None]:
        """Make the tables of another configuration; what is returned puts them to use and cannot fail."""
        tables = _Tables.of(config, self._local_addresses)

        def swap() -> None:
            self._tables = tables

        return swap

    @property
    def postmaster(self) -> Mailbox:
        """Who gets mail for the bare `<postmaster>`."""
        return self._tables.postmaster

    def mailbox_of(self, path: ForwardPath) -> Mailbox:
        """The mailbox that a forward path means here: what goes into the envelope.

        The bare `<postmaster>`, postmaster at one of our addresses, and at our host name where that is no
        local domain, are the configured postmaster (RFC 5321 §4.1.1.3, §4.5.1). Nothing else is rewritten.
        """
        mailbox = path.mailbox
        if mailbox is None or self._means_our_postmaster(mailbox):
            return self.postmaster
        return mailbox

    def destination(self, mailbox: Mailbox) -> Destination:
        """Whose mailbox it is. The configured postmaster is LOCAL wherever his address is."""
        if mailbox.domain in self._tables.local:
            return Destination.LOCAL
        if self._means_our_postmaster(mailbox) or mailbox_key(mailbox) == mailbox_key(self.postmaster):
            return Destination.LOCAL
        if mailbox.domain in self._tables.relay and not _ROUTING_CHARACTERS.intersection(mailbox.local_part):
            # With `user%elsewhere@relayed` strangers would use us to use the next hop, which trusts us, as a
            # relay (Postfix: allow_untrusted_routing). Those who may relay can still send there.
            return Destination.RELAY
        return Destination.FOREIGN

    def exists(self, mailbox: Mailbox) -> bool:
        """Whether there is such a mailbox or alias, as far as we can know: False only for what the recipients
        file leaves out of a domain that it lists. Postmaster always exists (RFC 5321 §4.5.1)."""
        return self._exists(mailbox, self._tables.recipients)

    def _exists(self, mailbox: Mailbox, table: RecipientTable | None) -> bool:
        return (
            table is None
            or table.exists(mailbox)
            or fold_local_part(mailbox.local_part) == "postmaster"
            or mailbox_key(mailbox) == mailbox_key(self.postmaster)
        )

    def is_named(self, mailbox: Mailbox) -> bool:
        """Whether the configuration names the mailbox itself, so that it is known to exist."""
        tables = self._tables
        return (
            mailbox == tables.postmaster
            or tables.routes.names(mailbox)
            or (tables.recipients is not None and tables.recipients.is_named(mailbox))
        )

    def expand(self, mailbox: Mailbox) -> tuple[Mailbox, ...]:
        """The mailboxes behind a recipient, each once: what its alias says, or itself."""
        return self._expand(mailbox, self._tables.recipients)

    def _expand(self, mailbox: Mailbox, table: RecipientTable | None) -> tuple[Mailbox, ...]:
        tables = self._tables
        if table is None:
            return (mailbox,)
        if (
            not table.exists(mailbox)
            and fold_local_part(mailbox.local_part) == "postmaster"
            and tables.postmaster != Mailbox("postmaster", tables.hostname)
        ):
            mailbox = tables.postmaster  # the file has none for this domain: the one who is named for all
        return table.expand(mailbox)

    def has_to_ask(self, mailbox: Mailbox) -> bool:
        """Whether `find` knows more of it than `exists` and `expand`: there is a table for its domain."""
        tables = self._tables
        return tables.store is not None and (mailbox.domain in tables.local or mailbox.domain in tables.relay)

    async def find(self, mailbox: Mailbox) -> Found:
        """What the recipients file and the table say of a recipient. It can be cancelled while it waits for
        its turn; a question that is asked is answered within about a second.

        Raises:
          RecipientsUnavailable: the table cannot be read now, or what it says makes no sense.
        """
        store = self._tables.store
        if store is None:
            await trio.lowlevel.checkpoint()
            return Found(self.exists(mailbox), self.expand(mailbox))
        return await run_in_thread(self._asking, self.find_blocking, mailbox)

    def find_blocking(self, mailbox: Mailbox) -> Found:
        """The same, for one thread at a time."""
        store = self._tables.store

        def look(table: RecipientTable | None) -> Found:
            found = Found(self._exists(mailbox, table), self._expand(mailbox, table))
            if not found.behind:
                raise RecipientsUnavailable(f"{mailbox}: this alias leads only back to itself")
            if len(found.behind) > MAX_TARGETS:
                raise RecipientsUnavailable(f"{mailbox}: more than {MAX_TARGETS} mailboxes stand behind it")
            return found

        return look(self._tables.recipients) if store is None else store.ask(look)

    def forward_sender(
        self, sender: Mailbox, target: Mailbox, now: float, keep: Keep | None = None
    ) -> Mailbox | None:
        """Who sends mail of `sender` on to a target of an alias, at `now` (wall clock). None: he does.
        `keep`: for senders that are too long to be written into the address.

        Only for a target of somebody else's; our own domains name us in their SPF records already.
        """
        tables = self._tables
        if (
            tables.srs is None
            or sender.domain in tables.local
            or self.destination(target) is not Destination.FOREIGN
        ):
            return None
        return tables.srs.rewrite(sender, now, keep)

    def original_sender(self, mailbox: Mailbox, now: float, *, bounce: bool) -> OriginalSender | None:
        """Who is behind a sender that `forward_sender` made, where mail comes to it at `now` (wall clock);
        None: it is no such address. `bounce`: the mail is from `<>`."""
        tables = self._tables
        if tables.srs is None or not tables.srs.is_ours(mailbox):
            return None
        if tables.recipients is not None and tables.recipients.is_listed(mailbox):
            return None
        found, may_write = tables.srs.reverse(mailbox, now), bounce or not tables.bounces_only
        if isinstance(found, KeptSender):
            return OriginalSender(None, may_write, found.key)
        return OriginalSender(found, may_write)

    def route(self, mailbox: Mailbox, *, quarantined: bool = False) -> Route:
        """The first route that matches; without one, the MX of the domain.

        Args:
          quarantined: a check has marked the message, and where there is a route for that it takes it.
        """
        if self._means_our_postmaster(mailbox):
            mailbox = self.postmaster
        config = self._config_of(mailbox, quarantined)
        if config is None:
            return self._mx_route(mailbox)
        match config.transport:
            case TransportKind.DISCARD:
                return Route(TransportKind.DISCARD, "", tls=RouteTls.NONE)
            case TransportKind.MAILDIR:
                folder = fill_folder(config.path or "", self._without_tag(mailbox))
                return Route(TransportKind.MAILDIR, folder, tls=RouteTls.NONE)
            case TransportKind.PIPE:
                return Route(
                    TransportKind.PIPE,
                    config.command[0],
                    tls=RouteTls.NONE,
                    command=config.command,
                    memory=int(config.memory),
                    time_limit=config.time_limit,
                )
            case TransportKind.HTTP:
                return _http_route(config)
            case TransportKind.SMTP if config.host is None:
                return self._mx_route(mailbox, config.tls, config.port, config.source)
            case _:
                default = LMTP_PORT if config.transport is TransportKind.LMTP else SMTP_PORT
                host = _fixed_host(config.host or "")
                return Route(
                    config.transport,
                    host,
                    config.port or default,
                    tls=config.tls,
                    username=config.username,
                    password_file=config.password_file,
                    source=config.source,
                )

    @property
    def quarantine_name(self) -> str | None:
        """The route for what a check has marked; None where there is none."""
        if self._tables.routes.quarantine is None:
            return None
        return str(self.route(self.postmaster, quarantined=True))

    def _config_of(self, mailbox: Mailbox, quarantined: bool) -> RouteConfig | None:
        routes = self._tables.routes
        return (routes.quarantine if quarantined else None) or routes.find(mailbox)

    def next_route(self, mailbox: Mailbox, attempts: int, reason: str, *, quarantined: bool = False) -> Route:
        """Where the next attempt goes, after so many of which the last one ended for that reason."""
        fallback = self.fallback(mailbox, quarantined=quarantined)
        if fallback is not None and fallback.is_due(attempts, reason):
            return fallback.route
        return self.route(mailbox, quarantined=quarantined)

    def fallback(self, mailbox: Mailbox, *, quarantined: bool = False) -> Fallback | None:
        """What the route of a recipient has for when it does not serve."""
        if not self._tables.has_fallbacks:
            return None
        if self._means_our_postmaster(mailbox):
            mailbox = self.postmaster
        config = self._config_of(mailbox, quarantined)
        return None if config is None else _fallback(config.fallback, config.source)

    def _without_tag(self, mailbox: Mailbox) -> Mailbox:
        tables = self._tables
        if tables.recipients is not None and tables.recipients.is_listed(mailbox):
            return mailbox
        return attrs.evolve(mailbox, local_part=strip_tag(mailbox.local_part, tables.delimiter))

    def rule(self, mailbox: Mailbox) -> str | None:
        """What the first route that matches says it matches, for people; `None`: none does."""
        if self._means_our_postmaster(mailbox):
            mailbox = self.postmaster
        config = self._tables.routes.find(mailbox)
        return None if config is None else str(config.match)

    def _mx_route(
        self,
        mailbox: Mailbox,
        tls: RouteTls = RouteTls.OPPORTUNISTIC,
        port: int | None = None,
        source: str | None = None,
    ) -> Route:
        return Route(
            TransportKind.SMTP,
            mailbox.domain.text.lower(),
            port or self._tables.mx_port,
            use_mx=True,
            tls=tls,
            source=source,
        )

    def _means_our_postmaster(self, mailbox: Mailbox) -> bool:
        # RFC 5321 §4.5.1: postmaster is the one local part whose case never matters
        if fold_local_part(mailbox.local_part) != "postmaster":
            return False
        if isinstance(mailbox.domain, AddressLiteral):
            address = mailbox.domain.address
            if address is None:
                return False
            address = _unmap(address)
            return address in self._tables.addresses or self._is_our_address(str(address))
        return (
            mailbox.domain == self._tables.hostname
            and mailbox.domain not in self._tables.local
            and mailbox.domain not in self._tables.relay
        )


def _srs(config: SrsConfig) -> Srs | None:
    if config.domain is None:
        return None
    if config.secrets is None:
        raise SrsSecretsError("srs.secrets: there is no file of secrets")
    return Srs(config.domain, read_srs_secrets(config.secrets), config.max_age)


def _check(route: RouteConfig) -> None:
    if route.transport is TransportKind.LMTP and not route.host:
        raise ValueError("a route with transport lmtp needs a host")
    if route.transport is TransportKind.MAILDIR and not route.path:
        raise ValueError("a route with transport maildir needs a path")
    if route.transport is TransportKind.PIPE and not route.command:
        raise ValueError("a route with transport pipe needs a command")
    if route.transport is TransportKind.HTTP and not route.url:
        raise ValueError("a route with transport http needs a url")


def _fallback(config: FallbackConfig, source: str | None) -> Fallback | None:
    if config.host is None:
        return None
    route = Route(
        TransportKind.SMTP,
        _fixed_host(config.host),
        config.port,
        tls=config.tls,
        username=config.username,
        password_file=config.password_file,
        source=source,
    )
    return Fallback(route, config.after, frozenset(map(str, config.causes)))


def _http_route(config: RouteConfig) -> Route:
    parts = urlsplit(config.url or "")
    secure = parts.scheme == "https"
    return Route(
        TransportKind.HTTP,
        (parts.hostname or "").lower(),
        parts.port or (443 if secure else 80),
        tls=RouteTls.VERIFIED if secure else RouteTls.NONE,
        time_limit=config.time_limit,
        url=config.url or "",
        key_file=config.key_file,
    )


def _listener_addresses(config: Config) -> Iterator[IpAddress]:
    for listener in config.listeners:
        try:
            address = _unmap(ipaddress.ip_address(listener.address.host))
        except ValueError:  # a name, or every address: then only what is given counts
            continue
        if not address.is_unspecified:
            yield address


def _fixed_host(host: str) -> str:
    return host.strip().removeprefix("[").removesuffix("]").removesuffix(".").lower()


def _unmap(address: IpAddress) -> IpAddress:
    # RELIABILITY 6.1: `::ffff:127.0.0.1` is 127.0.0.1, in every check
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
