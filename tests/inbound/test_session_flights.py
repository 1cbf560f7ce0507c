"""Sessions in which something went wrong leave behind what was said."""

import pytest
from inbound_bed import STRANGER, FakeSpool, open_bed

from elemta.events import Flight, FlightRecorder
from elemta.smtp import show_said


def said(flight: Flight) -> list[str]:
    return [f"{side} {line}" for _, side, what in flight.entries for line in show_said(what)]


async def test_a_session_in_which_all_went_well_leaves_nothing(autojump_clock):
    flights = FlightRecorder(10**6)
    async with open_bed(spool=FakeSpool(), flights=flights) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin(recipients=["b@ours.example"])
        await client.data()
        await client.quit()
        await client.rest()
    assert list(flights) == []


async def test_a_refusal_is_kept_with_all_around_it(autojump_clock):
    flights = FlightRecorder(10**6)
    async with open_bed(spool=FakeSpool(), flights=flights) as bed:
        client = bed.dial()
        await client.hello()
        await client.say("MAIL FROM:<a@b.example>")
        await client.say("RCPT TO:<c@foreign.example>")
        await client.quit()
        await client.rest()
    [flight] = flights
    assert (flight.kind, flight.peer, flight.cause) == ("session", STRANGER, "quit")
    lines = said(flight)
    assert lines[0].startswith("S 220 ")
    assert "C RCPT TO:<c@foreign.example>" in lines
    assert any(line.startswith("S 550 5.7.1") for line in lines)
    assert lines[-1].startswith("S 221")


async def test_a_session_that_timed_out_is_kept_with_the_message_that_came_before(autojump_clock):
    flights = FlightRecorder(10**6)
    async with open_bed(spool=FakeSpool(), flights=flights) as bed:
        client = bed.dial()
        await client.hello()
        await client.begin(recipients=["b@ours.example"])
        await client.data()
        assert (await client.rest())[-1].startswith("421")
    [flight] = flights
    assert flight.cause == "timeout"
    assert flight.message
    assert said(flight)[-1].startswith("S 421")
    assert any(line.startswith("C (a message of ") for line in said(flight))


@pytest.mark.parametrize("flights", [None, FlightRecorder(0)])
async def test_it_can_be_switched_off(autojump_clock, flights):
    async with open_bed(spool=FakeSpool(), flights=flights) as bed:
        client = bed.dial()
        await client.hello()
        await client.say("RCPT TO:<c@foreign.example>")
        await client.quit()
        await client.rest()
    assert list(flights or ()) == []
