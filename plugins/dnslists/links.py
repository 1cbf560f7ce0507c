"""Finds the domains that links in a message lead to, as lists of domains want to be asked. Bounded, pure."""

from __future__ import annotations

import binascii
import re
from typing import Final

from elemta.mail import Domain, MailSyntaxError, parse_domain

# Strangers write what is looked through: each quantifier has a bound, so that the time is linear.
_LINK: Final = re.compile(rb"(?i)\bhttps?://(?:[^\s/@<>\"']{0,64}@)?([a-z0-9.-]{4,253})")
_BASE64: Final = re.compile(rb"(?:[A-Za-z0-9+/]{60,76}\r?\n)+[A-Za-z0-9+/]{0,76}={0,2}")
_SOFT_END: Final = re.compile(rb"=\r?\n")
_ESCAPE: Final = re.compile(rb"=([0-9A-Fa-f]{2})")
_HOST: Final = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]")


def domains_of(content: bytes, most: int) -> tuple[Domain, ...]:
    """The hosts of links, cut down to their last two and three labels; at most so many, in their order.

    Which of the two is what somebody registered depends on the country: a list knows one of them at most.
    """
    found: dict[str, None] = {}
    for text in _readings(content):
        for match in _LINK.finditer(text):
            host = match[1].decode("ascii").strip(".").lower()
            if not _HOST.fullmatch(host):
                continue
            labels = host.split(".")
            for count in (2, 3):
                if len(labels) >= count:
                    found.setdefault(".".join(labels[-count:]))
            if len(found) >= most:
                break
    domains = []
    for name in list(found)[:most]:
        try:
            domain = parse_domain(name)
        except MailSyntaxError:
            continue
        if isinstance(domain, Domain):
            domains.append(domain)
    return tuple(domains)


def _readings(content: bytes) -> tuple[bytes, ...]:
    """The text as it stands, as quoted-printable, and what is in base64.

    Not by its parts: those may be written so that each program sees others.
    """
    texts = [content]
    if b"=" in content:
        plain = _SOFT_END.sub(b"", content)
        texts.append(_ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), plain))
    for block in _BASE64.finditer(content):
        packed = block[0].translate(None, b"\r\n=")
        try:
            texts.append(binascii.a2b_base64(packed[: len(packed) // 4 * 4]))
        except binascii.Error:
            continue
    return tuple(texts)
