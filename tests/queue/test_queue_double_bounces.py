"""Notices that reach nobody go to postmaster; nobody is bothered about mail that nobody waits for."""

import attrs
import pytest
import trio
from queue_bed import LATER, NEVER, OK, ScriptedTransport, answers, open_bed

from elemta.config import Config, DomainsConfig, QueueConfig
from elemta.mail import Domain, DsnOptions, Notify, Recipient, parse_mailbox

CONFIG = Config(
    hostname="mx.example.net",
    postmaster="boss@example.net",
    domains=DomainsConfig(local=(Domain("example.net"),)),
    queue=QueueConfig(retry_jitter=0.0),
)
BOSS = "smtp:example.net"


def refuse(bed, *domains, outcome=NEVER):
    for domain in domains:
        bed.transports[f"smtp:{domain}"] = ScriptedTransport(answers(outcome))


async def test_notice_that_is_refused_goes_to_postmaster_whole(autojump_clock):
    async with open_bed(config=CONFIG) as bed:
        refuse(bed, "a.example", "example.org")
        await bed.accept("r@a.example")
        await trio.sleep(5)
        [first] = bed.parcels("smtp:example.org")
        [parcel] = bed.parcels(BOSS)
        assert [event.recipient for event in bed.of("notice.queued")] == [
            "sender@example.org",
            "boss@example.net",
        ]
    assert parcel.envelope.reverse_path.is_null
    assert [str(each.mailbox) for each in parcel.recipients] == ["boss@example.net"]
    text = parcel.content.body
    assert b"To: <boss@example.net>\r\n" in text
    assert b"Subject: Undelivered notice\r\n" in text
    assert b"Final-Recipient: rfc822; sender@example.org\r\n" in text
    assert b"Content-Type: message/rfc822\r\n" in text
    assert first.content.body in text  # so that he can see what it was about


async def test_notice_that_expires_goes_to_postmaster(autojump_clock):
    async with open_bed(config=CONFIG) as bed:
        refuse(bed, "a.example")
        refuse(bed, "example.org", outcome=LATER)
        await bed.accept("r@a.example")
        await trio.sleep(2 * 86400)
        assert len(bed.parcels(BOSS)) == 1


async def test_postmaster_is_not_told_of_what_does_not_reach_postmaster(autojump_clock):
    async with open_bed(config=CONFIG) as bed:
        refuse(bed, "a.example", "example.org", "example.net")
        await bed.accept("r@a.example")
        await trio.sleep(5)
        assert len(bed.parcels(BOSS)) == 1
        assert len(bed.of("notice.queued")) == 2


async def test_notices_of_others_are_not_our_postmasters(autojump_clock):
    async with open_bed(config=CONFIG) as bed:
        refuse(bed, "a.example")
        await bed.accept(Recipient(parse_mailbox("r@a.example"), DsnOptions(Notify.NEVER)), sender=None)
        await trio.sleep(5)
        assert bed.parcels(BOSS) == []


@pytest.mark.parametrize(
    "config",
    [
        attrs.evolve(CONFIG, queue=attrs.evolve(CONFIG.queue, double_bounces=False)),
        attrs.evolve(CONFIG, postmaster=None),  # who would be at the host name, where no mailbox is
    ],
)
async def test_without_a_postmaster_they_end(config, autojump_clock):
    async with open_bed(config=config) as bed:
        refuse(bed, "a.example", "example.org")
        await bed.accept("r@a.example")
        await trio.sleep(5)
        assert len(bed.of("notice.queued")) == 1


@pytest.mark.parametrize(
    ("field", "told"),
    [
        (b"Auto-Submitted: auto-generated", False),
        (b"Auto-Submitted: no", True),
        (b"Precedence: Bulk", False),
        (b"Precedence: first-class", True),
        (b"List-Id: <l.example>", False),
        (b"X-Other: x", True),
    ],
)
@pytest.mark.parametrize("notify", [None, Notify.DELAY])
async def test_programs_and_lists_are_told_of_delay_only_where_they_asked(
    field, told, notify, autojump_clock
):
    async with open_bed() as bed:
        refuse(bed, "a.example", outcome=LATER)
        person = Recipient(parse_mailbox("r@a.example"), DsnOptions(notify))
        await bed.accept(person, body=field + b"\r\nSubject: x\r\n\r\nhello\r\n")
        await trio.sleep(10 * 3600)
        assert len(bed.of("notice.queued")) == (told or notify is not None)


async def test_programs_and_lists_are_told_of_failures(autojump_clock):
    async with open_bed() as bed:
        bed.transports["smtp:a.example"] = ScriptedTransport(answers(NEVER))
        bed.transports["smtp:example.org"] = ScriptedTransport(answers(OK))
        await bed.accept("r@a.example", body=b"Precedence: bulk\r\n\r\nhello\r\n")
        await trio.sleep(5)
        [parcel] = bed.parcels("smtp:example.org")
    assert b"X-Auto-Response-Suppress: All\r\n" in parcel.content.body
