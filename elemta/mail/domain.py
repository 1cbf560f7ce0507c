"""Domain names and address literals as SMTP writes them (RFC 5321 §4.1.2, §4.1.3; RFC 6531 §3.3)."""

from __future__ import annotations

import ipaddress
import re
import string

import attrs
import idna

from .errors import MailSyntaxError, PathTooLong

MAX_DOMAIN = 255
"""Octets, RFC 5321 §4.5.3.1.2."""

# RFC 5321 §4.1.2: sub-domain = Let-dig [Ldh-str]. The underscore is not in the grammar, but such
# hosts exist (and DNS allows them), so it is accepted within a label. An A-label is LDH like any
# other: one that does not decode (RFC 5890 §2.3 calls it fake) may still be in DNS, such as the
# emoji domains that IDNA2008 disallows, and is compared and looked up as the octets it is.
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
# RFC 5321 §4.1.3: General-address-literal = Standardized-tag ":" 1*dcontent
_TAGGED = re.compile(r"([A-Za-z0-9-]*[A-Za-z0-9]):([\x21-\x5a\x5e-\x7e]+)")
_ASCII_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_IPV4 = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")


@attrs.frozen(slots=True)
class Domain:
    """A host or mail domain: A-labels, lower case, without a final dot."""

    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def unicode(self) -> str:
        """The name with its A-labels shown as U-labels; as it is where one of them does not decode."""
        if "xn--" not in self.text:
            return self.text
        try:
            return idna.decode(self.text)
        except idna.IDNAError:
            return self.text


@attrs.frozen(slots=True)
class AddressLiteral:
    """An address in brackets, such as `[192.0.2.1]`, `[IPv6:2001:db8::1]` or `[tag:content]`."""

    address: ipaddress.IPv4Address | ipaddress.IPv6Address | None
    tag: str = ""
    content: str = ""

    def __str__(self) -> str:
        if isinstance(self.address, ipaddress.IPv4Address):
            return f"[{self.address}]"
        if self.address is not None:
            return f"[IPv6:{self.address}]"
        return f"[{self.tag}:{self.content}]"

    @property
    def text(self) -> str:
        return str(self)

    @property
    def unicode(self) -> str:
        return str(self)


def parse_domain(text: str, *, utf8: bool = False) -> Domain | AddressLiteral:
    """Read a domain or address literal.

    U-labels are taken only with `utf8` (the client asked for SMTPUTF8) and become A-labels.

    Raises:
      MailSyntaxError: the text is neither.
    """
    # The length is checked first, so that nothing below can be made slow.
    if len(text) > MAX_DOMAIN:
        raise PathTooLong("domain name is too long")
    if text.startswith("["):
        return _parse_literal(text)
    if _DOMAIN.fullmatch(text):
        domain = text.lower()
        if domain[-1].isdigit() and _IPV4.fullmatch(domain):
            raise MailSyntaxError("an IPv4 address belongs in brackets")
        return Domain(domain)
    if utf8 and not text.isascii():
        return _parse_u_labels(text)
    raise MailSyntaxError("not a domain name")


def _parse_u_labels(text: str) -> Domain:
    # RFC 6531 §3.3: U-labels as they stand. Other dots (U+3002 …), full-width forms, capitals beyond
    # ASCII and the Kelvin sign are not mapped: what looks like one domain to one reader and like
    # another to the next is refused. Only A to Z become small, as everywhere in DNS (RFC 4343);
    # `str.lower` would turn the Kelvin sign into k.
    # ASCII labels beside them keep to the rules of ASCII names, A-labels that do not decode included.
    try:
        encoded = ".".join(
            label if label.isascii() else idna.alabel(label).decode("ascii")
            for label in text.translate(_ASCII_LOWER).split(".")
        )
    except (idna.IDNAError, UnicodeError) as cause:
        raise MailSyntaxError("not an internationalized domain name") from cause
    if len(encoded) > MAX_DOMAIN or not _DOMAIN.fullmatch(encoded):
        raise MailSyntaxError("not an internationalized domain name")
    return Domain(encoded)


def _parse_literal(text: str) -> AddressLiteral:
    if not text.endswith("]"):
        raise MailSyntaxError("address literal without its closing bracket")
    inner = text[1:-1]
    try:
        if _IPV4.fullmatch(inner):
            # RFC 5321 §4.1.3: one to three digits are a decimal number, zeros before it included
            return AddressLiteral(ipaddress.IPv4Address(bytes(map(int, inner.split(".")))))
        if inner[:5].lower() == "ipv6:":
            return AddressLiteral(_parse_ipv6(inner[5:]))
    except ValueError as cause:
        raise MailSyntaxError("not an address literal") from cause
    tagged = _TAGGED.fullmatch(inner)
    # An IPv6 address whose tag was forgotten would pass for one with the tag "2001"
    if not tagged or _is_ipv6(inner):
        raise MailSyntaxError("not an address literal")
    return AddressLiteral(None, tagged[1], tagged[2])


def _parse_ipv6(text: str) -> ipaddress.IPv6Address:
    address = ipaddress.IPv6Address(text)
    if address.scope_id is not None:  # it names an interface of the sender's machine
        raise ValueError("scope")
    # RFC 5321 §4.1.3: "::" stands for two groups of zeros at least; an IPv4 address is two groups
    groups = [group for group in text.split(":") if group]
    if "::" in text and len(groups) + ("." in text) > 6:
        raise ValueError("groups")
    return address


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
