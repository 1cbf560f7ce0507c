"""Where one host of a domain takes a message no further, the next is asked within the same attempt."""

import pytest
import trio
from hop_bed import FIRST, SECOND, THIRD, open_hop_bed

from elemta.config import Config, DeliveryConfig, QueueConfig
from elemta.mail import Reply
from elemta.testing.peers import (
    BODY_OK,
    DATA_OK,
    GREETING,
    LOCKSTEP_HELLO,
    MAIL_OK,
    PIPELINING_HELLO,
    RCPT_OK,
    Fault,
    ScriptedPeer,
    SinkPeer,
)

STAGES = {"MAIL": MAIL_OK, "RCPT": RCPT_OK, "DATA": DATA_OK, "BODY": BODY_OK}
ANSWERS = {
    "4yz": b"451 4.3.0 later\r\n",
    "421": b"421 4.3.2 going down\r\n",
    "drop": Fault.DROP,
    "stall": Fault.STALL,
    "garbage": Fault.GARBAGE,
}
LOST = {"drop", "stall", "garbage"}


def peer_that_fails_at(stage, answer, hello=LOCKSTEP_HELLO):
    steps = [GREETING, hello]
    for name, (expected, usual) in STAGES.items():
        if name == stage:
            return ScriptedPeer(*steps, (expected, answer))
        steps.append((expected, usual))
    raise AssertionError(stage)


def hosts(bed):
    return [attempt.host for attempt in bed.network.attempts]


@pytest.mark.parametrize("kind", ANSWERS)
@pytest.mark.parametrize("stage", STAGES)
async def test_next_host_takes_what_the_first_did_not(stage, kind, autojump_clock):
    sink = SinkPeer()
    async with open_hop_bed() as bed:
        bed.listen(FIRST, peer_that_fails_at(stage, ANSWERS[kind]))
        bed.listen(SECOND, sink)
        message = await bed.accept("bob@example.org")
        if stage == "BODY" and kind in LOST:
            # Nobody knows whether it was taken: another host might take it once more.
            [deferred] = await bed.wait_for("recipient.deferred")
            assert deferred.cause == "unknown-after-dot"
            assert hosts(bed) == [FIRST]
            return
        [delivered] = await bed.wait_for("recipient.delivered")
        assert (delivered.message, delivered.attempts) == (message, 1)
        assert hosts(bed) == [FIRST, SECOND]
        assert bed.of("recipient.deferred") == []
    assert len(sink.messages) == 1


@pytest.mark.parametrize("stage", STAGES)
async def test_what_is_refused_for_good_is_not_asked_elsewhere(stage, autojump_clock):
    async with open_hop_bed() as bed:
        bed.listen(FIRST, peer_that_fails_at(stage, b"550 5.7.1 no\r\n"))
        bed.listen(SECOND, SinkPeer())
        await bed.accept("bob@example.org")
        [failed] = await bed.wait_for("recipient.failed")
        assert failed.reply == "550 5.7.1 no"
        await bed.notice()
        assert hosts(bed)[0] == FIRST
        assert SECOND not in hosts(bed)


async def test_each_recipient_goes_as_far_as_it_has_to(autojump_clock):
    def first(command):
        local = command.path.mailbox.local_part
        if local == "late":
            return Reply.of(450, "4.2.0", "grey")
        return Reply.of(550, "5.1.1", "nobody") if local == "gone" else Reply.of(250, "2.1.5", "ok")

    there, elsewhere = SinkPeer(answers={"RCPT": first}), SinkPeer()
    async with open_hop_bed() as bed:
        bed.listen(FIRST, there)
        bed.listen(SECOND, elsewhere)
        await bed.accept("good@example.org", "late@example.org", "gone@example.org")
        await bed.wait_for("recipient.delivered", 2)
        await bed.wait_for("recipient.failed")
        await bed.notice()
        assert len(bed.of("notice.queued")) == 1
    [message] = there.messages
    assert [str(each.path.mailbox) for each in message.recipients] == ["good@example.org"]
    [message] = elsewhere.messages
    assert [str(each.path.mailbox) for each in message.recipients] == ["late@example.org"]


async def test_failures_of_both_hosts_are_told_in_one_notice(autojump_clock):
    def first(command):
        if command.path.mailbox.local_part == "late":
            return Reply.of(450, "4.2.0", "grey")
        return Reply.of(550, "5.1.1", "nobody here")

    async with open_hop_bed() as bed:
        bed.listen(FIRST, SinkPeer(answers={"RCPT": first}))
        bed.listen(SECOND, SinkPeer(answers={"RCPT": Reply.of(550, "5.1.1", "nor here")}))
        await bed.accept("late@example.org", "gone@example.org")
        await bed.wait_for("recipient.failed", 2)
        text = (await bed.notice()).as_string()
        assert len(bed.of("notice.queued")) == 1
    assert "nobody here" in text
    assert "nor here" in text


@pytest.mark.parametrize(("sessions", "expected"), [(1, [FIRST]), (2, [FIRST, SECOND]), (9, None)])
async def test_sessions_of_an_attempt_are_bounded(sessions, expected, autojump_clock):
    config = Config(
        hostname="mx.example",
        queue=QueueConfig(retry_jitter=0.0),
        delivery=DeliveryConfig(mx_sessions=sessions),
    )
    async with open_hop_bed(config=config) as bed:
        for host in (FIRST, SECOND, THIRD):
            bed.listen(host, peer_that_fails_at("MAIL", b"451 4.3.0 not here\r\n"))
        await bed.accept("bob@example.org")
        [deferred] = await bed.wait_for("recipient.deferred")
        assert hosts(bed) == (expected or [FIRST, SECOND, THIRD])
        assert deferred.attempts == 1
        assert deferred.reply == "451 4.3.0 not here"


async def test_others_out_of_reach_leave_the_word_of_the_first(autojump_clock):
    async with open_hop_bed() as bed:
        bed.listen(FIRST, peer_that_fails_at("RCPT", b"450 4.2.0 grey\r\n"))
        bed.network.refuse(SECOND)
        bed.network.refuse(THIRD)
        await bed.accept("bob@example.org")
        [deferred] = await bed.wait_for("recipient.deferred")
        assert hosts(bed) == [FIRST, SECOND, THIRD]
        assert deferred.reply == "450 4.2.0 grey"
        assert "elsewhere: " in deferred.detail


async def test_first_host_is_asked_first_again_and_its_session_was_kept(autojump_clock):
    greylisting = [Reply.of(450, "4.2.0", "grey"), Reply.of(250, "2.1.5", "ok")]
    there, elsewhere = SinkPeer(answers={"RCPT": lambda _: greylisting.pop(0)}), SinkPeer()
    async with open_hop_bed() as bed:
        bed.listen(FIRST, there)
        bed.listen(SECOND, elsewhere)
        await bed.accept("bob@example.org")
        await bed.wait_for("recipient.delivered")
        await trio.sleep(1.0)  # the session with the other host is ended
        await bed.accept("bob@example.org")
        await bed.wait_for("recipient.delivered", 2)
        assert hosts(bed) == [FIRST, SECOND]
    assert len(there.messages) == len(elsewhere.messages) == 1


@pytest.mark.parametrize("hello", [LOCKSTEP_HELLO, PIPELINING_HELLO], ids=["lockstep", "pipelining"])
async def test_recipients_beyond_its_limit_follow_in_the_next_transaction(hello, autojump_clock):
    full = b"452 4.5.3 too many\r\n"
    steps = [GREETING, hello, MAIL_OK, RCPT_OK, (b"RCPT", full)]
    steps += [DATA_OK, BODY_OK, MAIL_OK, RCPT_OK, DATA_OK, BODY_OK]
    peer = ScriptedPeer(*steps)
    async with open_hop_bed() as bed:
        bed.listen(FIRST, peer)
        await bed.accept("bob@one.example", "eve@one.example")
        await bed.wait_for("recipient.delivered", 2)
        assert hosts(bed) == [FIRST]
        assert bed.of("recipient.deferred") == []
    assert len(peer.bodies) == 2


async def test_server_stops_while_another_host_is_dialled(autojump_clock):
    async with open_hop_bed() as bed:
        bed.listen(FIRST, peer_that_fails_at("MAIL", b"451 4.3.0 not here\r\n"))
        bed.network.hang(SECOND)
        message = await bed.accept("bob@example.org")
        while len(hosts(bed)) < 2:
            await trio.sleep(0.1)
        bed.queue.drain.begin("stop", 10.0, 1.0)
        await trio.sleep(1.0)
        entry = await bed.entry(message)
        assert entry.reason == "shutdown"


# --- Last words ----------------------------------------------------------------------------------------


class Impatient:
    """Says its word in the middle of a message, and then goes, or reads no more."""

    def __init__(self, word, *, stays=False):
        self.word, self.stays = word, stays

    async def serve(self, stream):
        replies = (GREETING[1], PIPELINING_HELLO[1], MAIL_OK[1] + RCPT_OK[1] + DATA_OK[1])
        for reply in replies:
            await stream.send_all(reply)
            await stream.receive_some(1000)
        await stream.send_all(self.word)
        if self.stays:
            await trio.sleep_forever()
        await stream.aclose()


@pytest.mark.parametrize("stays", [False, True], ids=["goes", "stays"])
@pytest.mark.parametrize(
    ("word", "kind"),
    [
        (b"552 5.3.4 too big\r\n", "recipient.failed"),
        (b"421 4.3.2 going down\r\n", "recipient.deferred"),
        (b"451 4.3.0 disk\r\n", "recipient.deferred"),
    ],
)
async def test_word_within_a_message_is_heard_at_once(word, kind, stays, autojump_clock):
    body = b"Subject: x\r\n\r\n" + (b"x" * 70 + b"\r\n") * 20_000
    async with open_hop_bed() as bed:
        bed.listen(FIRST, Impatient(word, stays=stays), capacity=10_000)
        start = trio.current_time()
        await bed.accept("bob@one.example", body=body)
        [event] = await bed.wait_for(kind)
        assert trio.current_time() - start < 3
        assert event.reply == word.decode().rstrip()


async def test_consent_within_a_message_is_none(autojump_clock):
    body = b"Subject: x\r\n\r\n" + (b"x" * 70 + b"\r\n") * 20_000
    async with open_hop_bed() as bed:
        bed.listen(FIRST, Impatient(b"250 2.0.0 taken\r\n"), capacity=10_000)
        await bed.accept("bob@one.example", body=body)
        [event] = await bed.wait_for("recipient.deferred")
        assert event.cause == "connection-lost"


async def test_word_without_an_end_is_not_waited_for(autojump_clock):
    body = b"Subject: x\r\n\r\n" + (b"x" * 70 + b"\r\n") * 20_000
    async with open_hop_bed() as bed:
        bed.listen(FIRST, Impatient(b"552 5.3", stays=True), capacity=10_000)
        start = trio.current_time()
        await bed.accept("bob@one.example", body=body)
        [event] = await bed.wait_for("recipient.deferred")
        assert trio.current_time() - start < 5
        assert event.cause == "connection-lost"
