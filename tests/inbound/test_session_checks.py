"""Messages in sessions: strangers' are checked and their forgeries removed, those of our users are signed."""

import ipaddress
from typing import Any

import attrs
import pytest
import trio
from inbound_bed import FRIEND, STRANGER, Bed, Client, FakeSpool, make_config, open_bed
from inbound_fakes import PLAIN_ALICE, FakeAuthenticator

from elemta.config import (
    ArcConfig,
    Config,
    DkimConfig,
    DmarcConfig,
    DomainPattern,
    ListenerAuth,
    ListenerRole,
    MessageAction,
    RouteConfig,
    RoutePattern,
    SpfConfig,
    TransportKind,
)
from elemta.events import (
    MessageAccepted,
    MessageJudged,
    MessageRejected,
    MessageSealed,
    MessageSigned,
    TaskCrashed,
)
from elemta.mail import Domain, Notify
from elemta.policy import (
    MessageHasher,
    Notary,
    PrivateKeys,
    ReportCollector,
    SealingKey,
    SigningEntry,
    check_dkim,
    dkim_needs,
)
from elemta.policy.keyring import Algorithm, make_key
from elemta.runtime import ThreadPool, TrioWallClock
from elemta.testing.dns import FakeResolver

KEY = make_key(Algorithm.ED25519_SHA256)
ENTRY = SigningEntry(DomainPattern(Domain("ours.example")), "ours.example", "mail", KEY)
SEALING = SealingKey("ours.example", "seal", KEY)
MAIL = b"From: a@else.example\r\nTo: b@ours.example\r\nSubject: x\r\n\r\nhello\r\n"
OURS = MAIL.replace(b"a@else.example", b"alice@ours.example")


def resolver(spf: str = f"v=spf1 ip4:{STRANGER} -all", dmarc: str = "v=DMARC1; p=reject") -> FakeResolver:
    found = FakeResolver()
    found.add("else.example", "TXT", spf)
    found.add("_dmarc.else.example", "TXT", dmarc)
    for selector in ("mail", "seal"):
        found.add(f"{selector}._domainkey.ours.example", "TXT", KEY.record())
    return found


def with_policy(config: Config | None = None, **changes: Any) -> Config:
    config = config or make_config()
    return attrs.evolve(config, policy=attrs.evolve(config.policy, **changes))


def notary(
    config: Config,
    dns: FakeResolver | None = None,
    *entries: SigningEntry,
    sealing: SealingKey | None = None,
) -> Notary:
    return Notary(config, PrivateKeys(entries, sealing), dns or resolver(), TrioWallClock())


async def send(
    bed: Bed, message: bytes = MAIL, *, sender: str = "a@else.example", peer: str = STRANGER
) -> str:
    client = bed.dial(peer)
    await client.hello()
    await client.begin(sender)
    return await client.data(message)


def stored(spool: FakeSpool) -> tuple[bytes, bytes]:
    """What was put before the one message, and the message."""
    [(_, _, prefix, body)] = spool.stored.values()
    return prefix, body


async def test_a_strangers_message_is_checked_and_says_what_was_found(autojump_clock):
    config, spool = make_config(), FakeSpool()
    made = notary(config)
    async with open_bed(config, spool=spool, notary=made) as bed:
        assert (await send(bed))[:3] == "250"
        prefix, body = stored(spool)
        assert prefix.replace(b"\r\n\t", b" ").startswith(
            b"Authentication-Results: mx.ours.example; spf=pass smtp.mailfrom=else.example; dkim=none; "
            b"dmarc=pass header.from=else.example\r\nReceived: from client.example"
        )
        assert body == MAIL
        [judged] = bed.seen(MessageJudged)
        [accepted] = bed.seen(MessageAccepted)
        assert judged.message == accepted.message
        assert (judged.action, judged.check) == ("note", "")
        assert judged.results == (
            "spf=pass smtp.mailfrom=else.example",
            "dkim=none",
            "dmarc=pass header.from=else.example",
        )
        assert accepted.size == len(prefix) + len(body)
        assert made.statistics().checked == 1


async def test_what_dmarc_found_is_counted_for_reports(autojump_clock):
    config, spool = make_config(), FakeSpool()
    made = notary(config, resolver(dmarc="v=DMARC1; p=reject; rua=mailto:r@else.example"))
    made.reports = ReportCollector()
    async with open_bed(config, spool=spool, notary=made) as bed:
        for _ in range(2):
            await send(bed)
        [row] = made.reports.take()
        assert (row.domain, row.count) == ("else.example", 2)
        assert STRANGER in row.found
        assert "a@" not in row.found  # no local part of anybody


@pytest.mark.parametrize("mailbox", [None, "suspect@ours.example"])
async def test_what_is_suspect_goes_to_the_mailbox_for_it(autojump_clock, mailbox: str | None):
    config = with_policy(dmarc=DmarcConfig(MessageAction.QUARANTINE), quarantine_mailbox=mailbox)
    spool = FakeSpool()
    async with open_bed(config, spool=spool, notary=notary(config, resolver("v=spf1 -all"))) as bed:
        client = bed.dial(STRANGER)
        await client.hello()
        await client.say("MAIL FROM:<a@else.example>")
        for name in ("bob", "carol"):
            assert (await client.say(f"RCPT TO:<{name}@ours.example> NOTIFY=SUCCESS"))[:3] == "250"
        assert (await client.data(MAIL))[:3] == "250"
        [(envelope, _, prefix, _)] = spool.stored.values()
        assert prefix.startswith(b"X-Elemta-Quarantine: dmarc\r\n")
        named = b"X-Elemta-Recipient: bob@ours.example\r\nX-Elemta-Recipient: carol@ours.example\r\n"
        assert (named in prefix) is (mailbox is not None)
        found = [str(each.mailbox) for each in envelope.recipients]
        assert found == ([mailbox] if mailbox else ["bob@ours.example", "carol@ours.example"])
        if mailbox:
            assert envelope.recipients[0].notify is Notify.NEVER
        [accepted] = bed.seen(MessageAccepted)
        assert list(accepted.recipients) == found


QUARANTINE = RouteConfig(RoutePattern(quarantine=True), TransportKind.LMTP, host="quarantine.example")


async def test_what_is_suspect_can_go_by_a_route_of_its_own(autojump_clock):
    config = with_policy(dmarc=DmarcConfig(MessageAction.QUARANTINE))
    config = attrs.evolve(config, routes=(*config.routes, QUARANTINE))
    spool = FakeSpool()
    async with open_bed(config, spool=spool, notary=notary(config, resolver("v=spf1 -all"))) as bed:
        client = bed.dial(STRANGER)
        await client.hello()
        await client.say("MAIL FROM:<a@else.example>")
        assert (await client.say("RCPT TO:<bob@ours.example> NOTIFY=SUCCESS"))[:3] == "250"
        assert (await client.data(MAIL))[:3] == "250"
        await send(bed, OURS, sender="alice@ours.example", peer=FRIEND)
    (envelope, _, prefix, _), (other, *_) = spool.stored.values()
    assert envelope.quarantined
    assert [str(each.mailbox) for each in envelope.recipients] == ["bob@ours.example"]
    assert envelope.recipients[0].notify is Notify.NEVER  # whoever forged the sender makes us tell nobody
    assert prefix.startswith(b"X-Elemta-Quarantine: dmarc\r\n")
    assert not other.quarantined


async def test_notices_are_sent_for_what_is_only_marked(autojump_clock):
    config = with_policy(dmarc=DmarcConfig(MessageAction.QUARANTINE))
    spool = FakeSpool()
    async with open_bed(config, spool=spool, notary=notary(config, resolver("v=spf1 -all"))) as bed:
        client = bed.dial(STRANGER)
        await client.hello()
        await client.say("MAIL FROM:<a@else.example>")
        assert (await client.say("RCPT TO:<bob@ours.example> NOTIFY=SUCCESS"))[:3] == "250"
        assert (await client.data(MAIL))[:3] == "250"
    [(envelope, *_)] = spool.stored.values()
    assert (envelope.quarantined, envelope.recipients[0].notify) == (True, Notify.SUCCESS)


@pytest.mark.parametrize(
    ("action", "reply"),
    [(MessageAction.NOTE, "250"), (MessageAction.DEFER, "451"), (MessageAction.REFUSE, "550")],
)
async def test_what_fails_is_treated_as_configured(autojump_clock, action: MessageAction, reply: str):
    config, spool = with_policy(dmarc=DmarcConfig(action)), FakeSpool()
    made = notary(config, resolver("v=spf1 -all"))
    async with open_bed(config, spool=spool, notary=made) as bed:
        assert (await send(bed))[:3] == reply
        [judged] = bed.seen(MessageJudged)
        assert (judged.action, judged.reason) == (
            str(action),
            "" if reply == "250" else "dmarc: else.example asks for reject",
        )
        assert len(spool.stored) == (reply == "250")
        assert [each.reason for each in bed.seen(MessageRejected)] == [judged.reason] * (reply != "250")
        assert all(draft.state != "open" for draft in spool.drafts)
        assert made.statistics().refused == (reply != "250")


async def test_what_is_suspect_is_marked(autojump_clock):
    config, spool = with_policy(spf=SpfConfig(MessageAction.QUARANTINE)), FakeSpool()
    async with open_bed(config, spool=spool, notary=notary(config, resolver("v=spf1 -all"))) as bed:
        assert (await send(bed))[:3] == "250"
        assert stored(spool)[0].startswith(b"X-Elemta-Quarantine: spf\r\nAuthentication-Results: ")


async def test_dns_that_does_not_answer_defers_at_its_deadline(autojump_clock):
    config = with_policy(spf=SpfConfig(MessageAction.REFUSE, timeout=3), dmarc=DmarcConfig(MessageAction.OFF))
    dns, spool = resolver(), FakeSpool()
    dns.delays["else.example"] = 1000
    async with open_bed(config, spool=spool, notary=notary(config, dns)) as bed:
        start = trio.current_time()
        assert (await send(bed))[:9] == "451 4.7.2"
        assert trio.current_time() - start == pytest.approx(3)
        assert not spool.stored


FORGED = b"Authentication-Results: MX.ours.example;\r\n\tspf=pass\r\n"
HONEST = b"Authentication-Results: other.example; spf=fail\r\n"


@pytest.mark.parametrize("piece", [1, 7, 10_000])
@pytest.mark.parametrize("ending", [b"\r\nhello\r\n", b"\r\n", b""])
async def test_results_in_our_name_do_not_come_in(autojump_clock, piece: int, ending: bytes):
    config, spool = make_config(), FakeSpool()
    message = FORGED + HONEST + MAIL[:-9] + FORGED + ending
    async with open_bed(config, spool=spool, notary=notary(config)) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        assert (await client.say("DATA"))[:3] == "354"
        whole = message + b".\r\n"
        for start in range(0, len(whole), piece):
            await client.send(whole[start : start + piece])
            await trio.testing.wait_all_tasks_blocked()
        assert (await client.reply())[:3] == "250"
        assert stored(spool)[1] == HONEST + MAIL[:-9] + ending


async def test_results_in_the_body_are_text(autojump_clock):
    config, spool = make_config(), FakeSpool()
    async with open_bed(config, spool=spool, notary=notary(config)) as bed:
        assert (await send(bed, MAIL + FORGED))[:3] == "250"
        assert stored(spool)[1] == MAIL + FORGED


async def test_chunks_are_checked_like_any_message(autojump_clock):
    config, spool = make_config(), FakeSpool()
    async with open_bed(config, spool=spool, notary=notary(config)) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        first, second = (FORGED + MAIL)[:30], (FORGED + MAIL)[30:]
        await client.send(b"BDAT %d\r\n%b" % (len(first), first))
        assert (await client.reply())[:3] == "250"
        await client.send(b"BDAT %d LAST\r\n%b" % (len(second), second))
        assert (await client.reply())[:3] == "250"
        prefix, body = stored(spool)
        assert prefix.startswith(b"Authentication-Results: ")
        assert body == MAIL


async def test_a_signature_may_be_of_what_is_removed(autojump_clock):
    """Checked is what came, not what is left of it."""
    config, spool = make_config(), FakeSpool()
    entry = attrs.evolve(ENTRY, names=(b"from", b"authentication-results"))
    hasher = MessageHasher(lambda head: [entry.need], ThreadPool("test", 1))
    hasher.feed(FORGED + MAIL)
    hashed = hasher.finish()
    from elemta.policy.signing import make_signatures

    signature = make_signatures([entry], hashed.head, hashed.hashes, int(TrioWallClock().time()))
    async with open_bed(config, spool=spool, notary=notary(config)) as bed:
        assert (await send(bed, signature + FORGED + MAIL))[:3] == "250"
        assert b"dkim=pass" in stored(spool)[0]
        assert stored(spool)[1] == signature + MAIL


async def test_nothing_is_asked_about_networks_of_our_own(autojump_clock):
    config, spool, dns = make_config(), FakeSpool(), resolver()
    async with open_bed(config, spool=spool, notary=notary(config, dns)) as bed:
        assert (await send(bed, FORGED + MAIL, peer=FRIEND))[:3] == "250"
        prefix, body = stored(spool)
        assert prefix.startswith(b"Received: ")
        assert body == FORGED + MAIL  # a filter of ours may have written it
        assert dns.queries == []
        assert not bed.seen(MessageJudged)


async def test_nothing_is_asked_about_exempt_networks(autojump_clock):
    config, spool, dns = (
        with_policy(exempt=(ipaddress.ip_network("192.0.2.0/24"),)),
        FakeSpool(),
        resolver(),
    )
    async with open_bed(config, spool=spool, notary=notary(config, dns)) as bed:
        assert (await send(bed))[:3] == "250"
        assert stored(spool)[0].startswith(b"Received: ")
        assert dns.queries == []


async def test_with_all_checks_off_only_forgeries_are_removed(autojump_clock):
    off = MessageAction.OFF
    config, spool = (
        with_policy(spf=SpfConfig(off), dkim=DkimConfig(off), dmarc=DmarcConfig(off), arc=ArcConfig(off)),
        FakeSpool(),
    )
    dns = resolver()
    async with open_bed(config, spool=spool, notary=notary(config, dns)) as bed:
        assert (await send(bed, FORGED + MAIL))[:3] == "250"
        prefix, body = stored(spool)
        assert prefix.startswith(b"Received: ")
        assert body == MAIL
        assert dns.queries == []


async def test_a_check_that_breaks_costs_only_this_message(autojump_clock, monkeypatch):
    config, spool = make_config(), FakeSpool()
    made = notary(config)

    async def broken(*arguments: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(made.checks, "check_message", broken)
    async with open_bed(config, spool=spool, notary=made) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin()
        assert (await client.data())[:3] == "451"
        [crash] = bed.seen(TaskCrashed)
        assert crash.task == "examination"
        assert (await client.say("NOOP"))[:3] == "250"
        assert not spool.stored


async def test_the_deadline_of_the_transaction_bounds_the_checks_too(autojump_clock):
    config, spool, dns = make_config(timeouts={"transaction": 3}), FakeSpool(), resolver()
    dns.delays["else.example"] = 5
    async with open_bed(config, spool=spool, notary=notary(config, dns)) as bed:
        assert (await send(bed))[:3] == "421"
        assert trio.current_time() == pytest.approx(3)
        assert not spool.stored
        assert [draft.state for draft in spool.drafts] == ["discarded"]


# --- Signatures ------------------------------------------------------------------------------------------


async def results_of(message: bytes, dns: FakeResolver | None = None) -> list[str]:
    hasher = MessageHasher(lambda head: dkim_needs(head, DkimConfig()), ThreadPool("test", 1))
    hasher.feed(message)
    hashed = hasher.finish()
    found = await check_dkim(
        hashed.head,
        hashed.hashes,
        DkimConfig(),
        resolver=dns or resolver(),
        now=TrioWallClock().time(),
        pool=ThreadPool("test", 1),
    )
    return [str(each.result) for each in found]


async def test_mail_of_our_networks_is_signed():
    config, spool = make_config(), FakeSpool()
    made = notary(config, None, ENTRY)
    async with open_bed(config, spool=spool, notary=made) as bed:
        assert (await send(bed, OURS, peer=FRIEND))[:3] == "250"
        prefix, body = stored(spool)
        assert prefix.startswith(b"DKIM-Signature: v=1; a=ed25519-sha256;")
        assert await results_of(prefix + body) == ["pass"]
        assert await results_of(prefix + body.replace(b"hello", b"hallo")) == ["fail"]
        [signed] = bed.seen(MessageSigned)
        assert signed.keys == ("mail._domainkey.ours.example",)
        assert made.statistics().signed == 1


async def test_strangers_are_not_signed_for():
    """Whoever could would speak for the domain."""
    config, spool = make_config(), FakeSpool()
    async with open_bed(config, spool=spool, notary=notary(config, None, ENTRY)) as bed:
        assert (await send(bed, OURS, sender="alice@ours.example"))[:3] == "250"
        assert b"DKIM-Signature" not in stored(spool)[0]


async def logged_in(bed: Bed) -> Client:
    client = bed.dial()
    await client.hello()
    assert (await client.say(f"AUTH PLAIN {PLAIN_ALICE}"))[:3] == "235"
    return client


def submission(**listener: Any) -> Config:
    return make_config(role=ListenerRole.SUBMISSION, listener={"auth": ListenerAuth.REQUIRED, **listener})


@pytest.mark.parametrize(
    ("author", "signed"),
    [
        (b"alice@ours.example", True),
        (b"Alice <ALICE@ours.example>", False),  # the fake knows no case
        (b"alice", True),  # completed first (RFC 6409 8)
        (b"alice@foreign.example", True),  # signed as the sender, who she is
        (b"boss@ours.example", False),
        (b"alice@ours.example, boss@ours.example", False),
        (b"boss@ours.example\r\nFrom: alice@ours.example", False),
        (b'"boss@ours.example <alice@ours.example>', False),
    ],
)
async def test_an_account_is_signed_for_where_it_may_use_the_address(author: bytes, signed: bool):
    config, spool = submission(), FakeSpool()
    made = notary(config, None, ENTRY)
    async with open_bed(config, spool=spool, notary=made, authenticator=FakeAuthenticator()) as bed:
        client = await logged_in(bed)
        await client.begin("alice@ours.example")
        message = OURS.replace(b"alice@ours.example", author)
        assert (await client.data(message))[:3] == "250"
        prefix, body = stored(spool)
        assert prefix.startswith(b"DKIM-Signature: ") is signed
        assert await results_of(prefix + body) == (["pass"] if signed else ["none"])
        assert bool(bed.seen(MessageSigned)) is signed


async def test_fields_that_we_add_are_under_the_signature():
    config, spool = submission(), FakeSpool()
    made = notary(config, None, ENTRY)
    async with open_bed(config, spool=spool, notary=made, authenticator=FakeAuthenticator()) as bed:
        client = await logged_in(bed)
        await client.begin("alice@ours.example")
        assert (await client.data(OURS))[:3] == "250"
        prefix, body = stored(spool)
        assert b"\r\nDate: " in prefix
        assert await results_of(prefix + body) == ["pass"]
        assert await results_of(prefix.replace(b"\r\nDate: ", b"\r\nDate: Mon, ") + body) == ["fail"]


async def test_results_that_an_account_writes_in_our_name_are_removed():
    config, spool = submission(), FakeSpool()
    async with open_bed(config, spool=spool, notary=notary(config), authenticator=FakeAuthenticator()) as bed:
        client = await logged_in(bed)
        await client.begin("alice@ours.example")
        assert (await client.data(FORGED + OURS))[:3] == "250"
        assert stored(spool)[1] == OURS


@pytest.mark.parametrize("size", [0, 1, 700_000])
async def test_bodies_of_any_size_are_signed_as_they_come(size: int):
    config, spool = make_config(), FakeSpool()
    message = OURS + (b"x" * 70 + b" \r\n") * (size // 73) + b"\r\n\r\n"
    async with open_bed(config, spool=spool, notary=notary(config, None, ENTRY)) as bed:
        assert (await send(bed, message, peer=FRIEND))[:3] == "250"
        assert await results_of(b"".join(stored(spool))) == ["pass"]


async def test_what_strangers_send_is_sealed_where_there_is_a_key():
    config, spool = make_config(), FakeSpool()
    made = notary(config, None, ENTRY, sealing=SEALING)
    async with open_bed(config, spool=spool, notary=made) as bed:
        assert (await send(bed))[:3] == "250"
        prefix, body = stored(spool)
        assert prefix.startswith(b"ARC-Seal: a=ed25519-sha256;")
        assert b"cv=none" in prefix
        assert b"ARC-Authentication-Results: i=1; mx.ours.example;\r\n\tspf=pass" in prefix
        [sealed] = bed.seen(MessageSealed)
        assert (sealed.domain, sealed.instance, sealed.chain) == ("ours.example", 1, "none")
        first = prefix + body
    spool = FakeSpool()
    made = notary(config, None, sealing=SEALING)
    async with open_bed(config, spool=spool, notary=made) as bed:
        assert (await send(bed, first))[:3] == "250"
        prefix, body = stored(spool)
        assert b"arc=pass" in prefix
        [sealed] = bed.seen(MessageSealed)
        assert (sealed.instance, sealed.chain) == (2, "pass")


async def test_a_message_without_a_header_is_not_signed():
    config, spool = make_config(), FakeSpool()
    async with open_bed(config, spool=spool, notary=notary(config, None, ENTRY)) as bed:
        assert (await send(bed, b"just text\r\n", peer=FRIEND))[:3] == "250"
        assert b"DKIM-Signature" not in stored(spool)[0]
