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
        ("info@ours.example", "250 2.1.5 <info@ours.example>"),
        ("<info@ours.example>", "250 2.1.5 <info@ours.example>"),
        ("The Office <info@ours.example>", "250 2.1.5 <info@ours.example>"),
        ("postmaster", "250 2.1.5 <postmaster@mx.ours.example>"),
        ("postmaster@mx.ours.example", "250 2.1.5 <postmaster@mx.ours.example>"),
        ("someone@ours.example", str(replies.CANNOT_VERIFY)),
        ("someone@backup.example", str(replies.CANNOT_VERIFY)),
        ("someone", str(replies.CANNOT_VERIFY)),
        ("someone@foreign.example", str(replies.MAILBOX_UNKNOWN)),
        ("some one@ours.example", str(replies.ARGUMENT_SYNTAX)),
        ("<>", str(replies.CANNOT_VERIFY)),
    ],
)
def test_only_what_is_named_is_verified_and_only_what_is_foreign_unknown(argument: str, reply: str):
    assert str(verify(Router(CONFIG), argument)) == reply


@pytest.mark.parametrize(
    ("argument", "reply"),
    [
        ("alice@ours.example", "250 2.1.5 <alice@ours.example>"),
        ("Alice+tag@ours.example", "250 2.1.5 <Alice+tag@ours.example>"),
        ("nobody@ours.example", str(replies.MAILBOX_UNKNOWN)),
        ("someone@backup.example", str(replies.CANNOT_VERIFY)),
    ],
)
def test_the_recipients_file_makes_vrfy_sure(tmp_path, argument: str, reply: str):
    file = tmp_path / "recipients"
    file.write_text("alice@ours.example\n")
    domains = attrs.evolve(CONFIG.domains, recipients=file)
    assert str(verify(Router(attrs.evolve(CONFIG, domains=domains)), argument)) == reply


def test_a_mailbox_beyond_ascii_is_told_only_who_can_read_it():
    # RFC 6531 §3.7.4.2
    router = Router(attrs.evolve(CONFIG, postmaster="pöst@ours.example"))
    assert verify(router, "postmaster") is replies.CANNOT_VERIFY
    assert str(verify(router, "postmaster", utf8=True)) == "250 2.1.5 <pöst@ours.example>"
