"""Whom a connection stands for: what XCLIENT and XFORWARD say of another client, read and checked.

Both are Postfix's (XCLIENT_README, XFORWARD_README). Who may use them is configuration; what they say is
still text of a stranger, who once was that other client.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

import attrs

from elemta.auth import NotPrepared, prepare_name

UNKNOWN_PEER = "unknown"
"""A client whose address is not known: in no network, never trusted."""
_UNKNOWN = frozenset({"[UNAVAILABLE]", "[TEMPUNAVAIL]"})
_MAX_TEXT = 255
_PROTOCOLS = frozenset({"SMTP", "ESMTP"})


@attrs.frozen
class ForwardedClient:
    """What was said of another client. None: nothing, so that what was known of it stands; empty: that it
    is not known."""

    peer: str | None = None
    """IP address, or `UNKNOWN_PEER`."""
    port: int | None = None
    name: str | None = None
    hello: str | None = None
    protocol: str | None = None
    account: str | None = None
    ident: str | None = None

    def over(self, earlier: ForwardedClient) -> ForwardedClient:
        """The two together: what this one says, and what only the earlier one said."""
        news = attrs.asdict(self, filter=lambda _, value: value is not None)
        return attrs.evolve(earlier, **news)


def read_forwarded(attributes: Mapping[str, str]) -> ForwardedClient | None:
    """Read the attributes of one command; None if a value makes no sense."""
    fields: dict[str, str | int | None] = {}
    for name, value in attributes.items():
        unknown = value.upper() in _UNKNOWN
        if not unknown and not (value and value.isprintable() and len(value) <= _MAX_TEXT):
            return None
        match name:
            case "ADDR":
                fields["peer"] = UNKNOWN_PEER if unknown else _address(value)
            case "PORT":
                fields["port"] = 0 if unknown else _port(value)
            case "PROTO":
                fields["protocol"] = "" if unknown else value.upper() if value.upper() in _PROTOCOLS else None
            case "NAME":
                fields["name"] = "" if unknown else value
            case "HELO":
                fields["hello"] = "" if unknown else value
            case "LOGIN":
                fields["account"] = "" if unknown else _account(value)
            case "IDENT":
                fields["ident"] = "" if unknown else value
            case _:
                continue  # SOURCE, DESTADDR …: nothing here depends on them
        if None in fields.values():
            return None
    return ForwardedClient(**fields)  # type: ignore[arg-type]  # each field has its own type above


def _address(text: str) -> str | None:
    if text[:5].upper() == "IPV6:":
        text = text[5:]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _account(text: str) -> str:
    """The name as our accounts are looked up and counted; what can be none of ours stays as it is."""
    try:
        return prepare_name(text)
    except NotPrepared:
        return text


def _port(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and int(text) < 65536 else None
