"""EHLO keywords: which extensions are on, how they are announced, how an answer is read."""

from __future__ import annotations

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
    EXPN = "EXPN"
    """RFC 5321 §4.1.1.7."""
    ETRN = "ETRN"
    """RFC 1985."""
    HELP = "HELP"
    """RFC 5321 §4.1.1.8."""


# RFC 5321 §4.1.1.1: ehlo-keyword *( SP ehlo-param ). Here also `AUTH=PLAIN LOGIN`, which predates RFC 2554.
_LINE = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:[ =](.*))?")
_NUMBER = re.compile(r"[0-9]{1,20}")
_LIMIT = re.compile(r"([A-Za-z0-9-]+)=([0-9]{1,6})")  # RFC 9422: one to six digits


@attrs.frozen(slots=True)
class Capabilities:
    """The extensions of a server, with their values. Without arguments: none, as after HELO.

    `ServerConnection` can keep what all of them promise about commands and parameters but `chunking` and
    `binary_mime`: it has no BDAT, so a server of ours leaves these two off. The rest of a promise, such as
    notices for `dsn`, is the caller's.
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
    """SASL mechanisms in upper case; empty where AUTH is not offered."""
    chunking: bool = False
    binary_mime: bool = False
    require_tls: bool = False
    mt_priority: bool = False
    expn: bool = False
    etrn: bool = False
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
                mechanisms.update(dict.fromkeys(word.upper() for word in value.split() if word.isascii()))
            elif keyword == Extension.LIMITS:
                found = filter(None, map(_LIMIT.fullmatch, value.split(" ")))
                limits.update((limit[1].upper(), int(limit[2])) for limit in found)
            else:
                other[keyword] = None
        return cls(**fields, auth=tuple(mechanisms), limits=tuple(limits.items()), other=tuple(other))  # type: ignore[arg-type]

    def limit(self, name: str) -> int | None:
        """The value of one LIMITS name, such as `RCPTMAX`."""
        return dict(self.limits).get(name)


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
    (Extension.ETRN, "etrn"),
    (Extension.HELP, "help"),
)
_FLAG_FIELDS = {extension.value: field for extension, field in _FLAGS}
