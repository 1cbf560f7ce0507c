"""Which sender addresses an account may use; pure."""

from __future__ import annotations

import attrs

from elemta.config import BadValue, DomainPattern, parse_domain_pattern, parse_mailbox_text
from elemta.mail import Domain, Mailbox, MailSyntaxError, parse_mailbox


@attrs.frozen(slots=True)
class SenderPattern:
    """An address, all of a domain (`*@example.org`, `*@*.example.org`), or with neither any (`*`)."""

    mailbox: Mailbox | None = None
    domain: DomainPattern | None = None

    def __str__(self) -> str:
        if self.domain is not None:
            return f"*@{self.domain}"
        return str(self.mailbox or "*")

    def takes(self, mailbox: Mailbox) -> bool:
        """Whether the address is one of these."""
        if self.mailbox is not None:
            return _folded(self.mailbox) == _folded(mailbox)
        if self.domain is None:
            return True
        return isinstance(mailbox.domain, Domain) and self.domain.covers(mailbox.domain.text)


def _folded(mailbox: Mailbox) -> tuple[str, str]:
    # RFC 5321 §2.4 lets local parts differ by case. No site gives two people addresses that do, and users
    # write theirs both ways.
    return mailbox.local_part.lower(), mailbox.domain.text


def parse_sender_pattern(text: str) -> SenderPattern:
    """Read `user@example.org`, `*@example.org`, `*@*.example.org` or `*`.

    Raises:
      BadValue: it is none of these.
    """
    if any(character.isspace() for character in text):
        raise BadValue(f"{text[:60]!r} has a blank", "the users file separates its fields by them")
    if text == "*":
        return SenderPattern()
    if text.startswith("*@"):
        return SenderPattern(domain=parse_domain_pattern(text[2:]))
    if text.startswith("@"):
        raise BadValue(f"{text[:60]!r} is not an address", 'write "*@" before the domain')
    return SenderPattern(mailbox=parse_mailbox_text(text))


def own_address(name: str) -> Mailbox | None:
    """The account's name as an address, if it is one."""
    try:
        return parse_mailbox(name, utf8=True)
    except MailSyntaxError:
        return None


def may_send_as(name: str, patterns: tuple[SenderPattern, ...], mailbox: Mailbox) -> bool:
    """Whether an account may use the address: its own name, or one that a pattern takes."""
    if any(pattern.takes(mailbox) for pattern in patterns):
        return True
    own = own_address(name)
    return own is not None and _folded(own) == _folded(mailbox)
