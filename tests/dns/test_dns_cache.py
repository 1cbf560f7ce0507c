"""The cache on virtual time: how long answers hold, and one query for all who ask."""

import attrs
import pytest
import trio
import trio.testing

from elemta.config import DnsConfig
from elemta.dns import Answer, MxRecord, RecordKind, Resolver, Status, TlsaRecord, cache, open_resolver
from elemta.testing.dns import FakeResolver

CONFIG = DnsConfig(min_ttl=5.0, max_ttl=1000.0, negative_ttl=60.0, failure_ttl=3.0, timeout=15.0)


@attrs.define
class SetClock:
    now: float = 1000.0

    def time(self) -> float:
        return self.now


def zone():
    return {"a.test": {"A": ["192.0.2.1"]}, "b.test": {"TXT": ["x"]}, "alias.test": {"CNAME": ["gone.test"]}}


async def asked_again_after(inner, name, kind, seconds):
    """Whether the inner resolver is asked again, that long after a first answer."""
    async with open_resolver(CONFIG, inner=inner) as resolver:
        await resolver.query(name, kind)
        await trio.sleep(seconds)
        before = len(inner.queries)
        await resolver.query(name, kind)
        return len(inner.queries) > before


@pytest.mark.parametrize(
    ("name", "ttl", "holds"),
    [
        ("a.test", 300.0, 300.0),
        ("a.test", 0.0, 5.0),
        ("a.test", 1e9, 1000.0),
        ("b.test", 30.0, 30.0),  # NODATA
        ("b.test", 300.0, 60.0),
        ("b.test", 0.0, 5.0),
        ("gone.test", 300.0, 60.0),  # NXDOMAIN
        ("alias.test", 300.0, 60.0),
        ("bad.test", 300.0, 3.0),  # FAILED
    ],
)
async def test_answers_hold_as_long_as_they_say_within_bounds(name, ttl, holds, autojump_clock):
    def inner():
        return FakeResolver(zone(), ttl=ttl, failing={"bad.test"})

    assert not await asked_again_after(inner(), name, RecordKind.A, holds - 0.5)
    assert await asked_again_after(inner(), name, RecordKind.A, holds + 0.5)


async def test_cached_answer_tells_what_is_left_of_its_time(autojump_clock):
    async with open_resolver(CONFIG, inner=FakeResolver(zone())) as resolver:
        await resolver.query("a.test", RecordKind.A)
        await trio.sleep(100)
        answer = await resolver.query("A.test.", RecordKind.A)
    assert answer.ttl == pytest.approx(200)
    assert answer.texts == ("192.0.2.1",)


async def test_name_that_does_not_exist_has_no_kind(autojump_clock):
    inner = FakeResolver(zone())
    async with open_resolver(CONFIG, inner=inner) as resolver:
        for kind in RecordKind:
            assert (await resolver.query("gone.test", kind)).status is Status.NXDOMAIN
        assert len(inner.queries) == 1
        # An alias to nothing exists itself
        assert (await resolver.query("alias.test", RecordKind.A)).status is Status.NXDOMAIN
        assert (await resolver.query("alias.test", RecordKind.CNAME)).status is Status.OK


async def test_impossible_name_is_never_asked_for():
    inner = FakeResolver()
    async with open_resolver(CONFIG, inner=inner) as resolver:
        assert (await resolver.query("a..b", RecordKind.A)).status is Status.NXDOMAIN
        assert resolver.statistics().misses == 0
    assert inner.queries == []


async def test_equal_questions_share_one_query(autojump_clock):
    inner = FakeResolver(zone(), delays={"a.test": 1.0})
    answers = []
    async with open_resolver(CONFIG, inner=inner) as resolver, trio.open_nursery() as nursery:

        async def ask():
            answers.append(await resolver.query("a.test", RecordKind.A))

        for _ in range(20):
            nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        assert resolver.statistics().in_flight == 1
    assert len(inner.queries) == 1
    assert [answer.texts for answer in answers] == [("192.0.2.1",)] * 20
    statistics = resolver.statistics()
    assert (statistics.misses, statistics.joined, statistics.in_flight) == (1, 19, 0)


async def test_cancelled_first_asker_does_not_take_the_query_along(autojump_clock):
    inner = FakeResolver(zone(), delays={"a.test": 1.0})
    async with open_resolver(CONFIG, inner=inner) as resolver, trio.open_nursery() as nursery:
        first = trio.CancelScope()
        answers = []

        async def give_up():
            with first:
                await resolver.query("a.test", RecordKind.A)

        async def ask():
            answers.append(await resolver.query("a.test", RecordKind.A))

        nursery.start_soon(give_up)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        first.cancel()
    assert first.cancelled_caught
    assert [answer.status for answer in answers] == [Status.OK]
    assert len(inner.queries) == 1


async def test_query_that_nobody_waits_for_still_fills_the_cache(autojump_clock):
    inner = FakeResolver(zone(), delays={"a.test": 1.0})
    async with open_resolver(CONFIG, inner=inner) as resolver:
        with trio.move_on_after(0.5):
            await resolver.query("a.test", RecordKind.A)
        await trio.sleep(1.0)
        before = trio.current_time()
        assert (await resolver.query("a.test", RecordKind.A)).status is Status.OK
        assert trio.current_time() == before


async def test_silent_inner_resolver_fails_in_time(autojump_clock):
    inner = FakeResolver(zone(), delays={"a.test": 3600.0})
    async with open_resolver(CONFIG, inner=inner) as resolver:
        before = trio.current_time()
        answer = await resolver.query("a.test", RecordKind.A)
        assert trio.current_time() - before == pytest.approx(15.0 + cache.GRACE)
    assert answer.status is Status.FAILED
    assert answer.detail == "a.test A: no answer in time"


async def test_crash_of_the_inner_resolver_is_a_failed_answer(autojump_clock):
    class Broken(Resolver):
        async def query(self, name, kind):
            raise RuntimeError("boom")

    async with open_resolver(CONFIG, inner=Broken()) as resolver:
        answer = await resolver.query("a.test", RecordKind.A)
        assert answer.status is Status.FAILED
        assert answer.detail == "a.test A: internal error (RuntimeError: boom)"
        assert resolver.statistics().failures == 1


async def test_closing_releases_those_who_wait(autojump_clock):
    inner = FakeResolver(zone(), delays={"slow.test": 10.0})
    answers = []
    async with trio.open_nursery() as nursery:
        async with open_resolver(CONFIG, inner=inner) as resolver:
            await resolver.query("a.test", RecordKind.A)

            async def ask():
                answers.append(await resolver.query("slow.test", RecordKind.A))

            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
        assert (
            await resolver.query("other.test", RecordKind.A)
        ).detail == "other.test A: the resolver is closed"
        assert (await resolver.query("a.test", RecordKind.A)).status is Status.OK
    assert [answer.detail for answer in answers] == ["slow.test A: the resolver was closed"]


async def test_too_many_queries_in_flight_fail_at_once(monkeypatch, autojump_clock):
    monkeypatch.setattr(cache, "MAX_IN_FLIGHT", 2)
    inner = FakeResolver(delays={f"{number}.test": 1.0 for number in range(3)})
    async with open_resolver(CONFIG, inner=inner) as resolver, trio.open_nursery() as nursery:
        for number in range(2):
            nursery.start_soon(resolver.query, f"{number}.test", RecordKind.A)
        await trio.testing.wait_all_tasks_blocked()
        assert (await resolver.query("2.test", RecordKind.A)).detail == "2.test A: too many queries in flight"
    assert len(inner.queries) == 2


async def test_least_recently_used_answers_go_first(autojump_clock):
    inner = FakeResolver({f"{number}.test": {"A": ["192.0.2.1"]} for number in range(4)})
    async with open_resolver(attrs.evolve(CONFIG, cache_entries=3), inner=inner) as resolver:
        for number in (0, 1, 2, 0, 3):
            await resolver.query(f"{number}.test", RecordKind.A)
        assert resolver.statistics().entries == 3
        assert resolver.statistics().evicted == 1
        asked = len(inner.queries)
        for number in (0, 2, 3):
            await resolver.query(f"{number}.test", RecordKind.A)
        assert len(inner.queries) == asked
        await resolver.query("1.test", RecordKind.A)
        assert len(inner.queries) == asked + 1


async def test_cache_is_bounded_in_octets(monkeypatch, autojump_clock):
    monkeypatch.setattr(cache, "MAX_OCTETS", 100_000)
    inner = FakeResolver({f"{number}.test": {"TXT": ["x" * 30_000]} for number in range(10)})
    async with open_resolver(CONFIG, inner=inner) as resolver:
        for number in range(10):
            await resolver.query(f"{number}.test", RecordKind.TXT)
            assert resolver.statistics().octets <= 100_000
        assert resolver.statistics().entries == 3


async def test_octets_are_counted_back_when_answers_go(autojump_clock):
    inner = FakeResolver(
        {
            "a.test": {
                "MX": [MxRecord(1, "b.test")],
                "TLSA": [TlsaRecord(3, 1, 1, b"x" * 32)],
                "TXT": [b"x"],
            }
        }
    )
    async with open_resolver(CONFIG, inner=inner) as resolver:
        for kind in (RecordKind.MX, RecordKind.TLSA, RecordKind.TXT, RecordKind.A):
            await resolver.query("a.test", kind)
        assert resolver.statistics().octets > 1600
        assert resolver.flush() == 4
        assert resolver.statistics().octets == 0


async def test_cache_of_no_entries_asks_every_time(autojump_clock):
    inner = FakeResolver(zone())
    async with open_resolver(attrs.evolve(CONFIG, cache_entries=0), inner=inner) as resolver:
        for _ in range(3):
            assert (await resolver.query("a.test", RecordKind.A)).status is Status.OK
    assert len(inner.queries) == 3


async def test_flush_of_one_name_leaves_the_others(autojump_clock):
    inner = FakeResolver(zone())
    async with open_resolver(CONFIG, inner=inner) as resolver:
        for name in ("a.test", "b.test"):
            for kind in (RecordKind.A, RecordKind.TXT):
                await resolver.query(name, kind)
        assert resolver.flush("A.test.") == 2
        assert resolver.flush("a..b") == 0
        assert resolver.statistics().entries == 2


@pytest.mark.parametrize(("change", "asked_again"), [(10.0, False), (864000.0, True), (-864000.0, True)])
async def test_clock_that_is_set_never_makes_an_answer_last(change, asked_again):
    clock = SetClock()
    inner = FakeResolver(zone())
    async with open_resolver(CONFIG, clock, inner=inner) as resolver:
        await resolver.query("a.test", RecordKind.A)
        clock.now += change
        await resolver.query("a.test", RecordKind.A)
    assert (len(inner.queries) == 2) is asked_again


async def test_hits_and_failures_are_counted(autojump_clock):
    async with open_resolver(CONFIG, inner=FakeResolver(zone(), failing={"bad.test"})) as resolver:
        for _ in range(3):
            await resolver.query("a.test", RecordKind.A)
        await resolver.query("bad.test", RecordKind.A)
        statistics = resolver.statistics()
    assert (statistics.hits, statistics.misses, statistics.failures) == (2, 2, 1)


async def test_query_is_a_checkpoint_even_from_the_cache():
    async with open_resolver(CONFIG, inner=FakeResolver(zone())) as resolver:
        await resolver.query("a.test", RecordKind.A)
        for name in ("a.test", "a..b"):
            with trio.testing.assert_checkpoints():
                answer = await resolver.query(name, RecordKind.A)
            assert isinstance(answer, Answer)
