"""The small values of the configuration: how each is written, read strictly, and written back.

Every reader takes text, checks it against an ASCII pattern before it converts anything, and raises
`BadValue` with a reason and, where there is one, the right form.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

import attrs

from elemta.mail import Domain, Mailbox, MailSyntaxError, parse_domain, parse_mailbox

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

LONGEST_DURATION = 3650 * 86400
"""Seconds. Ten years: beyond any use, and far from where clocks and dates overflow."""
LARGEST_SIZE = 1 << 50
"""Octets. Above any disk, below the integers of SQLite."""

_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1))
DURATION_PATTERN = r"(?=[0-9])" + "".join(rf"(?:([0-9]{{1,9}}){unit})?" for unit, _ in _UNITS)
_DURATION = re.compile(DURATION_PATTERN)
_NUMBER = re.compile(r"[0-9]{1,15}")
_SIZES = (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))
SIZE_PATTERN = r"([0-9]{1,15})(KiB|MiB|GiB|TiB)"
_SIZE = re.compile(SIZE_PATTERN)
_LOOSE_SIZE = re.compile(r"([0-9]{1,15}) ?([kmgt])(?:i?b)?", re.IGNORECASE | re.ASCII)
HOST_PORT_PATTERN = r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]*)):([0-9]{1,5})"
_HOST_PORT = re.compile(HOST_PORT_PATTERN)
_BARE_IPV6_PORT = re.compile(r"([0-9A-Fa-f:.]*::?[0-9A-Fa-f.]*):([0-9]{1,5})")
_NAME_PORT = re.compile(r"([A-Za-z0-9._*-]+):([0-9]{1,5})")
NETWORK_PATTERN = r"([0-9A-Fa-f:.]+)(?:/([0-9]{1,3}))?"
_NETWORK = re.compile(NETWORK_PATTERN)
# RFC 952, RFC 1123 2.1: letters, digits, hyphens; RFC 5321 2.3.5: fully qualified
_HOSTNAME = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
_NAME = re.compile(NAME_PATTERN)
SELECTOR_PATTERN = (
    r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?)*"
)
_SELECTOR = re.compile(SELECTOR_PATTERN)
MAX_SELECTOR = 120
"""Octets: the name of the key, `selector._domainkey.domain`, must be a name that DNS can hold."""
EVENT_TYPES_PATTERN = r"[a-z][a-z-]{0,30}(?:\.(?:\*|[a-z][a-z-]{0,30}))?"
_EVENT_TYPES = re.compile(EVENT_TYPES_PATTERN)
FIELD_NAME_PATTERN = r"[!-9;-~]{1,77}"
_FIELD_NAME = re.compile(FIELD_NAME_PATTERN)
RATE_PATTERN = r"([0-9]{1,9}) ?/ ?([0-9a-z]{1,40})"
_RATE = re.compile(RATE_PATTERN)
BYTE_RATE_PATTERN = r"([0-9]{1,15}(?:KiB|MiB|GiB|TiB)?) ?/ ?([0-9a-z]{1,40})"
_BYTE_RATE = re.compile(BYTE_RATE_PATTERN)
HOST_PATTERN_PATTERN = r"[0-9A-Za-z._*?-]{1,253}"
_HOST_GLOB = re.compile(HOST_PATTERN_PATTERN)
ANSWERS_PATTERN = r"([0-9.]{7,15})(?:-([0-9.]{7,15})|/([0-9]{1,2}))?"
_ANSWERS = re.compile(ANSWERS_PATTERN)
_WILD = re.compile(r"[*?]")
_LIST_ANSWERS = ipaddress.IPv4Network("127.0.0.0/8")
LIST_ERRORS = ipaddress.IPv4Network("127.255.255.0/24")
"""What lists answer when they refuse to answer, such as 127.255.255.254 to a public resolver."""
_FIELD = re.compile(r"\{([^{}]*)\}")
MAILDIR_FIELDS = ("domain", "local_part")
ARGUMENT_FIELDS = ("recipient", "local_part", "domain", "sender", "message")
"""What may stand in braces in the path of a maildir route."""


class BadValue(ValueError):
    """A value that cannot be taken: why, and if possible how to write it."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(f"{reason}; {hint}" if hint else reason)
        self.reason = reason
        self.hint = hint


@attrs.frozen(slots=True)
class HostPort:
    """An address and port to bind or to ask; an empty host means every address of both families."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@attrs.frozen(slots=True)
class DomainPattern:
    """A domain, or with `subdomains` everything below it (`*.example.org`)."""

    domain: Domain
    subdomains: bool = False

    def __str__(self) -> str:
        return f"*.{self.domain}" if self.subdomains else str(self.domain)

    def covers(self, domain: str) -> bool:
        """Whether this domain, in small letters, is meant. With the dot: `notexample.org` is not below
        `example.org`."""
        text = self.domain.text
        return domain.endswith("." + text) if self.subdomains else domain == text


@attrs.frozen(slots=True)
class RoutePattern:
    """What a route matches: a mailbox, a domain pattern, all of domains.local, what a check has marked, or
    else everything."""

    mailbox: Mailbox | None = None
    domain: DomainPattern | None = None
    local: bool = False
    quarantine: bool = False

    def __str__(self) -> str:
        word = "local" if self.local else "quarantine" if self.quarantine else "*"
        return str(self.mailbox or self.domain or word)


@attrs.frozen(slots=True)
class Rate:
    """So many of something in so many seconds."""

    count: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.count}/{format_duration(self.seconds)}"


@attrs.frozen(slots=True)
class ByteRate:
    """So many octets in so many seconds."""

    octets: int
    seconds: float

    def __str__(self) -> str:
        return f"{format_size(self.octets)}/{format_duration(self.seconds)}"


@attrs.frozen(slots=True)
class HostPattern:
    """Names of domains or hosts: one, all below one (`.example.org`), or a glob with `*` and `?`."""

    text: str
    """Lower case."""

    def __str__(self) -> str:
        return self.text

    @property
    def is_exact(self) -> bool:
        return not self.text.startswith(".") and not _WILD.search(self.text)

    @property
    def rank(self) -> tuple[bool, int]:
        """Greater is more specific: a name before patterns, then by the characters that are given."""
        return self.is_exact, len(_WILD.sub("", self.text))

    @property
    def expression(self) -> re.Pattern[str]:
        """What a whole name in lower case must match; `*` stands for any characters, dots too."""
        text = f"*{self.text}" if self.text.startswith(".") else self.text
        wild = {"*": ".*", "?": "."}
        return re.compile("".join(wild.get(char) or re.escape(char) for char in text))


@attrs.frozen(slots=True)
class AnswerRange:
    """Answers of a DNS list that count as listed: all IPv4 addresses from one to another."""

    first: ipaddress.IPv4Address
    last: ipaddress.IPv4Address

    def __contains__(self, address: ipaddress.IPv4Address) -> bool:
        return self.first <= address <= self.last

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


def shown(value: object) -> str:
    """A value from a file as one line of printable text of bounded length."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        # int.__repr__ refuses very long numbers
        return str(value) if value.bit_length() <= 64 else "a number beyond 64 bits"
    if isinstance(value, str) and len(value) > 60:
        return repr(value[:60] + "…")
    return repr(value)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean 'submission'?` where a known word is near, else nothing."""
    by_folded = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(word[:100].casefold(), by_folded, n=1)
    return f"did you mean {by_folded[near[0]]!r}?" if near else ""


def parse_duration(text: str) -> float:
    """Read `90s`, `1h30m`, `500ms`: units from long to short, each once. The result is in seconds."""
    match = _DURATION.fullmatch(text)
    if match is None:
        if _NUMBER.fullmatch(text):
            raise BadValue(f"{shown(text)} has no unit", f'write "{text}s" for seconds, or use m, h, d')
        if text.startswith("-"):
            raise BadValue(f"{shown(text)} is not a duration", "it cannot be negative")
        raise BadValue(
            f"{shown(text)} is not a duration", 'write it like "90s", "5m", "1h30m", "5d" or "500ms"'
        )
    total = sum(int(count) * size for count, (_, size) in zip(match.groups(), _UNITS, strict=True) if count)
    if total > LONGEST_DURATION * 1000:
        raise BadValue(f"{shown(text)} is longer than {format_duration(LONGEST_DURATION)}")
    return total / 1000


def format_duration(seconds: float) -> str:
    """The shortest text that reads back as the same number of milliseconds.

    Raises:
      ValueError: negative or not finite.
    """
    if not 0 <= seconds < float("inf"):
        raise ValueError("not a duration")
    rest, parts = round(seconds * 1000), []
    for unit, size in _UNITS:
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def parse_size(text: str) -> int:
    """Read `256KiB`, `50MiB`, `1GiB`. Powers of 1000 are refused: many take them for 1024."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise BadValue(f"{shown(text)} is not a size", _size_hint(text))
    size = int(match[1]) * dict(_SIZES)[match[2]]
    if size > LARGEST_SIZE:
        raise BadValue(f"{shown(text)} is larger than {format_size(LARGEST_SIZE)}")
    return size


def _size_hint(text: str) -> str:
    if _NUMBER.fullmatch(text):
        return f"write {text} without quotes for octets"
    loose = _LOOSE_SIZE.fullmatch(text)
    if loose is None:
        return 'write octets as a number, or "256KiB", "50MiB", "1GiB"'
    count, letter = int(loose[1]), loose[2].upper()
    octets = count * 1000 ** ("KMGT".index(letter) + 1)
    return f'write "{count}{letter}iB" (powers of 1024), or {octets} for octets'


def format_size(octets: int) -> str:
    """The size in the largest unit that divides it, or as a plain number."""
    for unit, size in _SIZES:
        if octets >= size and octets % size == 0:
            return f"{octets // size}{unit}"
    return str(octets)


def parse_host_port(text: str) -> HostPort:
    """Read `127.0.0.1:2525`, `[::1]:25` or `:25`. Names are refused: they may mean several addresses."""
    match = _HOST_PORT.fullmatch(text)
    if match is None:
        raise BadValue(f"{shown(text)} is not an address with a port", _host_port_hint(text))
    ipv6, ipv4, port_text = match.groups()
    port = int(port_text)
    if port > 65535:
        raise BadValue(f"{shown(text)}: port {port} is above 65535")
    host = ""
    if ipv6 or ipv4:
        try:
            host = str(ipaddress.IPv6Address(ipv6) if ipv6 else ipaddress.IPv4Address(ipv4))
        except ValueError:
            family = "IPv6" if ipv6 else "IPv4"
            raise BadValue(f"{shown(text)}: {ipv6 or ipv4} is not an {family} address") from None
    return HostPort(host, port)


def _host_port_hint(text: str) -> str:
    if _is_address(text):
        return f'add the port: "{HostPort(text, 25)}"'
    if _NUMBER.fullmatch(text):
        return f'write ":{text}" for every address'
    bare = _BARE_IPV6_PORT.fullmatch(text)
    if bare and _is_address(bare[1]):
        return f'write "[{bare[1]}]:{bare[2]}"'
    name = _NAME_PORT.fullmatch(text)
    if name and name[1] == "*":
        return f'write ":{name[2]}" for every address'
    if name and name[1].lower() == "localhost":
        return f'names are not looked up; write "127.0.0.1:{name[2]}" or "[::1]:{name[2]}"'
    if name:
        return "names are not looked up; write the address"
    return 'write it like "127.0.0.1:2525", "[::1]:2525", or ":25" for every address'


def _is_address(text: str) -> bool:
    if not text.isascii() or "%" in text:
        return False
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def parse_network(text: str) -> Network:
    """Read `10.0.0.0/8`, `2001:db8::/32` or a single address. Bits behind the prefix must be zero."""
    match = _NETWORK.fullmatch(text)
    if match is None:
        raise BadValue(f"{shown(text)} is not a network", 'write it like "10.0.0.0/8" or "2001:db8::/32"')
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise BadValue(f"{shown(text)} is not a network") from None
    if match[2] and network.network_address != ipaddress.ip_address(match[1]):
        raise BadValue(f"{shown(text)} has bits set behind its prefix", f'write "{network}"')
    if (
        isinstance(network, ipaddress.IPv6Network)
        and network.network_address.ipv4_mapped
        and network.prefixlen >= 96
    ):
        inner = f"{network.network_address.ipv4_mapped}/{network.prefixlen - 96}"
        raise BadValue(f"{shown(text)} is IPv4 written as IPv6, which no client has", f'write "{inner}"')
    return network


def parse_domain_name(text: str) -> Domain:
    """Read a mail domain; U-labels become A-labels."""
    try:
        domain = parse_domain(text, utf8=True)
    except MailSyntaxError as cause:
        hint = ""
        if text.endswith(".") and text.strip("."):
            hint = "leave out the final dot"
        elif "@" in text:
            hint = "an address is not a domain: write what stands behind the @"
        elif "*" in text:
            hint = "a pattern is not allowed here: list each domain"
        raise BadValue(f"{shown(text)} is not a domain: {cause}", hint) from None
    if not isinstance(domain, Domain):
        raise BadValue(f"{shown(text)} is an address literal, not a domain")
    return domain


def parse_domain_pattern(text: str) -> DomainPattern:
    """Read `example.org` or `*.example.org` (everything below, not the domain itself)."""
    if text == "*":
        raise BadValue("'*' would take every domain", "list the domains")
    if text.startswith("*."):
        return DomainPattern(parse_domain_name(text[2:]), subdomains=True)
    if text.startswith("."):
        raise BadValue(f"{shown(text)} is not a domain", f'write "*{text}" for all its subdomains')
    return DomainPattern(parse_domain_name(text))


def parse_route_pattern(text: str) -> RoutePattern:
    """Read `*`, `local`, `quarantine`, `example.org`, `*.example.org` or `user@example.org`."""
    if text == "*":
        return RoutePattern()
    if text == "local":  # RFC 6762 §3: nobody's domain in DNS
        return RoutePattern(local=True)
    if text == "quarantine":
        return RoutePattern(quarantine=True)
    if text.startswith("@"):
        raise BadValue(f"{shown(text)} is not an address", f'write "{text[1:]}" for all of the domain')
    if "@" in text:
        return RoutePattern(mailbox=parse_mailbox_text(text))
    return RoutePattern(domain=parse_domain_pattern(text))


def parse_mailbox_text(text: str) -> Mailbox:
    """Read `user@example.org`; UTF-8 is allowed (RFC 6531)."""
    try:
        return parse_mailbox(text, utf8=True)
    except MailSyntaxError as cause:
        hint = "write it without angle brackets" if text.startswith("<") else ""
        raise BadValue(f"{shown(text)} is not an address: {cause}", hint) from None


def parse_hostname(text: str) -> str:
    """Read the full name of a host, as EHLO and trace fields need it (RFC 5321 2.3.5, 4.1.1.1)."""
    name = parse_domain_name(text).text
    if "." not in name:
        raise BadValue(f"{shown(text)} has no dot", 'write the full name, like "mx.example.org"')
    if not _HOSTNAME.fullmatch(name):
        raise BadValue(f"{shown(text)} is not the name of a host", "use letters, digits, hyphens and dots")
    return name


def parse_next_hop(text: str) -> str:
    """Read a host to deliver to: a name, or an address without brackets."""
    if _is_address(text):
        return str(ipaddress.ip_address(text))
    if text.startswith("[") and text.endswith("]") and _is_address(text[1:-1]):
        raise BadValue(f"{shown(text)} is not a host", f'write "{text[1:-1]}" without brackets')
    host, colon, port = text.rpartition(":")
    if colon and _NUMBER.fullmatch(port):
        raise BadValue(f"{shown(text)} is not a host", f'write host = "{host.strip("[]")}" and port = {port}')
    return parse_domain_name(text).text


def parse_service_url(text: str) -> str:
    """Read the URL of a service that is told secrets: https, or http on this machine."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise BadValue(f"{shown(text)} is not a URL") from error
    host = parts.hostname or ""
    if not host or not text.isascii() or not text.isprintable() or " " in text or port == 0:
        raise BadValue(f"{shown(text)} is not a URL", 'write "https://auth.example.org/introspect"')
    if parts.username is not None or parts.fragment:
        raise BadValue(f"{shown(text)} has more than a host and a path")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_on_this_machine(text)):
        raise BadValue(f"{shown(text)} shows secrets on the way", "use https; http is for this machine only")
    return text


def parse_directory_url(text: str) -> str:
    """Read the URL of an LDAP server: a host, and maybe a port."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise BadValue(f"{shown(text)} is not a URL") from error
    if not parts.hostname or not text.isascii() or not text.isprintable() or " " in text or port == 0:
        raise BadValue(f"{shown(text)} is not a URL", 'write "ldaps://ldap.example.org"')
    if parts.scheme not in ("ldap", "ldaps"):
        raise BadValue(f"{shown(text)} is not a URL of LDAP", "begin with ldaps:// or ldap://")
    if parts.username is not None or parts.path.strip("/") or parts.query or parts.fragment:
        raise BadValue(f"{shown(text)} has more than a host and a port", "base and filter are settings")
    return text


def is_on_this_machine(url: str) -> bool:
    """Whether the host of a URL that was read is this machine by its address or as `localhost`."""
    host = urlsplit(url).hostname or ""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def parse_account_filter(text: str) -> str:
    """Read a filter of LDAP with a place for the account's name."""
    if "{name}" not in text and "{local_part}" not in text:
        raise BadValue(f"{shown(text)} would find anybody", "it needs {name} or {local_part}")
    if not (text.startswith("(") and text.endswith(")") and text.count("(") == text.count(")")):
        raise BadValue(f"{shown(text)} is not a filter of RFC 4515", 'write "(mail={name})"')
    return text


def parse_ipv4(text: str) -> str:
    """Read one IPv4 address."""
    if not _is_address(text) or ":" in text:
        raise BadValue(f"{shown(text)} is not an IPv4 address")
    return text


def parse_ipv6(text: str) -> str:
    """Read one IPv6 address, without brackets."""
    if not _is_address(text) or ":" not in text:
        raise BadValue(f"{shown(text)} is not an IPv6 address")
    return str(ipaddress.IPv6Address(text))


def parse_name(text: str) -> str:
    """Read a name that goes into logs and metric labels."""
    if not _NAME.fullmatch(text):
        raise BadValue(
            f"{shown(text)} is not a name", "use up to 63 letters, digits, dots, hyphens, underscores"
        )
    return text


def parse_selector(text: str) -> str:
    """Read the selector of a key, a part of a name in DNS (RFC 6376 3.1)."""
    if not _SELECTOR.fullmatch(text) or len(text) > MAX_SELECTOR:
        raise BadValue(
            f"{shown(text)} is not a selector", 'use letters, digits, hyphens and dots, like "mail2026"'
        )
    return text.lower()


def parse_field_name(text: str) -> str:
    """Read the name of a header field (RFC 5322 3.6.8)."""
    if not _FIELD_NAME.fullmatch(text):
        hint = "leave out the colon" if text.endswith(":") else ""
        raise BadValue(f"{shown(text)} is not the name of a header field", hint)
    return text.lower()


def parse_event_types(text: str) -> str:
    """Read `message.accepted`, `recipient.*` or `log`."""
    if not _EVENT_TYPES.fullmatch(text):
        raise BadValue(f"{shown(text)} is no type of event", "write one like message.accepted or recipient.*")
    return text


def parse_path(text: str) -> Path:
    """Read a path; a relative one is relative to the working directory."""
    if not text:
        raise BadValue("the path is empty")
    if "\0" in text:
        raise BadValue(f"{shown(text)} holds a NUL")
    if text.startswith("~"):
        raise BadValue(f"{shown(text)}: `~` is not expanded", "write the whole path")
    return Path(text)


def parse_maildir_path(text: str) -> str:
    """Read the folder of a maildir route; `{domain}` and `{local_part}` stand for parts of the recipient."""
    parse_path(text)
    for name in _FIELD.findall(text):
        if name not in MAILDIR_FIELDS:
            hint = did_you_mean(name, MAILDIR_FIELDS) or "only {domain} and {local_part} are filled in"
            raise BadValue(f"{shown('{' + name + '}')} is not known", hint)
    if "{" in _FIELD.sub("", text) or "}" in _FIELD.sub("", text):
        raise BadValue(f"{shown(text)} has a brace without its partner")
    return text


def parse_argument(text: str) -> str:
    """Read an argument of a program; names in braces stand for facts of the message."""
    if "\0" in text:
        raise BadValue("a NUL cannot be given to a program")
    for name in _FIELD.findall(text):
        if name not in ARGUMENT_FIELDS:
            hint = did_you_mean(name, ARGUMENT_FIELDS) or f"known are {', '.join(ARGUMENT_FIELDS)}"
            raise BadValue(f"{shown('{' + name + '}')} is not known", hint)
    return text


def parse_rate(text: str) -> Rate:
    """Read `100/1h`: a count and the time it is for."""
    match = _RATE.fullmatch(text)
    if match is None:
        raise BadValue(f"{shown(text)} is not a rate", 'write it like "60/1m" or "1000/1h"')
    count, seconds = int(match[1]), parse_duration(match[2])
    if not count or not seconds:
        raise BadValue(f"{shown(text)} lets nothing through", "neither part of a rate can be 0")
    return Rate(count, seconds)


def parse_byte_rate(text: str) -> ByteRate:
    """Read `100MiB/1h`: a size and the time it is for."""
    match = _BYTE_RATE.fullmatch(text)
    if match is None:
        raise BadValue(f"{shown(text)} is not a rate of octets", 'write it like "10MiB/1m" or "1GiB/1h"')
    octets = int(match[1]) if _NUMBER.fullmatch(match[1]) else parse_size(match[1])
    seconds = parse_duration(match[2])
    if not octets or not seconds:
        raise BadValue(f"{shown(text)} lets nothing through", "neither part of a rate can be 0")
    if octets > LARGEST_SIZE:
        raise BadValue(f"{shown(text)} is larger than {format_size(LARGEST_SIZE)}")
    return ByteRate(octets, seconds)


def parse_host_pattern(text: str) -> HostPattern:
    """Read `example.org`, `.example.org` (everything below it) or a glob such as `*.mail.example.org`."""
    if not text.strip("."):
        raise BadValue(
            f"{shown(text)} is not a pattern", 'write "example.org", ".example.org" or "*.example.*"'
        )
    if not _WILD.search(text):
        name = parse_domain_name(text.removeprefix(".")) if not _is_address(text) else None
        plain = text if name is None else name.text
        return HostPattern(("." if text.startswith(".") else "") + plain.lower())
    if text.endswith(".") or ".." in text or not _HOST_GLOB.fullmatch(text):
        raise BadValue(
            f"{shown(text)} is not a pattern", "it has letters, digits, dots and hyphens beside * and ?"
        )
    return HostPattern(text.lower())


def parse_answers(text: str) -> AnswerRange:
    """Read what a DNS list may answer: `127.0.0.2`, `127.0.0.2-127.0.0.11` or `127.0.2.0/24`."""
    match = _ANSWERS.fullmatch(text)
    try:
        if match is None:
            raise ValueError(text)
        if match[3]:
            network = ipaddress.IPv4Network(f"{match[1]}/{match[3]}")
            found = AnswerRange(network[0], network[-1])
        else:
            first = ipaddress.IPv4Address(match[1])
            found = AnswerRange(first, ipaddress.IPv4Address(match[2]) if match[2] else first)
    except ValueError:
        hint = 'write them like "127.0.0.2", "127.0.0.2-127.0.0.11" or "127.0.2.0/24"'
        raise BadValue(f"{shown(text)} are not answers of a DNS list", hint) from None
    if found.first > found.last:
        raise BadValue(f"{shown(text)} begins behind its end")
    # RFC 5782 §2.1: whatever a list answers lies in 127.0.0.0/8
    if found.first not in _LIST_ANSWERS or found.last not in _LIST_ANSWERS:
        raise BadValue(f"{shown(text)} is not within 127.0.0.0/8, where DNS lists answer")
    if found.first in LIST_ERRORS:
        raise BadValue(f"{shown(text)} is how a list says that it does not answer", "it never counts")
    return found
