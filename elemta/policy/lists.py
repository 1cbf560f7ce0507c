"""DNS lists of clients and of domains (RFC 5782): all are asked at once, and their weights added.

What is never believed: an answer outside 127.0.0.0/8 (a parked domain), a code that says the list
does not answer us, an answer that comes too late, and a list that lists what no list may list. That
last is how dead lists end: somebody makes them list the whole internet. So each list is asked now
and then for its test points (RFC 5782 §5), and counts only once it was seen not to.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import attrs
import trio

from elemta.config import LIST_ERRORS, AnswerRange, DnsListsConfig
from elemta.dns import Answer, AsksDns, RecordKind, Status, reversed_labels
from elemta.mail import Domain

from .client import IpAddress

_ANSWERS = ipaddress.IPv4Network("127.0.0.0/8")
# Besides 127.255.255.0/24: what single lists answer to those they do not serve (URIBL, dnswl.org), and
# to questions that make no sense to them (the domain list of Spamhaus). Unless they are asked for by name.
_UNLISTED = frozenset(
    ipaddress.IPv4Address(text) for text in ("127.0.0.0", "127.0.0.1", "127.0.0.255", "127.0.1.255")
)
_EXAMINE_EVERY = 600.0
"""Seconds between two looks at the test points of a list."""
_EXAMINE_AGAIN = 60.0
"""The same while they are not known."""

# RFC 5782 §5: what every list has, and what none may have
_ADDRESS_TESTS = ("2.0.0.127", "1.0.0.127")
_DOMAIN_TESTS = ("test", "invalid")


@attrs.frozen
class Hit:
    """A list that has what was asked for."""

    name: str
    answers: tuple[str, ...]
    weight: int


@attrs.frozen
class Listing:
    """What the lists said together."""

    score: int = 0
    hits: tuple[Hit, ...] = ()
    unanswered: tuple[str, ...] = ()
    """Lists that did not answer in time, or answered that they do not answer us."""

    def finding(self) -> str:
        """One line for notes: `score 3: zen.example (127.0.0.2, 127.0.0.4), bl.example (127.0.0.2)`."""
        parts = [] if self.hits or self.unanswered else ["not listed"]
        if self.hits:
            hits = (f"{hit.name} ({', '.join(hit.answers)})" for hit in self.hits)
            parts.append(f"score {self.score}: {', '.join(hits)}")
        if self.unanswered:
            parts.append(f"no answer from {', '.join(self.unanswered)}")
        return "; ".join(parts)

    def blamed(self) -> str:
        """The lists that speak against it, for a reply; three at most."""
        against = [hit.name for hit in self.hits if hit.weight > 0]
        return ", ".join(against[:3])


@attrs.frozen
class ListStatistics:
    """One list since the start."""

    name: str
    asked: int
    listed: int
    unanswered: int
    refused: int
    """Answers that said that we are not served, such as 127.255.255.254: ask through another resolver."""
    sound: bool
    """It does not list what none may list; otherwise nothing it says counts."""
    mute: bool
    """It does not list its own test point: it may be dead, or not serve us without saying so."""


class DnsLists:
    """The lists of one section of the configuration."""

    def __init__(self, config: DnsListsConfig, resolver: AsksDns, *, domains: bool = False) -> None:
        """`domains`: the lists are of domains, not of addresses."""
        self.config = config
        self._resolver = resolver
        self._tests = _DOMAIN_TESTS if domains else _ADDRESS_TESTS
        rules: dict[str, list[tuple[int, tuple[AnswerRange, ...]]]] = {}
        names: dict[str, str] = {}
        for zone in config.zones:
            rules.setdefault(zone.zone.text, []).append((zone.weight, zone.answers))
            names[zone.zone.text] = zone.name or names.get(zone.zone.text) or zone.zone.text
        self._zones = tuple(_Zone(zone, names[zone], tuple(found)) for zone, found in rules.items())

    async def look_up_address(self, address: IpAddress) -> Listing:
        """What the lists say about an address, within the configured time."""
        return await self._look_up(reversed_labels(address))

    async def look_up_domain(self, domain: Domain) -> Listing:
        """The same about a domain."""
        return await self._look_up(domain.text)

    async def _look_up(self, label: str) -> Listing:
        answers: dict[_Zone, Answer] = {}
        with trio.move_on_after(self.config.timeout):
            async with trio.open_nursery() as nursery:
                for zone in self._zones:
                    nursery.start_soon(self._ask, zone, label, answers)
                    if trio.current_time() >= zone.examine_at:
                        nursery.start_soon(self._examine, zone)
        hits = []
        unanswered = []
        for zone in self._zones:
            answer = answers.get(zone)
            zone.asked += 1
            if answer is None or answer.status is Status.FAILED:
                zone.unanswered += 1
                unanswered.append(zone.name)
                continue
            if zone.refuses(answer):
                zone.refused += 1
                unanswered.append(zone.name)
            if not zone.sound:
                continue
            hit = zone.judge(answer)
            if hit is not None:
                zone.listed += 1
                hits.append(hit)
        return Listing(sum(hit.weight for hit in hits), tuple(hits), tuple(unanswered))

    async def _ask(self, zone: _Zone, label: str, answers: dict[_Zone, Answer]) -> None:
        with trio.move_on_after(self.config.lookup_timeout):
            answers[zone] = await self._resolver.query(f"{label}.{zone.zone}", RecordKind.A)

    async def _examine(self, zone: _Zone) -> None:
        """Look at the test points; what was known before stands where DNS gives no answer."""
        zone.examine_at = trio.current_time() + _EXAMINE_AGAIN
        found: dict[str, Answer] = {}

        async def look(label: str) -> None:
            found[label] = await self._resolver.query(f"{label}.{zone.zone}", RecordKind.A)

        with trio.move_on_after(self.config.lookup_timeout):
            async with trio.open_nursery() as nursery:
                for label in self._tests:
                    nursery.start_soon(look, label)
        listed, unlisted = (found.get(label) for label in self._tests)
        if unlisted is not None and unlisted.status is not Status.FAILED:
            zone.sound = not _believable(unlisted)
            zone.examine_at = trio.current_time() + _EXAMINE_EVERY
        if listed is not None and listed.status is not Status.FAILED:
            zone.mute = not _believable(listed)

    def statistics(self) -> tuple[ListStatistics, ...]:
        return tuple(
            ListStatistics(
                zone.name, zone.asked, zone.listed, zone.unanswered, zone.refused, zone.sound, zone.mute
            )
            for zone in self._zones
        )


@attrs.define(eq=False)
class _Zone:
    """A list, with all that the configuration says of it, and what was seen of it."""

    zone: str
    name: str
    rules: tuple[tuple[int, tuple[AnswerRange, ...]], ...]
    sound: bool = False
    mute: bool = False
    examine_at: float = 0.0
    """Trio's time."""
    asked: int = 0
    listed: int = 0
    unanswered: int = 0
    refused: int = 0

    def judge(self, answer: Answer) -> Hit | None:
        """What an answer is worth by the rules; a rule counts once, however many records it matches."""
        weight = 0
        matched: dict[str, None] = {}
        for rule_weight, ranges in self.rules:
            texts = [str(address) for address in _believable(answer) if _counts(address, ranges)]
            if texts:
                weight += rule_weight
                matched.update(dict.fromkeys(texts))
        return Hit(self.name, tuple(matched)[:4], weight) if matched else None

    def refuses(self, answer: Answer) -> bool:
        """Whether the list says that it does not answer us."""
        return any(
            address in LIST_ERRORS
            or (address in _UNLISTED and not any(_counts(address, ranges) for _, ranges in self.rules))
            for address in _addresses(answer)
        )


def _addresses(answer: Answer) -> Iterable[ipaddress.IPv4Address]:
    for text in answer.texts:
        try:
            address = ipaddress.IPv4Address(text)
        except ValueError:
            continue
        # RFC 5782 §2.1: anything else is not from a list, but from whoever took over its name
        if address in _ANSWERS:
            yield address


def _believable(answer: Answer) -> list[ipaddress.IPv4Address]:
    return [address for address in _addresses(answer) if address not in LIST_ERRORS]


def _counts(address: ipaddress.IPv4Address, ranges: tuple[AnswerRange, ...]) -> bool:
    if ranges:
        return any(address in one for one in ranges)
    return address not in _UNLISTED
