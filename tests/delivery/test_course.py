"""Where the time of an attempt goes: each phase by itself, and all the way to the watchers and the history."""

from __future__ import annotations

import attrs
import pytest
import trio
from hop_bed import FIRST, open_hop_bed

from elemta.delivery import Course
from elemta.mail import NO_PHASES, PHASES, Phases

HELLO = b"250-a.example.org\r\n250 PIPELINING\r\n"


@attrs.define(eq=False)
class SlowPeer:
    """Takes its time before each answer: so many seconds for the greeting, and for what answers a verb."""

    seconds: dict[str, float]
    final: bytes = b"250 2.0.0 ok\r\n"

    async def serve(self, stream: trio.abc.Stream) -> None:
        await self._say(stream, "greeting", b"220 a.example.org\r\n")
        answers = {"EHLO": HELLO, "MAIL": b"250 ok\r\n", "RCPT": b"250 ok\r\n", "DATA": b"354 go on\r\n"}
        buffer, body = b"", False
        while data := await stream.receive_some():
            buffer += data
            while b"\r\n" in buffer:
                line, _, buffer = buffer.partition(b"\r\n")
                verb = line[:4].decode().upper()
                if body:
                    if line == b".":
                        body = False
                        await self._say(stream, "dot", self.final)
                elif verb in answers:
                    body = verb == "DATA"
                    await self._say(stream, verb, answers[verb])
                elif verb == "QUIT":
                    await stream.aclose()
                    return

    async def _say(self, stream: trio.abc.Stream, step: str, answer: bytes) -> None:
        await trio.sleep(self.seconds.get(step, 0.0))
        await stream.send_all(answer)


SLOW = {"greeting": 3.0, "EHLO": 1.0, "MAIL": 0.5, "RCPT": 0.5, "DATA": 1.0, "dot": 4.0}


async def test_each_phase_is_told_and_kept_with_the_attempt(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_hop_bed(delays={"one.example": 2.0}) as bed:
        bed.listen(FIRST, SlowPeer(SLOW))
        message = await bed.accept("bob@one.example")
        (event,) = await bed.wait_for("recipient.delivered")
        await bed.spool.wait_recorded()
        history = await bed.spool.history(message)
    assert event.phases == Phases(dns=2.0, greeting=4.0, envelope=2.0, reply=4.0)
    assert history is not None
    (attempt,) = history.attempts
    assert attempt.phases == event.phases
    assert sum(event.phases.named().values()) == pytest.approx(attempt.seconds)


async def test_an_attempt_without_a_connection_tells_what_it_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_hop_bed() as bed:
        bed.network.hang(FIRST, 25)
        message = await bed.accept("bob@one.example")
        (event,) = await bed.wait_for("recipient.deferred")
        await bed.spool.wait_recorded()
        history = await bed.spool.history(message)
    assert event.phases.connect == event.delays[2] > 1
    assert event.phases == Phases(connect=event.phases.connect)
    assert history is not None
    assert history.attempts[0].phases == event.phases


async def test_what_went_wrong_half_way_tells_how_long_it_was_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_hop_bed() as bed:
        bed.listen(FIRST, SlowPeer({"MAIL": 1.0, "dot": 10_000.0}))
        await bed.accept("bob@one.example")
        (event,) = await bed.wait_for("recipient.deferred")
    assert event.cause == "unknown-after-dot"
    assert event.phases.envelope == 1.0
    assert event.phases.reply == 600.0  # timeouts.final_dot


def test_phases_are_named_in_order_and_only_those_that_took_time() -> None:
    assert [field.name for field in attrs.fields(Phases)] == list(PHASES)
    assert Phases(reply=2.0, dns=1.0).named() == {"dns": 1.0, "reply": 2.0}
    assert NO_PHASES.named() == {}


async def test_a_phase_that_comes_again_goes_on(autojump_clock: trio.testing.MockClock) -> None:
    course = Course()
    for phase, seconds in (("dns", 1.0), ("connect", 2.0), ("dns", 3.0), ("", 5.0), ("reply", 1.0)):
        course.enter(phase)
        await trio.sleep(seconds)
    assert course.phases() == Phases(dns=4.0, connect=2.0, reply=1.0)
    await trio.sleep(1.0)
    course.leave()
    await trio.sleep(1.0)
    assert course.phases() == Phases(dns=4.0, connect=2.0, reply=2.0)
