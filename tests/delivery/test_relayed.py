"""What a next hop is told of the sender's wishes, so that the queue knows which notices are still its own."""

import pytest
from delivery_helpers import connected, deliver_one, make_parcel

from elemta.mail import (
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
    parse_mailbox,
)
from elemta.runtime import TrioWallClock
from elemta.smtp import ByTime, Capabilities
from elemta.testing.peers import Received, SinkPeer


@pytest.mark.parametrize(
    ("lmtp", "dsn", "relay"),
    [
        (False, False, Relay()),
        (False, True, Relay(dsn=True)),
        (True, False, None),
        (True, True, Relay(dsn=True)),
    ],
)
async def test_delivery_says_who_took_it_and_who_sends_notices_now(lmtp, dsn, relay, autojump_clock):
    sink = SinkPeer(lmtp=lmtp, capabilities=Capabilities(pipelining=True, dsn=dsn))
    async with connected(sink, lmtp=lmtp) as connection:
        outcomes = await deliver_one(connection)
    outcome = outcomes[0] if isinstance(outcomes, list) else outcomes
    assert outcome.from_remote
    assert outcome.relay == relay


def deadline(seconds: float, mode: DeliverByMode, *, trace: bool = False) -> DeliverBy:
    """By the wall clock of the tests, which is at its epoch."""
    return DeliverBy(TrioWallClock().time() + seconds, mode, trace)


async def offered(by: DeliverBy, least: int | None, *, lmtp: bool = False) -> tuple[Outcome, list[Received]]:
    sink = SinkPeer(lmtp=lmtp, capabilities=Capabilities(pipelining=True, deliver_by=least))
    async with connected(sink, lmtp=lmtp) as connection:
        outcome = await deliver_one(connection, deliver_by=by)
    return outcome, sink.messages


async def test_deadline_is_passed_on_as_the_time_that_is_left(autojump_clock):
    """RFC 2852 §4"""
    by = deadline(600.9, DeliverByMode.RETURN, trace=True)
    outcome, [message] = await offered(by, 0)
    assert message.mail.params.deliver_by == ByTime(600, DeliverByMode.RETURN, True)
    assert outcome.relay == Relay(deliver_by=True)


async def test_deadline_that_is_over_is_passed_on_where_it_only_means_a_notice(autojump_clock):
    outcome, [message] = await offered(deadline(-30, DeliverByMode.NOTIFY), 60)
    assert message.mail.params.deliver_by == ByTime(-30, DeliverByMode.NOTIFY)
    assert outcome.relay == Relay(deliver_by=True)


@pytest.mark.parametrize(("seconds", "least"), [(600, None), (59, 60), (0.5, 0)])
async def test_message_to_be_returned_goes_to_no_server_that_does_not_keep_the_deadline(
    seconds, least, autojump_clock
):
    outcome, messages = await offered(deadline(seconds, DeliverByMode.RETURN), least)
    assert isinstance(outcome, Failed)
    assert (outcome.cause, outcome.reply.enhanced_text) == (Cause.EXPIRED, "5.4.7")
    assert messages == []


async def test_message_that_ends_there_needs_no_promise(autojump_clock):
    outcome, messages = await offered(deadline(600, DeliverByMode.RETURN), None, lmtp=True)
    assert isinstance(outcome, Delivered)
    assert len(messages) == 1


async def test_server_without_deadlines_gets_the_message_without_one(autojump_clock):
    outcome, [message] = await offered(deadline(600, DeliverByMode.NOTIFY), None)
    assert message.mail.params.deliver_by is None
    assert outcome.relay == Relay()


@pytest.mark.parametrize(
    ("mode", "knows_deadlines", "asked", "passed_on"),
    [
        (DeliverByMode.NOTIFY, False, None, Notify.FAILURE | Notify.DELAY),
        (DeliverByMode.NOTIFY, False, Notify.SUCCESS, Notify.SUCCESS | Notify.DELAY),
        (DeliverByMode.NOTIFY, False, Notify.NEVER, Notify.NEVER),
        (DeliverByMode.NOTIFY, True, None, None),
        (DeliverByMode.NOTIFY, True, Notify.SUCCESS, Notify.SUCCESS),
        (DeliverByMode.RETURN, True, Notify.FAILURE, Notify.FAILURE),
    ],
)
async def test_server_that_knows_no_deadline_is_asked_to_tell_of_delays(
    mode, knows_deadlines, asked, passed_on, autojump_clock
):
    """RFC 2852 §4.1.4.2"""
    offers = Capabilities(pipelining=True, dsn=True, deliver_by=0 if knows_deadlines else None)
    sink = SinkPeer(capabilities=offers)
    to = Recipient(parse_mailbox("ann@example.org"), DsnOptions(notify=asked))
    async with connected(sink) as connection:
        await connection.deliver(make_parcel(to, deliver_by=deadline(600, mode)))
    [rcpt] = sink.messages[0].recipients
    assert rcpt.params.notify == passed_on
