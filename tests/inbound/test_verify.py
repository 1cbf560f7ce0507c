"""VRFY where it may tell something (RFC 5321 §3.5)."""

import attrs
import pytest
from inbound_bed import make_config

from elemta.config import RouteConfig, TransportKind
from elemta.config.units import parse_route_pattern
from elemta.inbound.verify import verify
from elemta.mail import replies
from elemta.routing import Router

OF_INFO = RouteConfig(parse_route_pattern("info@ours.example"), TransportKind.DISCARD)
CONFIG = attrs.evolve(make_config(), routes=(OF_INFO, *make_config().routes))


@pytest.mark.parametrize(
    ("argument", "reply"),
    [
        ("info@ours.example", replies.VERIFIED),
        ("<info@ours.example>", replies.VERIFIED),
        ("The Office <info@ours.example>", replies.VERIFIED),
        ("postmaster", replies.VERIFIED),
        ("postmaster@mx.ours.example", replies.VERIFIED),
        ("someone@ours.example", replies.CANNOT_VERIFY),
        ("someone@backup.example", replies.CANNOT_VERIFY),
        ("someone", replies.CANNOT_VERIFY),
        ("someone@foreign.example", replies.MAILBOX_UNKNOWN),
        ("some one@ours.example", replies.ARGUMENT_SYNTAX),
        ("<>", replies.CANNOT_VERIFY),
    ],
)
def test_only_what_is_named_is_verified_and_only_what_is_foreign_unknown(argument: str, reply: object):
    assert verify(Router(CONFIG), argument) is reply


@pytest.mark.parametrize(
    ("argument", "reply"),
    [
        ("alice@ours.example", replies.VERIFIED),
        ("Alice+tag@ours.example", replies.VERIFIED),
        ("nobody@ours.example", replies.MAILBOX_UNKNOWN),
        ("someone@backup.example", replies.CANNOT_VERIFY),
    ],
)
def test_the_recipients_file_makes_vrfy_sure(tmp_path, argument: str, reply: object):
    file = tmp_path / "recipients"
    file.write_text("alice@ours.example\n")
    domains = attrs.evolve(CONFIG.domains, recipients=file)
    assert verify(Router(attrs.evolve(CONFIG, domains=domains)), argument) is reply
