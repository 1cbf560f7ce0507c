"""Replies that are about us: which they are, and how a destination is left alone for them."""

from __future__ import annotations

import pytest
import trio
from queue_bed import OK, ScriptedTransport, answers, open_bed

from elemta.delivery import Parcel
from elemta.events import SiteResumed, SiteSuspended
from elemta.mail import Cause, Deferred, Failed, Outcome, Reply
from elemta.queue.reputation import complaint


def said(code: int, enhanced: str | None, text: str, *, from_remote: bool = True) -> Outcome:
    kind = Deferred if code < 500 else Failed
    return kind(Cause.REMOTE_REPLY, Reply.of(code, enhanced, text), "mx[192.0.2.7]:25", from_remote)


LIMITED = said(451, "4.7.28", "Our system has detected an unusual rate of mail; rate limited")


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (LIMITED, "rate limited"),
        (said(421, None, "Too many connections from 192.0.2.1"), "rate limited"),
        (said(550, "5.7.1", "Service unavailable, client host [192.0.2.1] blocked"), "blocked"),
        (said(554, "5.7.1", "listed in our blacklist"), "on a block list"),
        (said(550, "5.7.1", "very low sender reputation"), "bad reputation"),
        (said(550, "5.7.1", "the message has a reputation"), ""),
        (said(450, "4.2.1", "the user gets mail at a rate limit"), ""),
        (said(450, "4.7.1", "Greylisted, try again in 300 seconds"), ""),
        (said(550, "5.7.1", "message looks like spam"), ""),
        (said(550, "5.1.1", "no such user: blacklist@example.org"), ""),
        (said(451, "4.7.1", "rate limited", from_remote=False), ""),
        (OK, ""),
    ],
)
def test_reply_is_about_us_or_it_is_not(outcome: Outcome, expected: str) -> None:
    assert complaint(outcome) == expected


async def test_destination_that_is_tired_of_us_is_left_alone(
    autojump_clock: trio.testing.MockClock,
) -> None:
    tired = True

    async def answer(parcel: Parcel) -> list[Outcome]:
        return [LIMITED if tired else OK]

    async with open_bed() as bed:
        transport = bed.transports["smtp:a.example"] = ScriptedTransport(answer)
        for _ in range(3):
            await bed.accept("r@a.example")
            await trio.sleep(1)
        (suspended,) = [event for event in bed.events if isinstance(event, SiteSuspended)]
        assert (suspended.route, suspended.reason) == ("smtp:a.example", "rate limited")
        assert suspended.until - suspended.time == 600
        assert suspended.reply == str(LIMITED.reply)
        (site,) = bed.queue.statistics().sites
        assert site.suspended_because == "rate limited"
        tried = len(transport.parcels)
        await bed.accept("r@a.example")
        await trio.sleep(500)
        assert len(transport.parcels) == tried, "nothing is tried meanwhile"
        tired = False
        await trio.sleep(1000)
        assert [event.route for event in bed.events if isinstance(event, SiteResumed)] == ["smtp:a.example"]
        assert bed.queue.statistics().active_messages == 0
        assert len(transport.parcels) == tried + 4


async def test_delivery_between_two_complaints_takes_the_first_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed() as bed:
        bed.transports["smtp:a.example"] = ScriptedTransport(answers(LIMITED, LIMITED, OK, LIMITED, LIMITED))
        await bed.accept(*(f"{name}@a.example" for name in "abcde"))
        await trio.sleep(2)
        assert not [event for event in bed.events if isinstance(event, SiteSuspended)]
