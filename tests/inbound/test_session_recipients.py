"""RCPT where a recipients file says who exists, and what is stored for an alias."""

from pathlib import Path

import attrs
import pytest
from inbound_bed import FakeSpool, make_config, open_bed

from elemta.config import ListenerRole
from elemta.events import MessageAccepted

FILE = """
alice@ours.example
bob@ours.example
team@ours.example: alice, bob, far@elsewhere.example
office@ours.example: alice
alice@backup.example
"""


def listing_config(folder: Path, **more):
    file = folder / "recipients"
    file.write_text(FILE)
    config = make_config(**more)
    return attrs.evolve(config, domains=attrs.evolve(config.domains, recipients=file))


async def replies_to(client, *addresses: str) -> list[str]:
    return [(await client.say(f"RCPT TO:<{address}>"))[:9] for address in addresses]


async def test_who_is_not_listed_is_refused_at_rcpt(autojump_clock, tmp_path):
    async with open_bed(listing_config(tmp_path), spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        await client.say("MAIL FROM:<a@else.example>")
        assert await client.say("RCPT TO:<nobody@ours.example>") == "550 5.1.1 no such mailbox"
        assert await replies_to(client, "nobody@backup.example", "x@foreign.example") == [
            "550 5.1.1",
            "550 5.7.1",
        ]
        answers = await replies_to(
            client,
            "Alice@ours.example",
            "bob+x@ours.example",
            "alice@backup.example",
            "postmaster@ours.example",
        )
        assert answers == ["250 2.1.5"] * 4
        assert (await client.say("RCPT TO:<postmaster>"))[:3] == "250"  # RFC 5321 §4.5.1


async def test_strangers_learn_nothing_on_a_submission_port(autojump_clock, tmp_path):
    config = listing_config(tmp_path, role=ListenerRole.SUBMISSION)
    async with open_bed(config, spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        assert (await client.say("MAIL FROM:<a@else.example>"))[:9] == "530 5.7.0"


@pytest.mark.parametrize(
    ("recipients", "stored"),
    [
        (["alice@ours.example"], ["alice@ours.example"]),
        (["office@ours.example", "alice@ours.example"], ["alice@ours.example"]),
        (["alice@ours.example", "office@ours.example"], ["alice@ours.example"]),
        (
            ["team@ours.example", "bob@ours.example"],
            ["alice@ours.example", "bob@ours.example", "far@elsewhere.example"],
        ),
        (["postmaster@ours.example"], ["postmaster@ours.example"]),
    ],
)
async def test_each_mailbox_behind_the_recipients_gets_the_message_once(
    autojump_clock, tmp_path, recipients: list[str], stored: list[str]
):
    async with open_bed(listing_config(tmp_path), spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin("a@else.example", recipients)
        assert (await client.data())[:3] == "250"
        [(envelope, *_)] = bed.spool.stored.values()
        assert [str(each.mailbox) for each in envelope.recipients] == stored
        [accepted] = bed.seen(MessageAccepted)
        assert list(accepted.recipients) == recipients  # as the client said them


async def test_postmaster_of_a_listed_domain_is_the_one_of_the_configuration(autojump_clock, tmp_path):
    config = attrs.evolve(listing_config(tmp_path), postmaster="team@ours.example")
    async with open_bed(config, spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin("a@else.example", ["postmaster@ours.example"])
        assert (await client.data())[:3] == "250"
        [(envelope, *_)] = bed.spool.stored.values()
        assert len(envelope.recipients) == 3


async def test_what_was_asked_about_notices_goes_on_with_the_address_the_sender_knows(
    autojump_clock, tmp_path
):
    async with open_bed(listing_config(tmp_path), spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        await client.say("MAIL FROM:<a@else.example>")
        await client.say("RCPT TO:<office@ours.example> NOTIFY=SUCCESS")
        await client.say("RCPT TO:<team@ours.example> NOTIFY=NEVER ORCPT=rfc822;list@else.example")
        assert (await client.data())[:3] == "250"
        [(envelope, *_)] = bed.spool.stored.values()
        alice, bob, _ = envelope.recipients
        # RFC 3461 §5.2.7
        assert alice.dsn.original_recipient == "rfc822;office@ours.example"
        assert alice.dsn.notify.name == "SUCCESS"
        assert bob.dsn.original_recipient == "rfc822;list@else.example"
        assert not bob.dsn.notify
