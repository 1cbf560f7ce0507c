"""What is told of certificates while the server runs."""

import pytest
import trio
from tls_files import DAY, NOW, make_pair, write_pair

from elemta.app.certificates import watch_dates, watch_files
from elemta.config import TlsConfig
from elemta.events import Event, EventBus, TlsExpiring, TlsReloaded, TlsTrouble
from elemta.runtime import TrioWallClock
from elemta.tls import TlsContexts

DAYS = 20


@pytest.fixture
def bus() -> EventBus:
    return EventBus()


@pytest.fixture
def events(bus: EventBus) -> list[Event]:
    events: list[Event] = []
    bus.observe("test", events.append)
    return events


async def test_the_end_of_a_certificate_is_told_in_steps(tmp_path, bus, events, autojump_clock):
    pair = write_pair(tmp_path, "mx", "mx.test", days=DAYS)
    tls = TlsContexts(TlsConfig(pair.certificate, pair.key))
    clock = TrioWallClock(NOW)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_dates, tls, bus, clock)
        await trio.sleep((DAYS + 3) * DAY)
        nursery.cancel_scope.cancel()
    told = [event for event in events if isinstance(event, TlsExpiring)]
    assert [event.days for event in told] == [14, 7, 3, 1, 0]
    assert [round((event.time - NOW) / DAY, 1) for event in told] == [6, 13, 17, 19, 20]
    assert {event.certificate for event in told} == {str(pair.certificate)}
    assert told[0].names == ("mx.test",)
    assert told[0].until == "2030-04-06T17:46:40.000Z"
    assert told[0].level == "warning"


async def test_new_files_and_files_that_cannot_be_used_are_told(
    tmp_path, bus, events, autojump_clock, monkeypatch
):
    async def call(pool: object, function, *arguments):  # a mock clock jumps while a thread runs
        await trio.lowlevel.checkpoint()
        return function(*arguments)

    monkeypatch.setattr("elemta.tls.watch.run_in_thread", call)
    pair = write_pair(tmp_path, "mx", "old.test")
    tls = TlsContexts(TlsConfig(pair.certificate, pair.key, check_interval=10.0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_files, tls, bus, TrioWallClock(NOW))
        await trio.sleep(1)
        pair.key.write_bytes(make_pair("new.test")[1])
        await trio.sleep(60)
        [trouble] = events
        assert isinstance(trouble, TlsTrouble)
        assert "not the private key" in trouble.reason
        write_pair(tmp_path, "mx", "new.test")
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    assert isinstance(events[1], TlsReloaded)
    assert events[1].certificates == ("new.test until 2030-06-15T17:46:40.000Z",)
    assert len(events) == 2
