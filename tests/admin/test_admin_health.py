"""Probes: alive, started, ready, each with its parts named."""

from __future__ import annotations

import trio.testing
from admin_bed import open_bed

from elemta.admin.health import ResolverWatch


async def test_each_part_is_named_also_when_all_is_well(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        answer = await bed.request("GET", "/readyz?verbose=yes", token=None)
        assert (answer.status, answer.body) == (200, b"spool: ok\ndisk: ok\nlisteners: ok\n")
        bed.facts.resolver = ResolverWatch(lambda: None)
        bed.facts.resolver.trouble = "none of the last 9 questions was answered"
        answer = await bed.request("GET", "/readyz", token=None)
        assert answer.status == 503
        assert answer.body == b"resolver: none of the last 9 questions was answered\n"


async def test_the_server_has_started_once_it_listens_and_that_stays_so(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed() as bed:
        listening, bed.facts.listeners = bed.facts.listeners, list
        assert (await bed.request("GET", "/startupz", token=None)).status == 503
        bed.facts.listeners = listening
        assert (await bed.request("GET", "/startupz", token=None)).body == b"started\n"
        bed.facts.listeners = list
        bed.facts.drain.begin("SIGTERM", 1, 1)
        assert (await bed.request("GET", "/startupz", token=None)).status == 200


def test_a_resolver_is_in_trouble_when_many_questions_in_a_row_have_no_answer() -> None:
    numbers = {"misses": 100, "failures": 10}
    watch = ResolverWatch(lambda: dict(numbers))

    def look(asked: int, failed: int) -> bool:
        numbers["misses"] += asked
        numbers["failures"] += failed
        watch.look()
        return bool(watch.trouble)

    watch.look()
    assert not look(50, 49)
    assert not look(2, 2)  # too few to tell
    assert look(3, 3)
    assert look(0, 0)  # nothing new is known
    assert watch.trouble == "none of the last 5 questions was answered"
    assert not look(1, 0)
