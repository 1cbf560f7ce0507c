"""Answers VRFY where the configuration allows it (RFC 5321 §3.5)."""

from __future__ import annotations

import re

from elemta.mail import MailSyntaxError, Reply, parse_forward_path, replies
from elemta.routing import Destination, Router

_IN_BRACKETS = re.compile(r"[^<>]*(<[^<>]*>)\s*")


def verify(router: Router, argument: str, *, utf8: bool = False) -> Reply:
    """What is known of the address: 250 only where it is named (RFC 5321 §3.5.3), 550 where it is none of
    ours, 252 for the rest of our domains and for names without a domain, of which there is no list.

    `utf8`: the client reads replies beyond ASCII (RFC 6531 §3.7.4.2).
    """
    bracketed = _IN_BRACKETS.fullmatch(argument)
    try:
        path = parse_forward_path(bracketed[1] if bracketed else f"<{argument}>", utf8=True)
    except MailSyntaxError:
        return replies.ARGUMENT_SYNTAX if "@" in argument else replies.CANNOT_VERIFY
    mailbox = router.mailbox_of(path)
    if router.has_to_ask(mailbox):
        return replies.CANNOT_VERIFY  # only RCPT asks the table
    if router.is_named(mailbox):
        return replies.verified(mailbox) if utf8 or mailbox.is_ascii else replies.CANNOT_VERIFY
    if router.destination(mailbox) is Destination.FOREIGN or not router.exists(mailbox):
        return replies.MAILBOX_UNKNOWN
    return replies.CANNOT_VERIFY
