"""What MAIL and RCPT ask for stands in the envelope that is stored."""

import pytest
from inbound_bed import FRIEND, STRANGER, FakeSpool, make_config, open_bed
from test_session_tls import starttls

from elemta.config import ListenerTls
from elemta.mail import DeliverByMode, Envelope, Notify, Ret

FOR_OUR_USERS = make_config(listener={"future_release": 30 * 86400.0})


async def envelope_of(mail: str, rcpt: str = "", peer: str = FRIEND) -> tuple[Envelope, float]:
    async with open_bed(FOR_OUR_USERS, spool=FakeSpool()) as bed:
        client = bed.dial(peer)
        await client.hello()
        assert (await client.say(f"MAIL FROM:<a@else.example> {mail}"))[:3] == "250"
        now = bed.clock.time()
        assert (await client.say(f"RCPT TO:<b@ours.example> {rcpt}"))[:3] == "250"
        assert (await client.data())[:3] == "250"
        [(envelope, *_)] = bed.spool.stored.values()
        return envelope, now


async def test_notices(autojump_clock):
    # RFC 3461 §4
    envelope, _ = await envelope_of(
        "RET=HDRS ENVID=QQ+2B314", "NOTIFY=SUCCESS,DELAY ORCPT=rfc822;bob+2Bx@else.example"
    )
    assert (envelope.ret, envelope.envelope_id) == (Ret.HEADERS, "QQ+314")
    [recipient] = envelope.recipients
    assert recipient.dsn.notify == Notify.SUCCESS | Notify.DELAY
    assert recipient.dsn.original_recipient == "rfc822;bob+x@else.example"
    envelope, _ = await envelope_of("", "NOTIFY=NEVER")
    assert envelope.recipients[0].notify == Notify.NEVER


async def test_deliver_by(autojump_clock):
    envelope, now = await envelope_of("BY=120;RT", peer=STRANGER)
    assert envelope.deliver_by is not None
    assert envelope.deliver_by.deadline == pytest.approx(now + 120)
    assert envelope.deliver_by.mode is DeliverByMode.RETURN
    assert envelope.deliver_by.trace


async def test_future_release(autojump_clock):
    envelope, now = await envelope_of("HOLDFOR=86400")
    assert envelope.release_at == pytest.approx(now + 86400)


@pytest.mark.parametrize(
    "parameters", ["BY=0;R", "HOLDFOR=9999999", "HOLDUNTIL=2999-01-01T00:00:00Z", "BY=5;R HOLDFOR=10"]
)
async def test_promises_that_cannot_be_kept_are_not_made(autojump_clock, parameters: str):
    async with open_bed(FOR_OUR_USERS, spool=FakeSpool()) as bed:
        client = bed.dial(FRIEND)
        await client.hello()
        assert (await client.say(f"MAIL FROM:<a@else.example> {parameters}"))[:9] == "501 5.5.4"
        await client.begin()


async def test_priority_of_our_users_and_of_strangers(autojump_clock):
    # RFC 6710
    assert (await envelope_of("MT-PRIORITY=4"))[0].priority == 4
    assert (await envelope_of("MT-PRIORITY=-3", peer=STRANGER))[0].priority == -3
    assert (await envelope_of("MT-PRIORITY=4", peer=STRANGER))[0].priority == 0
    async with open_bed(spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        assert await client.say("MAIL FROM:<a@else.example> MT-PRIORITY=4") == (
            "250 2.3.6 0 is the new priority of the message"
        )


async def test_requiretls_is_for_sessions_with_tls(server_tls, client_tls):
    # RFC 8689 §2
    config = make_config(tls=ListenerTls.STARTTLS)
    async with open_bed(config, spool=FakeSpool(), tls=server_tls) as bed:
        client = bed.dial()
        assert "REQUIRETLS" not in await client.hello()
        client = await starttls(bed, client_tls)
        assert "REQUIRETLS" in await client.say("EHLO client.example")
        assert (await client.say("MAIL FROM:<a@else.example> REQUIRETLS"))[:3] == "250"
        await client.say("RCPT TO:<b@ours.example>")
        await client.data()
        [(envelope, *_)] = bed.spool.stored.values()
        assert envelope.require_tls
