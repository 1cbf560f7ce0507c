"""The role submission (RFC 6409), and what other roles must not do."""

import attrs
import pytest
from inbound_bed import FRIEND, STRANGER, FakeSpool, make_config, open_bed
from test_transaction import raising

from elemta.config import ListenerRole
from elemta.events import SessionClosed
from elemta.mail import Domain
from elemta.spool import SpoolUnavailable

SUBMISSION = make_config(role=ListenerRole.SUBMISSION)


async def body_of(config, message: bytes, sender: str = "a@else.example") -> tuple[bytes, bytes]:
    """What is stored of a message: what was put before it, and the message."""
    async with open_bed(config) as bed:
        client = bed.dial(FRIEND)
        await client.hello()
        await client.begin(sender)
        assert (await client.data(message))[:3] == "250"
        [(stored, body)] = bed.stored()
        received, _, rest = stored.prefix.partition(b"+0000\r\n")
        assert received.startswith(b"Received:")
        return rest, body


async def test_date_and_message_id_are_added_and_addresses_completed(autojump_clock):
    fields, body = await body_of(SUBMISSION, b"From: Alice <alice>\r\nTo: b@x.example, bob\r\n\r\nTo: c\r\n")
    assert fields.startswith(b"Date: ")
    assert b"\r\nMessage-ID: <" in fields
    assert fields.endswith(b"@mx.ours.example>\r\n")
    assert body == (b"From: Alice <alice@ours.example>\r\nTo: b@x.example, bob@ours.example\r\n\r\nTo: c\r\n")


async def test_what_is_complete_is_left_alone(autojump_clock):
    message = b"Date: today\r\nmessage-id: <1@x>\r\nFrom: a@else.example\r\n\r\nx\r\n"
    assert await body_of(SUBMISSION, message) == (b"", message)


@pytest.mark.parametrize(
    "config",
    [
        make_config(),
        make_config(role=ListenerRole.SUBMISSION, submission={"fix_header": False}),
    ],
)
async def test_other_roles_alter_nothing(autojump_clock, config):
    # RFC 5321 §6.4
    assert await body_of(config, b"From: alice\r\n\r\n") == (b"", b"From: alice\r\n\r\n")


async def test_the_domain_may_be_configured(autojump_clock):
    config = make_config(role=ListenerRole.SUBMISSION, submission={"domain": Domain("desk.example")})
    _, body = await body_of(config, b"From: alice\r\n\r\n")
    assert body == b"From: alice@desk.example\r\n\r\n"


async def test_without_a_domain_of_ours_the_host_name_completes(autojump_clock):
    config = attrs.evolve(SUBMISSION, domains=attrs.evolve(SUBMISSION.domains, local=()))
    async with open_bed(config) as bed:
        client = bed.dial(FRIEND)
        await client.hello()
        await client.begin("alice", ["bob"])
        await client.data(b"From: alice\r\n\r\n")
        [(stored, body)] = bed.stored()
        assert str(stored.envelope.reverse_path) == "<alice@mx.ours.example>"
        assert str(stored.envelope.recipients[0].mailbox) == "bob@mx.ours.example"
        assert body == b"From: alice@mx.ours.example\r\n\r\n"


async def test_a_message_without_a_header_or_with_one_that_never_ends(autojump_clock):
    fields, body = await body_of(SUBMISSION, b"just text\r\n")
    assert (fields[-4:], body) == (b"\r\n\r\n", b"just text\r\n")
    fields, body = await body_of(SUBMISSION, b"From: alice\r\n")
    assert (fields[-4:] == b"\r\n\r\n", body) == (False, b"From: alice@ours.example\r\n")
    fields, body = await body_of(SUBMISSION, b"")
    assert (fields[:5], body) == (b"Date:", b"")


async def test_a_message_in_chunks_is_mended_too(autojump_clock):
    async with open_bed(SUBMISSION) as bed:
        client = bed.dial(FRIEND)
        await client.hello()
        await client.begin()
        await client.send(b"BDAT 8\r\nFrom: al")
        assert (await client.reply())[:3] == "250"
        await client.send(b"BDAT 7 LAST\r\nice\r\n\r\n")
        assert (await client.reply())[:3] == "250"
        [(_, body)] = bed.stored()
        assert body == b"From: alice@ours.example\r\n\r\n"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("MAIL FROM:<alice@sales>", "554 5.1.8"),  # RFC 6409 §4.2
        ("MAIL FROM:<alice@sales.example>", "250 2.1.0"),
        ("MAIL FROM:<alice>", "250 2.1.0"),
        ("MAIL FROM:<>", "250 2.1.0"),
    ],
)
async def test_domains_of_senders_are_complete(autojump_clock, line: str, code: str):
    async with open_bed(SUBMISSION, spool=FakeSpool()) as bed:
        client = bed.dial(FRIEND)
        await client.hello()
        assert (await client.say(line))[:9] == code


async def test_domains_of_recipients_are_complete(autojump_clock):
    async with open_bed(SUBMISSION, spool=FakeSpool()) as bed:
        client = bed.dial(FRIEND)
        await client.hello()
        await client.say("MAIL FROM:<alice@ours.example>")
        assert (await client.say("RCPT TO:<bob@sales>"))[:9] == "554 5.1.2"
        assert (await client.say("RCPT TO:<bob>"))[:3] == "250"
        assert (await client.say("RCPT TO:<postmaster>"))[:3] == "250"


async def test_other_roles_do_not_guess_domains(autojump_clock):
    async with open_bed(spool=FakeSpool()) as bed:
        client = bed.dial(FRIEND)
        await client.hello()
        assert (await client.say("MAIL FROM:<alice>"))[:9] == "501 5.1.7"
        assert (await client.say("MAIL FROM:<alice@sales>"))[:3] == "250"


async def test_a_header_beyond_its_limit_is_refused_and_not_kept_in_memory(autojump_clock):
    config = make_config(role=ListenerRole.SUBMISSION, limits={"header_size": 4096})
    spool = FakeSpool()
    async with open_bed(config, spool=spool) as bed:
        client = bed.dial(FRIEND)
        await client.hello()
        await client.begin()
        assert (await client.data(b"To: bob\r\nX: " + b"x" * 5000 + b"\r\n\r\n"))[:9] == "552 5.3.4"
        assert spool.drafts[0].state == "discarded"


async def test_limits_of_one_listener(autojump_clock):
    config = make_config(listener={"message_size": 70_000, "recipients": 2})
    async with open_bed(config, spool=FakeSpool()) as bed:
        client = bed.dial()
        answer = await client.hello()
        assert "SIZE 70000" in answer
        assert "RCPTMAX=2" in answer
        assert (await client.say("MAIL FROM:<a@else.example> SIZE=70001"))[:9] == "552 5.3.4"
        await client.begin(recipients=["1@ours.example", "2@ours.example"])
        assert (await client.say("RCPT TO:<3@ours.example>"))[:9] == "452 4.5.3"
        assert (await client.data(b"x" * 71_000 + b"\r\n")) == "552 5.3.4 message is larger than 70000 octets"


@pytest.mark.parametrize(
    ("peer", "role", "seconds", "offered"),
    [
        (STRANGER, ListenerRole.MX, None, None),
        (FRIEND, ListenerRole.MX, None, None),
        (STRANGER, ListenerRole.SUBMISSION, None, 2592000),
        (FRIEND, ListenerRole.SUBMISSION, None, 2592000),
        (STRANGER, ListenerRole.MX, 3600.0, None),
        (FRIEND, ListenerRole.MX, 3600.0, 3600),
        (FRIEND, ListenerRole.SUBMISSION, 3600.0, 3600),
        (FRIEND, ListenerRole.SUBMISSION, 0.0, None),
    ],
)
async def test_future_release_is_for_submission_or_as_configured(
    autojump_clock, peer: str, role: ListenerRole, seconds: float | None, offered: int | None
):
    # RFC 4865 §3
    config = make_config(role=role, listener={"future_release": seconds})
    async with open_bed(config, spool=FakeSpool()) as bed:
        client = bed.dial(peer)
        answer = await client.hello()
        found = [line.split()[1] for line in answer.split("\n") if "FUTURERELEASE" in line]
        assert found == ([] if offered is None else [str(offered)])
        for asked in (5, 3601) if peer == FRIEND else ():
            reply = await client.say(f"MAIL FROM:<a@ours.example> HOLDFOR={asked}")
            assert reply[:3] == ("555" if offered is None else "250" if asked <= offered else "501")
            await client.say("RSET")


async def test_future_release_may_be_switched_off(autojump_clock):
    config = make_config(role=ListenerRole.SUBMISSION, limits={"future_release": 0.0})
    async with open_bed(config, spool=FakeSpool()) as bed:
        client = bed.dial(FRIEND)
        assert "FUTURERELEASE" not in await client.hello()
        assert (await client.say("MAIL FROM:<a@else.example> HOLDFOR=5"))[:3] == "555"


@pytest.mark.parametrize(
    ("peer", "argument", "code"),
    [
        (FRIEND, "postmaster", "250 2.1.5"),
        (FRIEND, "somebody@foreign.example", "550 5.1.1"),
        (FRIEND, "somebody@ours.example", "252 2.0.0"),
        (STRANGER, "postmaster", "252 2.0.0"),
        (STRANGER, "somebody@foreign.example", "252 2.0.0"),
    ],
)
async def test_vrfy_tells_our_users_only_and_only_if_configured(
    autojump_clock, peer: str, argument: str, code: str
):
    async with open_bed(make_config(listener={"vrfy": True}), spool=FakeSpool()) as bed:
        client = bed.dial(peer)
        await client.hello()
        assert (await client.say(f"VRFY {argument}"))[:9] == code
    async with open_bed(spool=FakeSpool()) as bed:
        client = bed.dial(peer)
        await client.hello()
        assert (await client.say(f"VRFY {argument}"))[:9] == "252 2.0.0"


async def test_storage_that_fails_for_what_was_kept_back_may_be_told(autojump_clock):
    spool = FakeSpool()
    spool.on_step = raising("write", SpoolUnavailable())
    async with open_bed(SUBMISSION, spool=spool) as bed:
        client = bed.dial(FRIEND)
        await client.hello()
        await client.begin()
        assert (await client.data(b"From: alice\r\n"))[:9] == "421 4.3.0"
        assert bed.seen(SessionClosed)[0].cause == "storage"
        assert spool.drafts[0].state == "discarded"
