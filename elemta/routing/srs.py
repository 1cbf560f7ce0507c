"""Senders of ours for mail that is sent on, and the way back from them: the Sender Rewriting Scheme.

    SRS0=HHHHHH=TT=origin.example=alice@ours.example         alice@origin.example, sent on by us
    SRS1=HHHHHH=first.example==HHHH=TT=origin.example=alice@ours.example
                                                             what first.example sent on, sent on by us

    SRS0=HHHHHH=TT==KKKKKKKKKKKKKKKKKKKKKKKKKK@ours.example   one too long for that, kept here under a key

The next hop sees a domain whose SPF record names us. A bounce comes back here, and the hash HHHHHH says that
we made the address: nobody else can use us as a relay with one. TT is the day, so an address that was seen
does not serve for ever. However often a message is sent on, the address grows no further than SRS1: it goes
from the last host straight to the first.

Relays on the way may change the case of a local part, so letters of hashes are compared without it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import attrs

from elemta.auth import AuthFilesError, read_private
from elemta.mail import Domain, Mailbox, MailSyntaxError, parse_domain
from elemta.mail.address import MAX_LOCAL_PART

MINIMUM_SECRET: Final = 16
"""Characters of a secret."""
_DAY: Final = 86400
_DAYS: Final = 1024
"""The day is told modulo this."""
_BASE32: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_HASH: Final = 6
"""Letters of a hash, 5 bits each: a guess at each of a million bounces hits once in a thousand tries."""
_KEY: Final = 26
"""Letters of the key of a sender that is kept: no two have the same."""
_MAX_FILE: Final = 64 * 1024
_MARK: Final = re.compile(r"SRS([01])[=+-]", re.IGNORECASE)
_ROUTING: Final = frozenset("@%!")
"""In a local part they may ask its host to send on, and the bounce would come from us."""


class SrsSecretsError(ValueError):
    """The file of secrets cannot be used. The text names it and what is wrong, and nothing that is in it."""


Keep = Callable[[str, Mailbox, float], None]
"""Keeps a sender under a key until a time of the wall clock."""


@attrs.frozen
class KeptSender:
    """Who is behind an address has been kept under this key."""

    key: str


@attrs.frozen
class Srs:
    """Rewrites senders and finds them again."""

    domain: Domain
    """Of the addresses it makes."""
    secrets: tuple[bytes, ...] = attrs.field(repr=False)
    """The first makes hashes; all are known again."""
    max_age: float
    """Seconds for which an address leads back, to the day."""

    def is_ours(self, mailbox: Mailbox) -> bool:
        """Whether it has the form of an address that was made here."""
        return mailbox.domain == self.domain and _MARK.match(mailbox.local_part) is not None

    def rewrite(self, sender: Mailbox, now: float, keep: Keep | None = None) -> Mailbox | None:
        """The sender with which its mail is sent on at `now` (wall clock).

        One that would be longer than a local part may be (RFC 5321 §4.5.3.1.1) is kept under a key that
        stands in its place. None: it cannot be kept, or its local part asks for routing.
        """
        if not _ROUTING.isdisjoint(sender.local_part):
            return None
        local_part = sender.local_part
        mark = _MARK.match(local_part)
        if mark is None:
            made = self._first(sender, int(now // _DAY) % _DAYS)
        elif mark[1] == "0":
            # what the first host wrote, from its separator on, for it alone to read
            made = self._later(sender.domain.text, local_part[4:])
        else:
            parts = local_part[5:].split("=", 2)
            if len(parts) != 3 or not parts[1] or not parts[2]:
                made = self._first(sender, int(now // _DAY) % _DAYS)  # only looks like one
            else:
                made = self._later(parts[1], parts[2])
        if len(made.encode("utf-8", "surrogatepass")) > MAX_LOCAL_PART:
            if keep is None:
                return None
            kept = self._key_of(sender)
            keep(kept.key, sender, now + self.max_age + 2 * _DAY)
            stamp = _stamp(int(now // _DAY) % _DAYS)
            made = f"SRS0={self._hash(self.secrets[0], '0', stamp, '', kept.key)}={stamp}=={kept.key}"
        return Mailbox(made, self.domain)

    def reverse(self, mailbox: Mailbox, now: float) -> Mailbox | KeptSender | None:
        """Who is behind an address that `rewrite` made; None: it did not, or too long ago."""
        mark = _MARK.match(mailbox.local_part)
        if mark is None or mailbox.domain != self.domain:
            return None
        text = mailbox.local_part[5:]
        found = self._reverse_first(text, now) if mark[1] == "0" else self._reverse_later(text)
        if isinstance(found, Mailbox) and found.domain == self.domain:
            # It was sent on by us, by another, and by us again: we are the first host as well.
            first = _MARK.match(found.local_part)
            found = None if first is None else self._reverse_first(found.local_part[5:], now)
        if isinstance(found, Mailbox) and not _ROUTING.isdisjoint(found.local_part):
            return None
        return found

    @staticmethod
    def _key_of(sender: Mailbox) -> KeptSender:
        digest = hashlib.sha256(str(sender).encode("utf-8", "surrogatepass")).digest()
        return KeptSender(base64.b32encode(digest)[:_KEY].decode("ascii"))

    def _first(self, sender: Mailbox, day: int) -> str:
        stamp, domain = _stamp(day), sender.domain.text
        signed = self._hash(self.secrets[0], "0", stamp, domain, sender.local_part)
        return f"SRS0={signed}={stamp}={domain}={sender.local_part}"

    def _later(self, first: str, rest: str) -> str:
        return f"SRS1={self._hash(self.secrets[0], '1', first, rest)}={first}={rest}"

    def _reverse_first(self, text: str, now: float) -> Mailbox | KeptSender | None:
        parts = text.split("=", 3)
        if len(parts) != 4:
            return None
        claimed, stamp, domain, local_part = parts
        if not self._made(claimed, "0", stamp, domain, local_part):
            return None
        day = _day(stamp)
        if day is None:
            return None
        age = (int(now // _DAY) - day) % _DAYS
        # one day ahead: another of our machines may be past midnight already
        if age * _DAY > self.max_age and age != _DAYS - 1:
            return None
        return _mailbox(local_part, domain) if domain else KeptSender(local_part.upper())

    def _reverse_later(self, text: str) -> Mailbox | None:
        parts = text.split("=", 2)
        if len(parts) != 3:
            return None
        claimed, first, rest = parts
        if not self._made(claimed, "1", first, rest):
            return None
        return _mailbox(f"SRS0{rest}", first)  # the age is for the first host to judge

    def _made(self, claimed: str, *parts: str) -> bool:
        given = claimed.upper().encode("utf-8", "surrogatepass")
        # all are tried, so that the time tells nothing
        matches = [hmac.compare_digest(given, self._hash(secret, *parts).encode()) for secret in self.secrets]
        return any(matches)

    @staticmethod
    def _hash(secret: bytes, *parts: str) -> str:
        text = "\0".join(parts).lower().encode("utf-8", "surrogatepass")
        digest = hmac.digest(secret, text, hashlib.sha256)
        return base64.b32encode(digest)[:_HASH].decode("ascii")


def read_srs_secrets(path: Path) -> tuple[bytes, ...]:
    """The secrets of a file, one in each line that is neither empty nor begins with `#`. Blocking.

    Raises:
      SrsSecretsError: there are none, it cannot be read, or is open to others.
    """
    try:
        data, _ = read_private(path, _MAX_FILE)
    except AuthFilesError as error:
        raise SrsSecretsError(f"srs.secrets: {error}") from error
    lines = [(number, line.strip()) for number, line in enumerate(data.split(b"\n"), 1)]
    secrets = [(number, line) for number, line in lines if line and not line.startswith(b"#")]
    problems: Sequence[str] = [
        f"srs.secrets: {path}:{number}: a secret has at least {MINIMUM_SECRET} characters"
        for number, line in secrets
        if len(line) < MINIMUM_SECRET
    ]
    if not secrets:
        problems = [f"srs.secrets: {path}: there is no secret in it: 'openssl rand -base64 24' makes one"]
    if problems:
        raise SrsSecretsError("\n".join(problems))
    return tuple(line for _, line in secrets)


def _stamp(day: int) -> str:
    return _BASE32[day >> 5] + _BASE32[day & 31]


def _day(stamp: str) -> int | None:
    if len(stamp) != 2:
        return None
    high, low = (_BASE32.find(letter) for letter in stamp.upper())
    return None if high < 0 or low < 0 else high << 5 | low


def _mailbox(local_part: str, domain: str) -> Mailbox | None:
    if not local_part:
        return None
    try:
        return Mailbox(local_part, parse_domain(domain, utf8=True))
    except MailSyntaxError:
        return None
