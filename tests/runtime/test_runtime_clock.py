"""Wall clocks and the text form of their times."""

import datetime
import time

import pytest
import trio

from elemta.runtime import SystemClock, TrioWallClock, rfc3339


def test_the_system_clock_is_the_time_of_day():
    before = time.time()
    assert before <= SystemClock().time() <= time.time()


async def test_the_test_clock_moves_with_trio(autojump_clock):
    clock = TrioWallClock(epoch=1000.0)
    start = clock.time()
    await trio.sleep(86400)
    assert clock.time() == start + 86400
    assert start == 1000.0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_750_000_000.125, "2025-06-15T15:06:40.125Z"),
        (1_750_000_000.9999, "2025-06-15T15:06:40.999Z"),
        (1_750_000_000.3, "2025-06-15T15:06:40.300Z"),
        (1_750_000_000.9999998, "2025-06-15T15:06:40.999Z"),
        (951_782_400.0, "2000-02-29T00:00:00.000Z"),
        (-5.0, "1970-01-01T00:00:00.000Z"),
        (float("nan"), "1970-01-01T00:00:00.000Z"),
        (float("inf"), "9999-12-31T23:59:59.000Z"),
        (1e20, "9999-12-31T23:59:59.000Z"),
    ],
)
def test_times_are_rfc3339_in_utc_with_milliseconds(seconds, text):
    assert rfc3339(seconds) == text
    assert rfc3339(seconds) == text  # from the cache


def test_changing_seconds_do_not_confuse_the_cache():
    for seconds in (1.5, 2.5, 1.25, 100000.0, 1.75):
        whole = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
        assert rfc3339(seconds) == whole.isoformat(timespec="milliseconds").replace("+00:00", "Z")
