"""VRFY where it may tell something (RFC 5321 §3.5)."""

import pytest
from inbound_bed import make_config

from elemta.config import RouteConfig, TransportKind
from elemta.config.units import parse_route_pattern
from elemta.inbound.verify import verify
from elemta.mail import replies
from elemta.routing import Router

CONFIG = make_config()
ROUTES = (RouteConfig(parse_route_pattern("info@ours.example"), TransportKind.DISCARD), *CONFIG.routes)


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
    assert verify(Router(CONFIG), ROUTES, argument) is reply
