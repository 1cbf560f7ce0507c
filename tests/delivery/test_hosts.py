"""What is remembered of a host: it saves waiting, and recipients that would be refused."""

from __future__ import annotations

import trio
from hop_bed import FIRST, SECOND, open_hop_bed

from elemta.delivery.hosts import FEW_SECONDS, MOST_HOSTS, TIRED_SECONDS, HostMemory
from elemta.testing.peers import (
    BODY_OK,
    DATA_OK,
    GREETING,
    LOCKSTEP_HELLO,
    MAIL_OK,
    RCPT_OK,
    Expect,
    ScriptedPeer,
    SinkPeer,
)


async def test_a_host_that_was_not_to_be_had_comes_last_for_a_while(
    autojump_clock: trio.testing.MockClock,
) -> None:
    sink = SinkPeer()
    async with open_hop_bed() as bed:
        bed.listen(FIRST, ScriptedPeer((Expect.NOTHING, b"421 4.3.2 going down\r\n")))
        bed.listen(SECOND, sink)
        await bed.accept("bob@example.org")
        await bed.wait_for("recipient.delivered")
        await trio.sleep(60)  # the connection is closed by now
        await bed.accept("bob@example.org")
        await bed.wait_for("recipient.delivered", 2)
        assert [attempt.host for attempt in bed.network.attempts] == [FIRST, SECOND, SECOND]
        bed.listen(FIRST, sink)
        await trio.sleep(TIRED_SECONDS)
        await bed.accept("bob@example.org")
        await bed.wait_for("recipient.delivered", 3)
        assert [attempt.host for attempt in bed.network.attempts][3:] == [FIRST]


async def test_a_421_in_the_session_counts_as_well(autojump_clock: trio.testing.MockClock) -> None:
    sink = SinkPeer()
    async with open_hop_bed() as bed:
        bed.listen(FIRST, ScriptedPeer(GREETING, LOCKSTEP_HELLO, (b"MAIL", b"421 4.3.2 going down\r\n")))
        bed.listen(SECOND, sink)
        await bed.accept("bob@example.org")
        await bed.wait_for("recipient.delivered")
        await trio.sleep(60)
        await bed.accept("bob@example.org")
        await bed.wait_for("recipient.delivered", 2)
        assert [attempt.host for attempt in bed.network.attempts] == [FIRST, SECOND, SECOND]


async def test_a_host_that_takes_two_recipients_is_given_two(autojump_clock: trio.testing.MockClock) -> None:
    many = b"452 4.5.3 too many\r\n"
    two = ((b"MAIL", MAIL_OK[1]), RCPT_OK, RCPT_OK, DATA_OK, BODY_OK)
    people = [f"r{number}@example.org" for number in range(4)]
    async with open_hop_bed() as bed:
        first = ScriptedPeer(
            GREETING, LOCKSTEP_HELLO, MAIL_OK, RCPT_OK, RCPT_OK, (b"RCPT", many), DATA_OK, BODY_OK,
            MAIL_OK, RCPT_OK, RCPT_OK, DATA_OK, BODY_OK,
            *two, *two,
        )  # fmt: skip
        bed.listen(FIRST, first)
        await bed.accept(*people)
        await bed.wait_for("recipient.delivered", 4)
        await bed.accept(*people)
        await bed.wait_for("recipient.delivered", 8)
        assert bed.of("recipient.deferred") == []


async def test_the_memory_is_bounded_and_forgets(autojump_clock: trio.testing.MockClock) -> None:
    memory = HostMemory()
    for number in range(MOST_HOSTS + 5):
        memory.tire(f"h{number}")
        memory.took_few(f"h{number}", 3)
    assert list(memory.order(["h0", "h9", "x"])) == ["h0", "x", "h9"]  # h0 was dropped
    assert memory.most_recipients("h9") == 3
    memory.welcomed("h9")
    assert list(memory.order(["h9", "h10", "x"])) == ["h9", "x", "h10"]
    await trio.sleep(TIRED_SECONDS)
    assert list(memory.order(["h10", "x"])) == ["h10", "x"]
    await trio.sleep(FEW_SECONDS)
    assert memory.most_recipients("h9") == float("inf")
