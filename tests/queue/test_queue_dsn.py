"""Notices to senders (RFC 3461), read back with the standard library as RFC 3464, 6522 and 6533 have them."""

from __future__ import annotations

import email
import email.policy
import email.utils
from email.message import EmailMessage, Message

import pytest
import trio
from queue_bed import LATER, NEVER, OK, Bed, ScriptedTransport, answers, config_with, open_bed

from elemta.delivery import Parcel
from elemta.mail import (
    BodyType,
    Cause,
    DeliverBy,
    DeliverByMode,
    Delivered,
    DsnOptions,
    Failed,
    Notify,
    Outcome,
    Recipient,
    Relay,
    Reply,
    Ret,
    parse_mailbox,
)
from elemta.spool import MemoryStore

TAKEN = Reply.of(250, "2.1.5", "taken")
REMOTE = "mx.a.example[192.0.2.7]:25"
STORED = Delivered(TAKEN, "mailbox")
BLIND = Delivered(TAKEN, REMOTE, from_remote=True, relay=Relay())
KNOWING = Delivered(TAKEN, REMOTE, from_remote=True, relay=Relay(dsn=True))
PUNCTUAL = Delivered(TAKEN, REMOTE, from_remote=True, relay=Relay(dsn=True, deliver_by=True))
BODY = b"Subject: caf\xc3\xa9\r\nMessage-ID: <one@example.org>\r\n\r\nhello\r\n"


def person(
    address: str = "r@a.example", notify: Notify | None = Notify.SUCCESS, original: str | None = None
) -> Recipient:
    return Recipient(parse_mailbox(address, utf8=True), DsnOptions(notify, original))


class Report:
    """A notice as a mail reader sees it; making one checks what holds for all."""

    def __init__(self, parcel: Parcel) -> None:
        assert parcel.envelope.reverse_path.is_null  # RFC 3461 §6.1
        assert [each.notify for each in parcel.recipients] == [Notify.NEVER]
        raw = parcel.content.body
        assert raw is not None
        assert all(len(line) <= 998 for line in raw.split(b"\r\n"))
        assert raw.count(b"\n") == raw.count(b"\r\n") == raw.count(b"\r")
        message = email.message_from_bytes(raw, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        assert not message.defects
        self.message = message
        # RFC 6522 §3: multipart/report of two or three parts.
        assert message.get_content_type() == "multipart/report"
        assert message.get_param("report-type") == "delivery-status"
        assert message["Auto-Submitted"] == "auto-replied"  # RFC 3834 §5
        assert email.utils.parsedate_to_datetime(str(message["Date"]))
        text, self.status, self.original = message.iter_parts()
        assert text.get_content_type() == "text/plain"
        self.text = text.get_content()
        blocks = self.status.get_payload()
        assert isinstance(blocks, list)
        self.about: Message = blocks[0]
        self.recipients: list[Message] = blocks[1:]
        assert str(self.about["Reporting-MTA"]) == "dns; mx.example.net"
        for block in self.recipients:  # RFC 3464 §2.3: the required fields, each once
            for name in ("Final-Recipient", "Action", "Status"):
                assert len(block.get_all(name, [])) == 1
            assert str(block["Action"]) in ("failed", "delayed", "delivered", "relayed", "expanded")
            number, _, rest = str(block["Status"]).partition(".")
            assert number in ("2", "4", "5")
            assert [part.isdigit() for part in rest.split(".")] == [True, True]

    def column(self, name: str) -> list[str]:
        return [str(block[name]) for block in self.recipients]


def reports(bed: Bed) -> list[Report]:
    return [Report(parcel) for parcel in bed.parcels("smtp:example.org")]


async def outcome_of(
    *outcomes: Outcome, to: tuple[Recipient, ...] | None = None, seconds: float = 5, **envelope: object
) -> list[Report]:
    """The reports that follow when a message's recipients end like this."""
    async with open_bed() as bed:
        bed.transports["smtp:a.example"] = ScriptedTransport(answers(*outcomes))
        await bed.accept(*(to or (person(),)), **envelope)  # type: ignore[arg-type]
        await trio.sleep(seconds)
        return reports(bed)


async def test_final_delivery_is_told_to_one_who_asked(autojump_clock: trio.testing.MockClock) -> None:
    (report,) = await outcome_of(STORED, to=(person(original="rfc822;r+x@a.example"),), envelope_id="id+1 é")
    assert report.column("Action") == ["delivered"]
    assert report.column("Status") == ["2.1.5"]
    assert report.column("Original-Recipient") == ["rfc822; r+x@a.example"]
    assert report.column("Final-Recipient") == ["rfc822; r@a.example"]
    assert report.column("Remote-MTA") == ["None"], "nobody but us stored it"
    assert str(report.about["Original-Envelope-Id"]) == "id+1 \\x{E9}"
    assert str(report.message["Subject"]) == "Delivered mail"
    assert str(report.message["To"]) == "sender@example.org"


async def test_a_relay_that_sends_no_notices_is_told_of(autojump_clock: trio.testing.MockClock) -> None:
    (report,) = await outcome_of(BLIND)
    assert report.column("Action") == ["relayed"]
    assert report.column("Remote-MTA") == ["dns; mx.a.example"]
    assert report.column("Diagnostic-Code") == ["smtp; 250 2.1.5 taken"]
    assert report.original.get_content_type() == "text/rfc822-headers"


@pytest.mark.parametrize(
    ("outcome", "notify"),
    [
        (KNOWING, Notify.SUCCESS | Notify.FAILURE | Notify.DELAY),  # RFC 3461 §5.2.1: its duty
        (STORED, None),
        (BLIND, None),
        (STORED, Notify.NEVER),
        (STORED, Notify.FAILURE | Notify.DELAY),
        (BLIND, Notify.FAILURE),
        (NEVER, Notify.NEVER),
        (NEVER, Notify.SUCCESS),
        (NEVER, Notify.DELAY),
    ],
)
async def test_nobody_is_told_what_he_did_not_ask_for(
    outcome: Outcome, notify: Notify | None, autojump_clock: trio.testing.MockClock
) -> None:
    assert await outcome_of(outcome, to=(person(notify=notify),)) == []


@pytest.mark.parametrize("outcome", [STORED, BLIND, NEVER])
async def test_the_null_sender_is_never_told(
    outcome: Outcome, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_bed(answers(outcome)) as bed:
        everything = Notify.SUCCESS | Notify.FAILURE | Notify.DELAY
        await bed.accept(person(notify=everything), sender=None)
        await trio.sleep(5)
        assert set(bed.transports) == {"smtp:a.example"}
        assert "notice.queued" not in bed.kinds()


async def test_good_news_and_bad_news_go_into_two_notices(autojump_clock: trio.testing.MockClock) -> None:
    everything = Notify.SUCCESS | Notify.FAILURE
    people = tuple(person(f"r{number}@a.example", everything) for number in range(4))
    found = await outcome_of(STORED, NEVER, BLIND, KNOWING, to=people)
    bad, good = sorted(found, key=lambda report: len(report.recipients))
    assert bad.column("Final-Recipient") == ["rfc822; r1@a.example"]
    assert bad.column("Action") == ["failed"]
    assert bad.column("Remote-MTA") == ["dns; next.example"]
    assert good.column("Final-Recipient") == ["rfc822; r0@a.example", "rfc822; r2@a.example"]
    assert good.column("Action") == ["delivered", "relayed"]


@pytest.mark.parametrize(
    ("notify", "told"), [(None, True), (Notify.DELAY, True), (Notify.FAILURE, False), (Notify.NEVER, False)]
)
async def test_delay_is_told_to_those_who_want_it(
    notify: Notify | None, told: bool, autojump_clock: trio.testing.MockClock
) -> None:
    found = await outcome_of(LATER, to=(person(notify=notify),), seconds=5 * 3600)
    assert [report.column("Action") for report in found] == ([["delayed"]] if told else [])


async def test_one_who_is_not_told_of_delay_is_not_told_later_either(
    autojump_clock: trio.testing.MockClock,
) -> None:
    found = await outcome_of(LATER, to=(person(notify=Notify.FAILURE),), seconds=6 * 86_400)
    assert [report.column("Action") for report in found] == [["failed"]]


@pytest.mark.parametrize(
    ("ret", "kind"),
    [(None, "text/rfc822-headers"), (Ret.HEADERS, "text/rfc822-headers"), (Ret.FULL, "message/rfc822")],
)
async def test_a_failure_returns_what_the_sender_asked_for(
    ret: Ret | None, kind: str, autojump_clock: trio.testing.MockClock
) -> None:
    (report,) = await outcome_of(NEVER, to=(person(notify=None),), ret=ret)
    assert report.original.get_content_type() == kind
    assert (
        "hello" in report.original.as_string()
        if ret is Ret.FULL
        else "Subject: x" in report.original.as_string()
    )


async def test_only_a_failure_returns_the_whole_message(autojump_clock: trio.testing.MockClock) -> None:
    (report,) = await outcome_of(STORED, ret=Ret.FULL)  # RFC 3461 §4.3
    assert report.original.get_content_type() == "text/rfc822-headers"


async def test_international_mail_has_the_global_forms(autojump_clock: trio.testing.MockClock) -> None:
    failed = Failed(Cause.REMOTE_REPLY, Reply.of(550, "5.1.1", "pas de renée"), REMOTE, from_remote=True)
    people = (person("renée@a.example", Notify.SUCCESS | Notify.FAILURE, "utf-8;renée@a.example"),)
    (report,) = await outcome_of(
        failed, to=people, body=BODY, smtputf8=True, body_type=BodyType.EIGHT_BIT_MIME, ret=Ret.FULL
    )
    # RFC 6533 §3
    assert report.status.get_content_type() == "message/global-delivery-status"
    assert report.original.get_content_type() == "message/global"
    raw = report.status.as_bytes()
    assert b"Final-Recipient: utf-8; ren\xc3\xa9e@a.example" in raw or "renée" in str(report.status)


async def test_the_original_is_read_from_the_spool_where_it_is_not_in_memory(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed(answers(STORED)) as bed:
        bed.spool.set_intake(None)
        await bed.accept(person())
        bed.spool.set_intake(bed.queue.claims)
        await trio.sleep(70)
        (report,) = reports(bed)
    assert "Subject: x" in report.original.as_string()


async def test_a_cancel_does_not_lose_the_word_of_the_next_hop(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The drain ends all attempts while the original is read for the notice."""
    store = MemoryStore()
    async with open_bed(answers(STORED), store=store) as bed:
        bed.spool.set_intake(None)
        await bed.accept(person())
        bed.spool.open_body = _slow(bed.spool.open_body)  # type: ignore[method-assign]
        await trio.sleep(2)
        assert len(bed.parcels("smtp:a.example")) == 1
        bed.drain.begin("test", 0.0, 0.0)
        await trio.sleep(10)
    totals = store.statistics()
    assert (totals.delivered, totals.queued, totals.accepted) == (1, 1, 2)


def _slow(open_body):  # type: ignore[no-untyped-def]
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def opened(message):  # type: ignore[no-untyped-def]
        await trio.sleep(3600)
        async with open_body(message) as reader:
            yield reader

    return opened


@pytest.mark.parametrize(
    ("outcome", "mode", "trace", "notify", "told"),
    [
        # RFC 2852 §4.1.4: each server on the way of one who asked for a trace
        (PUNCTUAL, DeliverByMode.RETURN, True, None, True),
        (BLIND, DeliverByMode.RETURN, True, Notify.FAILURE, True),
        (PUNCTUAL, DeliverByMode.RETURN, True, Notify.NEVER, False),
        (PUNCTUAL, DeliverByMode.RETURN, False, None, False),
        # and where nobody will tell of the delay any more
        (KNOWING, DeliverByMode.NOTIFY, False, None, True),
        (KNOWING, DeliverByMode.NOTIFY, False, Notify.NEVER, False),
        (PUNCTUAL, DeliverByMode.NOTIFY, False, None, False),
        (STORED, DeliverByMode.NOTIFY, True, None, False),
    ],
)
async def test_deadlines_that_leave_our_sight_are_told(
    outcome: Outcome,
    mode: DeliverByMode,
    trace: bool,
    notify: Notify | None,
    told: bool,
    autojump_clock: trio.testing.MockClock,
) -> None:
    deadline = DeliverBy(1_750_100_000.0, mode, trace)
    found = await outcome_of(outcome, to=(person(notify=notify),), deliver_by=deadline)
    assert [report.column("Action") for report in found] == ([["relayed"]] if told else [])
    for report in found:
        assert (
            email.utils.parsedate_to_datetime(str(report.about["Deliver-By-Date"])).timestamp()
            == 1_750_100_000
        )


async def test_a_notice_for_many_is_one_message(autojump_clock: trio.testing.MockClock) -> None:
    people = tuple(person(f"r{number}@a.example") for number in range(20))
    async with open_bed(answers(STORED), config=config_with()) as bed:
        bed.transports["smtp:example.org"] = ScriptedTransport(answers(OK))
        await bed.accept(*people)
        await trio.sleep(5)
        (report,) = reports(bed)
        totals = await bed.spool.totals()
    assert len(report.recipients) == 20
    assert (totals.accepted, totals.delivered) == (21, 21)


async def test_notices_carry_the_signatures_of_their_domain(autojump_clock: trio.testing.MockClock) -> None:
    seen: list[bytes] = []

    def sign(message: bytes) -> bytes:
        seen.append(message)
        return b"DKIM-Signature: of it\r\n"

    async with open_bed(sign=sign) as bed:
        bed.transports["smtp:a.example"] = ScriptedTransport(answers(NEVER))
        await bed.accept("r@a.example")
        await trio.sleep(5)
        (parcel,) = bed.parcels("smtp:example.org")
        Report(parcel)
        assert parcel.content.prefix == b"DKIM-Signature: of it\r\n"
        assert [parcel.content.body] == seen
        assert parcel.content.size == len(seen[0]) + len(parcel.content.prefix)
