"""Mailboxes and SMTP paths, decoded (RFC 5321 §4.1.2, RFC 6531 §3.3)."""

from __future__ import annotations

import re

import attrs

from .domain import AddressLiteral, Domain, parse_domain
from .errors import MailSyntaxError, PathTooLong

MAX_LOCAL_PART = 64
"""Octets, RFC 5321 §4.5.3.1.1."""
MAX_PATH = 256
"""Octets with the angle brackets, RFC 5321 §4.5.3.1.3."""

_ATEXT = r"-A-Za-z0-9!#$%&'*+/=?^_`{|}~"  # the hyphen first: last, it would begin a range below
_DOT_STRING = re.compile(rf"[{_ATEXT}]+(?:\.[{_ATEXT}]+)*")
_DOT_STRING_UTF8 = re.compile(rf"[{_ATEXT}\u0080-\U0010ffff]+(?:\.[{_ATEXT}\u0080-\U0010ffff]+)*")
# RFC 5321 §4.1.2: QcontentSMTP = qtextSMTP / quoted-pairSMTP
_QUOTED = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\[\x20-\x7e])*)"')
_QUOTED_UTF8 = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e\u0080-\U0010ffff]|\\[\x20-\x7e])*)"')
_QUOTED_PAIR = re.compile(r"\\(.)")
# The colon of an address literal, such as `[IPv6:…]`, is not the end of a source route.
_ROUTE = re.compile(r"((?:[^\[\]:]|\[[^\[\]]*\])+):")
_C1 = re.compile("[\u0080-\u009f\ud800-\udfff]")


@attrs.frozen(slots=True, cache_hash=True)  # looked up in many tables
class Mailbox:
    """A local part, without its quoting, and a domain. Local parts keep their case (RFC 5321 §2.4)."""

    local_part: str
    domain: Domain | AddressLiteral

    def __str__(self) -> str:
        return f"{quote_local_part(self.local_part)}@{self.domain.text}"

    @property
    def is_ascii(self) -> bool:
        """Whether it can be sent to a server without SMTPUTF8 (the domain always can)."""
        return self.local_part.isascii()


@attrs.frozen(slots=True)
class ReversePath:
    """Who is told when delivery fails. No mailbox means `<>`: nobody (RFC 5321 §4.5.5)."""

    mailbox: Mailbox | None

    def __str__(self) -> str:
        return f"<{self.mailbox}>" if self.mailbox else "<>"

    @property
    def is_null(self) -> bool:
        return self.mailbox is None


@attrs.frozen(slots=True)
class ForwardPath:
    """A recipient. No mailbox means the bare `<postmaster>` (RFC 5321 §4.1.1.3, §4.5.1)."""

    mailbox: Mailbox | None

    def __str__(self) -> str:
        return f"<{self.mailbox}>" if self.mailbox else "<postmaster>"


NULL_PATH = ReversePath(None)


def quote_local_part(local_part: str) -> str:
    """The local part as SMTP writes it: as it is where that is a dot-string, else quoted."""
    if _DOT_STRING_UTF8.fullmatch(local_part):
        return local_part
    return '"' + local_part.replace("\\", "\\\\").replace('"', '\\"') + '"'


def parse_mailbox(text: str, *, utf8: bool = False, default_domain: Domain | None = None) -> Mailbox:
    """Read `local-part@domain`; without the domain only where one stands in for it (RFC 6409 §4.2).

    Raises:
      MailSyntaxError: the text is no mailbox.
    """
    local, at, domain = text.rpartition("@")
    if at and not text.endswith('"'):
        return Mailbox(_parse_local_part(local, utf8=utf8), parse_domain(domain, utf8=utf8))
    # No "@", or one within a quoted local part such as `"a@b"`
    if default_domain is None:
        raise MailSyntaxError("no domain in the address")
    return Mailbox(_parse_local_part(text, utf8=utf8), default_domain)


def _is_longer(text: str, limit: int) -> bool:
    """In octets; without counting them where they must be few enough."""
    return len(text) * 4 > limit and len(text.encode("utf-8", "surrogatepass")) > limit


def _parse_local_part(text: str, *, utf8: bool) -> str:
    if _is_longer(text, MAX_LOCAL_PART):  # RFC 5321 §4.5.3.1.1
        raise PathTooLong("local part is too long")
    if _DOT_STRING.fullmatch(text) or (utf8 and _DOT_STRING_UTF8.fullmatch(text) and not _C1.search(text)):
        return text
    quoted = (_QUOTED_UTF8 if utf8 else _QUOTED).fullmatch(text)
    if not quoted or _C1.search(text):  # `""` is one: the local part that is empty (RFC 5321 §4.1.2)
        raise MailSyntaxError("not a local part")
    return _QUOTED_PAIR.sub(r"\1", quoted[1])


def parse_reverse_path(text: str, *, utf8: bool = False, default_domain: Domain | None = None) -> ReversePath:
    """Read the argument of MAIL FROM, angle brackets included; the domain as in `parse_mailbox`.

    Raises:
      MailSyntaxError: the text is no path.
    """
    if text == "<>":
        return NULL_PATH
    inner = _strip_path(text, utf8=utf8)
    return ReversePath(parse_mailbox(inner, utf8=utf8, default_domain=default_domain))


def parse_forward_path(text: str, *, utf8: bool = False, default_domain: Domain | None = None) -> ForwardPath:
    """Read the argument of RCPT TO, angle brackets included; the domain as in `parse_mailbox`.

    Raises:
      MailSyntaxError: the text is no path.
    """
    inner = _strip_path(text, utf8=utf8)
    if inner.lower() == "postmaster":  # RFC 5321 §4.1.1.3
        return ForwardPath(None)
    return ForwardPath(parse_mailbox(inner, utf8=utf8, default_domain=default_domain))


def _strip_path(text: str, *, utf8: bool) -> str:
    if not (text.startswith("<") and text.endswith(">")):
        raise MailSyntaxError("path without angle brackets")
    if _is_longer(text, MAX_PATH):  # RFC 5321 §4.5.3.1.3
        raise PathTooLong("path is too long")
    inner = text[1:-1]
    if inner.startswith("@"):  # RFC 5321 §4.1.1.3, appendix C: a source route is accepted and ignored
        route = _ROUTE.match(inner)
        if not route:
            raise MailSyntaxError("source route without a colon")
        for hop in route[1].split(","):
            if not hop.startswith("@"):
                raise MailSyntaxError("not a source route")
            parse_domain(hop[1:], utf8=utf8)
        return inner[route.end() :]
    return inner
