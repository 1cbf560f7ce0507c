"""Adds up what DNS lists say of a client, of the names it uses, and of links in its mail; acts by the score.

The `[policy]` of the server has lists of clients and of senders, each with an action of its own. Here one
score is made of all that can be listed, and of what other plugins noted.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from collections.abc import Iterable
from typing import TypeAlias

import attrs
import trio

from elemta.config import AnswerRange, DnsListsConfig, DnsListZoneConfig
from elemta.dns import look_up_reverse
from elemta.mail import Domain, MailSyntaxError, parse_domain
from elemta.plugin.api import (
    Answer,
    ByteSize,
    Changes,
    Defer,
    Duration,
    EnvelopeView,
    HeaderAction,
    HeaderChange,
    MessageView,
    NoteValue,
    OutsideFailed,
    Plugin,
    Quarantine,
    Reject,
    SessionView,
    hook,
    periodic,
)
from elemta.policy import find_authors
from elemta.policy.head import MessageHead
from elemta.policy.lists import DnsLists, Listing, ListStatistics

from .links import domains_of

MOST_FIELD = 8_000
"""Octets of From fields that are looked through."""
MOST_AUTHORS = 8
"""Domains of a From field that are asked about."""
_AUTHOR = re.compile(r"@([A-Za-z0-9.-]{1,253})")
LOOK_EVERY = 300.0
"""Seconds between two looks for lists that are of no use."""


class Of(enum.StrEnum):
    """What a list is asked about."""

    CLIENT = "client"
    """The address of the client."""
    REVERSE = "reverse"
    """The name that its address has in DNS."""
    HELLO = "hello"
    SENDER = "sender"
    """The domain of the reverse path."""
    AUTHOR = "author"
    """The domain of the From field."""
    LINKS = "links"
    """The domains that links in the message lead to."""


Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Thing: TypeAlias = Address | Domain
Question: TypeAlias = tuple[Of, tuple[Thing, ...]]


def _any(_: object, attribute: attrs.Attribute[tuple[Of, ...]], value: tuple[Of, ...]) -> None:
    if not value:
        raise ValueError("of needs at least one of " + ", ".join(Of))


@attrs.frozen
class Zone:
    zone: Domain
    """Such as `zen.spamhaus.org`."""
    name: str = ""
    """What it is called in replies and notes; for zones that have a secret key in their name."""
    of: tuple[Of, ...] = attrs.field(default=(Of.CLIENT,), validator=_any)
    weight: int = attrs.field(default=1, validator=[attrs.validators.ge(-1000), attrs.validators.le(1000)])
    """Added to the score of what is listed; below 0 for lists of good ones. Answers of one zone that weigh
    differently are several entries."""
    answers: tuple[AnswerRange, ...] = ()
    """Answers that count: `127.0.0.2`, `127.0.0.4-127.0.0.7`, `127.0.0.0/24`; empty: all that mean listed."""


@attrs.frozen
class Settings:
    zones: tuple[Zone, ...] = ()
    defer: int | None = None
    """Score from which mail is deferred."""
    reject: int | None = None
    quarantine: int | None = None
    """Score from which a message is taken and held as suspect."""
    tag: int = 1
    """Score from which `header` says what was found."""
    header: str = "X-DNS-Lists"
    """Strangers' fields of that name are taken out. Empty: none."""
    text: str = "Listed by {lists}"
    """What the client reads."""
    add: tuple[str, ...] = ()
    """Notes of other plugins, such as `rspamd.score`, whose numbers are added to the score of a message."""
    timeout: Duration = 5.0
    """For all lists, which are asked at the same time."""
    lookup_timeout: Duration = 3.0
    """For one list; one that is late does not count."""
    scan: ByteSize = 256 * 1024
    """Octets at the beginning of a message in which links are looked for."""
    links: int = attrs.field(default=20, validator=[attrs.validators.ge(1), attrs.validators.le(200)])
    """Domains of links that are asked for, at most."""


@attrs.frozen
class Found:
    """What all lists said of everything that is known so far."""

    score: int = 0
    lists: tuple[str, ...] = ()
    """Those that speak against it, each with what is listed."""
    unanswered: int = 0

    def plus(self, of: Of, listing: Listing) -> Found:
        against = tuple(f"{hit.name} ({of.value})" for hit in listing.hits if hit.weight > 0)
        return Found(
            self.score + listing.score,
            tuple(dict.fromkeys(self.lists + against)),
            self.unanswered + len(listing.unanswered),
        )


class DnsListScore(Plugin[Settings]):
    Config = Settings
    _lists: dict[Of, DnsLists]
    _seen: dict[tuple[Of, str], ListStatistics]
    """Each list as of the last look."""
    _told: dict[tuple[Of, str], str]
    """What is known to be wrong with each list."""

    @hook("startup")
    async def prepare(self) -> None:
        resolver = self.context.resolver
        if resolver is None:
            raise OutsideFailed("there is no DNS here")
        self._lists, self._seen, self._told = {}, {}, {}
        for of in Of:
            zones = tuple(
                DnsListZoneConfig(zone.zone, zone.name or None, zone.weight, zone.answers)
                for zone in self.config.zones
                if of in zone.of
            )
            if zones:
                config = DnsListsConfig(
                    lookup_timeout=self.config.lookup_timeout, timeout=self.config.timeout, zones=zones
                )
                self._lists[of] = DnsLists(config, resolver, domains=of is not Of.CLIENT)

    @hook("mail")
    async def check_envelope(self, session: SessionView, envelope: EnvelopeView) -> Answer | None:
        if session.trusted or session.identity is not None:
            return None
        address = _address(session)
        found = await self._ask(self._envelope(session, envelope, address), address)
        config = self.config
        notes: dict[str, NoteValue] = {"score": found.score, "lists": ", ".join(found.lists)}
        if config.reject is not None and found.score >= config.reject:
            self.context.metrics.count("rejected")
            return Answer(Reject(self._text(found), reason=_reason(found)), notes=notes)
        if config.defer is not None and found.score >= config.defer:
            self.context.metrics.count("deferred")
            return Answer(Defer(self._text(found), reason=_reason(found)), notes=notes)
        return Answer(notes=notes)

    @hook("message")
    async def check_message(
        self,
        session: SessionView | None,
        message: MessageView,
        notes: dict[str, NoteValue],
    ) -> Answer | None:
        if session is None or session.trusted or session.identity is not None:
            return None
        config, name = self.config, self.context.name
        before = notes.get(f"{name}.lists")
        found = Found(_number(notes.get(f"{name}.score")), tuple(str(before).split(", ")) if before else ())
        listed = await self._ask(await self._content(message))
        found = Found(found.score + listed.score, tuple(dict.fromkeys(found.lists + listed.lists)))
        added = sum(_number(notes.get(each)) for each in config.add)
        found = attrs.evolve(found, score=found.score + added)
        kept: dict[str, NoteValue] = {"score": found.score, "lists": ", ".join(found.lists)}
        if config.reject is not None and found.score >= config.reject:
            self.context.metrics.count("rejected")
            return Answer(Reject(self._text(found), code=554, reason=_reason(found)), notes=kept)
        if config.defer is not None and found.score >= config.defer:
            self.context.metrics.count("deferred")
            return Answer(Defer(self._text(found), reason=_reason(found)), notes=kept)
        changes = self._changes(found, message)
        if config.quarantine is not None and found.score >= config.quarantine:
            self.context.metrics.count("quarantined")
            return Answer(Quarantine(_reason(found)), changes, kept)
        return Answer(changes=changes, notes=kept)

    @periodic(LOOK_EVERY)
    async def look_at_the_lists(self) -> None:
        """Warn, once, of each list that is of no use, whatever its answers are: nobody would notice."""
        for of, lists in self._lists.items():
            for each in lists.statistics():
                key = (of, each.name)
                before = self._seen.get(key)
                if each.asked == (before.asked if before else 0):
                    continue  # nothing new is known
                self._seen[key] = each
                trouble = _trouble(each, refused=each.refused > (before.refused if before else 0))
                if trouble and self._told.get(key) != trouble:
                    self.context.log.warning(
                        "a DNS list is of no use", list=each.name, of=of.value, why=trouble
                    )
                self._told[key] = trouble
        self.context.metrics.set("lists of no use", sum(map(bool, self._told.values())))

    # --- What is asked --------------------------------------------------------------------------------------

    def _envelope(
        self, session: SessionView, envelope: EnvelopeView, address: Address | None
    ) -> list[Question]:
        asked: list[Question] = [] if address is None else [(Of.CLIENT, (address,))]
        asked.append((Of.HELLO, _domains((session.hello,))))
        asked.append((Of.SENDER, _domains((envelope.sender.rpartition("@")[2],))))
        return asked

    async def _content(self, message: MessageView) -> list[Question]:
        asked: list[Question] = []
        if Of.AUTHOR in self._lists:
            asked.append((Of.AUTHOR, _authors(message)))
        if Of.LINKS in self._lists:
            config = self.config
            links = await self.context.in_thread(_links, message, config.scan, config.links)
            asked.append((Of.LINKS, links))
        return asked

    async def _ask(self, asked: list[Question], named: Address | None = None) -> Found:
        """All at once, within the time of the settings; of several things of a kind the worst one counts.

        `named`: the address whose name in DNS is asked about, too.
        """
        worst: dict[Of, Listing] = {}
        deadline = trio.current_time() + self.config.timeout

        async def look_up(of: Of, what: Thing) -> None:
            lists = self._lists[of]
            listing = await (
                lists.look_up_domain(what) if isinstance(what, Domain) else lists.look_up_address(what)
            )
            if of not in worst or listing.score > worst[of].score:
                worst[of] = listing

        async def look_up_name(address: Address) -> None:
            # Two steps in the time of one: each look-up has all of the time by itself
            with trio.move_on_at(deadline) as scope:
                assert self.context.resolver is not None
                reverse = await look_up_reverse(
                    self.context.resolver, address, seconds=self.config.lookup_timeout
                )
                for name in _domains((reverse.name,)):
                    await look_up(Of.REVERSE, name)
            if scope.cancelled_caught:
                worst[Of.REVERSE] = Listing(unanswered=("reverse",))

        async with trio.open_nursery() as nursery:
            if named is not None and Of.REVERSE in self._lists:
                nursery.start_soon(look_up_name, named)
            for of, things in asked:
                for what in dict.fromkeys(things) if of in self._lists else ():
                    nursery.start_soon(look_up, of, what)
        found = Found()
        for of in Of:
            if of in worst:
                found = found.plus(of, worst[of])
        self.context.metrics.count("listed" if found.lists else "not listed")
        if found.unanswered:
            self.context.metrics.count("no answer")
        return found

    # --- What is said ---------------------------------------------------------------------------------------

    def _text(self, found: Found) -> str:
        return self.config.text.replace("{lists}", ", ".join(found.lists[:3]))

    def _changes(self, found: Found, message: MessageView) -> Changes:
        name = self.config.header
        if not name:
            return Changes()
        if found.score >= self.config.tag:
            return Changes(headers=(HeaderChange(HeaderAction.REPLACE, name, _reason(found)),))
        if message.header(name) is not None:
            return Changes(headers=(HeaderChange(HeaderAction.REMOVE, name),))
        return Changes()


def _address(session: SessionView) -> Address | None:
    try:
        return ipaddress.ip_address(session.peer)
    except ValueError:
        return None  # a socket in the file system


def _trouble(each: ListStatistics, *, refused: bool) -> str:
    """What is wrong with a list; `refused`: it said so since the last look."""
    if refused:
        return "says that it does not serve us: ask it through a resolver of your own, or leave it out"
    if not each.sound:
        return "does not count: it lists what none may list (RFC 5782), or nobody answers for it"
    if each.mute:
        return "does not list its own test point (RFC 5782): it may be dead"
    return ""


def _reason(found: Found) -> str:
    return f"score {found.score}: {', '.join(found.lists) or 'no list'}"[:500]


def _number(value: NoteValue) -> int:
    return round(value) if isinstance(value, int | float) and abs(value) < 1e6 else 0


def _authors(message: MessageView) -> tuple[Domain, ...]:
    raw = b"".join(b"From:%b\r\n" % each.raw for each in message.headers if each.name.lower() == "from")
    found = find_authors(MessageHead(raw)).domains
    if found:
        return tuple(domain for domain in found if "." in domain.text)[:MOST_AUTHORS]
    # Nobody knows who it is: whatever it names, and of much the two ends, which readers show
    names = list(dict.fromkeys(_AUTHOR.findall(raw[:MOST_FIELD].decode("utf-8", "replace"))))
    half = MOST_AUTHORS // 2
    return _domains(dict.fromkeys(names[:half] + names[-half:]))


def _links(message: MessageView, scan: int, most: int) -> tuple[Domain, ...]:
    """Blocking: a large message is in a file, and there can be much to unpack."""
    for start in message.chunks(scan):
        return domains_of(start[:scan], most)
    return ()


def _domains(names: Iterable[str]) -> tuple[Domain, ...]:
    found = []
    for name in names:
        try:
            domain = parse_domain(name)
        except MailSyntaxError:
            continue
        if isinstance(domain, Domain) and "." in domain.text:
            found.append(domain)
    return tuple(found)
