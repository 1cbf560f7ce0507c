"""EHLO keywords: which extensions are on, how they are announced, how an answer is read."""

from __future__ import annotations

import datetime
import enum
import re

import attrs

from elemta.mail import Reply


class Extension(enum.StrEnum):
    """EHLO keywords that are understood (IANA's registry of SMTP service extensions)."""

    PIPELINING = "PIPELINING"
    """RFC 2920."""
    SIZE = "SIZE"
    """RFC 1870."""
    EIGHT_BIT_MIME = "8BITMIME"
    """RFC 6152."""
    ENHANCED_STATUS_CODES = "ENHANCEDSTATUSCODES"
    """RFC 2034."""
    SMTPUTF8 = "SMTPUTF8"
    """RFC 6531."""
    DSN = "DSN"
    """RFC 3461."""
    STARTTLS = "STARTTLS"
    """RFC 3207."""
    AUTH = "AUTH"
    """RFC 4954."""
    CHUNKING = "CHUNKING"
    """RFC 3030."""
    BINARY_MIME = "BINARYMIME"
    """RFC 3030."""
    REQUIRE_TLS = "REQUIRETLS"
    """RFC 8689."""
    MT_PRIORITY = "MT-PRIORITY"
    """RFC 6710."""
    LIMITS = "LIMITS"
    """RFC 9422."""
    DELIVER_BY = "DELIVERBY"
    """RFC 2852."""
    FUTURE_RELEASE = "FUTURERELEASE"
    """RFC 4865."""
    XCLIENT = "XCLIENT"
    """Postfix, XCLIENT_README."""
    XFORWARD = "XFORWARD"
    """Postfix, XFORWARD_README."""
    EXPN = "EXPN"
    """RFC 5321 §4.1.1.7."""
    HELP = "HELP"
    """RFC 5321 §4.1.1.8."""


# RFC 5321 §4.1.1.1: ehlo-keyword *( SP ehlo-param ). Here also `AUTH=PLAIN LOGIN`, which predates RFC 2554.
_LINE = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:[ =](.*))?")
_NUMBER = re.compile(r"[0-9]{1,20}")
_LIMIT = re.compile(r"([A-Za-z0-9-]+)=([0-9]{1,6})")  # RFC 9422 §3: one to six digits
_BY_TIME = re.compile(r"[0-9]{1,9}(?=,|\Z)")  # RFC 2852 §3: more may follow behind a comma
_FUTURE_RELEASE = re.compile(r"([1-9][0-9]{0,8}) (\S+)")  # RFC 4865 §3
# RFC 3339 §5.6
_DATE_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.[0-9]+)?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)


def parse_date_time(text: str) -> int | None:
    """Seconds since the epoch from a time as in RFC 3339 §5.6, fractions left out; None where it is none."""
    match = _DATE_TIME.fullmatch(text)
    if not match:
        return None
    year, month, day, hour, minute, second = (int(group) for group in match.groups()[:6])
    try:
        # A leap second is told as :60 (RFC 3339 §5.7); the epoch does not count it
        moment = datetime.datetime(year, month, day, hour, minute, min(second, 59), tzinfo=datetime.UTC)
    except ValueError:
        return None
    sign, hours, minutes = match.groups()[6:]
    if second > 60 or (sign and (int(hours) > 23 or int(minutes) > 59)):
        return None
    offset = (int(hours) * 3600 + int(minutes) * 60) * (-1 if sign == "-" else 1) if sign else 0
    return int(moment.timestamp()) + second - min(second, 59) - offset


def format_date_time(seconds: int) -> str:
    """The time in UTC as in RFC 3339 §5.6."""
    moment = datetime.datetime.fromtimestamp(seconds, tz=datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@attrs.frozen(slots=True)
class FutureRelease:
    """How long messages are held back at most (RFC 4865 §3). The same bound twice, as both are announced."""

    seconds: int
    """HOLDFOR; one to nine digits."""
    until: int
    """HOLDUNTIL: seconds since the epoch, such as now plus `seconds`."""


@attrs.frozen(slots=True)
class Capabilities:
    """The extensions of a server, with their values. Without arguments: none, as after HELO.

    `ServerConnection` keeps what they promise about commands and parameters: what is off is refused. The
    rest of a promise, such as notices for `dsn`, is the caller's, and so is to switch on what depends on
    the session: `starttls` and `auth`, `require_tls` only under TLS (RFC 8689 §2), `xclient` and
    `xforward` for trusted peers only.
    """

    pipelining: bool = False
    size: int | None = None
    """Largest message in octets, 0 for no fixed limit, None where SIZE is not announced."""
    eight_bit_mime: bool = False
    enhanced_status_codes: bool = False
    smtputf8: bool = False
    dsn: bool = False
    starttls: bool = False
    auth: tuple[str, ...] = ()
    """SASL mechanisms in upper case; empty where AUTH is not offered. Leave them in when the client has
    authenticated: AUTH is refused then, and AUTH= of MAIL is still right."""
    auth_under_tls: tuple[str, ...] = ()
    """More of them, not announced now: they are refused with 538, not 504 (RFC 4954 §6)."""
    chunking: bool = False
    binary_mime: bool = False
    """Only with `chunking` (RFC 3030 §3)."""
    require_tls: bool = False
    mt_priority: bool = False
    deliver_by: int | None = None
    """Least seconds for BY= with mode R, 0 for no bound, None where DELIVERBY is not announced."""
    future_release: FutureRelease | None = None
    xclient: tuple[str, ...] = ()
    """Names of the attributes, in upper case."""
    xforward: tuple[str, ...] = ()
    """The same."""
    expn: bool = False
    help: bool = False
    limits: tuple[tuple[str, int], ...] = ()
    """RFC 9422 names and values, such as `("RCPTMAX", 1000)`."""
    other: tuple[str, ...] = ()
    """Keywords that are not understood, in upper case and without their parameters."""

    def lines(self, hostname: str) -> tuple[str, ...]:
        """The lines of a positive answer to EHLO or LHLO, the host name first (RFC 5321 §4.1.1.1)."""
        lines = [hostname]
        lines += [extension.value for extension, field in _FLAGS if getattr(self, field)]
        if self.size is not None:
            lines.append(f"{Extension.SIZE} {self.size}")
        if self.auth:
            lines.append(f"{Extension.AUTH} {' '.join(self.auth)}")
        if self.deliver_by is not None:
            lines.append(f"{Extension.DELIVER_BY} {self.deliver_by}" if self.deliver_by else "DELIVERBY")
        if self.future_release is not None:
            release = self.future_release
            lines.append(f"{Extension.FUTURE_RELEASE} {release.seconds} {format_date_time(release.until)}")
        if self.xclient:
            lines.append(f"{Extension.XCLIENT} {' '.join(self.xclient)}")
        if self.xforward:
            lines.append(f"{Extension.XFORWARD} {' '.join(self.xforward)}")
        if self.limits:
            lines.append(Extension.LIMITS + "".join(f" {name}={value}" for name, value in self.limits))
        lines += self.other
        return tuple(lines)

    @classmethod
    def parse(cls, reply: Reply) -> Capabilities:
        """Read an answer to EHLO or LHLO. Lines that make no sense are left out; never raises."""
        fields: dict[str, object] = {}
        mechanisms: dict[str, None] = {}
        limits: dict[str, int] = {}
        other: dict[str, None] = {}
        for line in reply.lines[1:]:
            match = _LINE.fullmatch(line.strip(" \t"))
            if not match:
                continue
            # RFC 5321 §2.4: keywords in any case. The pattern is ASCII, so upper() is safe.
            keyword, value = match[1].upper(), (match[2] or "").strip(" \t")
            if keyword in _FLAG_FIELDS:
                fields[_FLAG_FIELDS[keyword]] = True
            elif keyword == Extension.SIZE:
                # RFC 1870 §3: no value or 0 means that no fixed limit is known
                fields["size"] = int(value) if _NUMBER.fullmatch(value) else 0
            elif keyword == Extension.AUTH:
                mechanisms.update(dict.fromkeys(_names(value)))
            elif keyword == Extension.LIMITS:
                found = filter(None, map(_LIMIT.fullmatch, value.split(" ")))
                limits.update((limit[1].upper(), int(limit[2])) for limit in found)
            elif keyword == Extension.DELIVER_BY:
                by_time = _BY_TIME.match(value)
                fields["deliver_by"] = int(by_time[0]) if by_time else 0
            elif keyword == Extension.FUTURE_RELEASE:
                fields["future_release"] = _future_release(value)
            elif keyword == Extension.XCLIENT:
                fields["xclient"] = _names(value)
            elif keyword == Extension.XFORWARD:
                fields["xforward"] = _names(value)
            else:
                other[keyword] = None
        return cls(**fields, auth=tuple(mechanisms), limits=tuple(limits.items()), other=tuple(other))  # type: ignore[arg-type]

    def limit(self, name: str) -> int | None:
        """The value of one LIMITS name, such as `RCPTMAX`."""
        return dict(self.limits).get(name)


def _names(value: str) -> tuple[str, ...]:
    return tuple([word.upper() for word in value.split() if word.isascii()])


def _future_release(value: str) -> FutureRelease | None:
    match = _FUTURE_RELEASE.fullmatch(value)
    until = parse_date_time(match[2]) if match else None
    return FutureRelease(int(match[1]), until) if match and until is not None else None


_FLAGS = (
    (Extension.PIPELINING, "pipelining"),
    (Extension.EIGHT_BIT_MIME, "eight_bit_mime"),
    (Extension.ENHANCED_STATUS_CODES, "enhanced_status_codes"),
    (Extension.SMTPUTF8, "smtputf8"),
    (Extension.DSN, "dsn"),
    (Extension.STARTTLS, "starttls"),
    (Extension.CHUNKING, "chunking"),
    (Extension.BINARY_MIME, "binary_mime"),
    (Extension.REQUIRE_TLS, "require_tls"),
    (Extension.MT_PRIORITY, "mt_priority"),
    (Extension.EXPN, "expn"),
    (Extension.HELP, "help"),
)
_FLAG_FIELDS = {extension.value: field for extension, field in _FLAGS}
