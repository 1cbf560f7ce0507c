"""Domains with the same hosts share what these bear, and each gets its turn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

import attrs
import pytest
import trio
from queue_bed import LATER, OK, UNREACHABLE, Bed, answer_ok, open_bed

from elemta.config import Config, DeliveryConfig, HostPattern, Rate, ShapingConfig
from elemta.delivery import Parcel
from elemta.mail import Cause, Outcome, Reply
from elemta.queue import sites
from elemta.routing import Route

BIG = frozenset({"mx1.big.example", "mx2.big.example"})
RATE_LIMITED = attrs.evolve(LATER, reply=Reply.of(451, "4.7.0", "Too many messages, slow down"))
Survey = Callable[[Route], Awaitable[frozenset[str]]]


def behind(**hosts: frozenset[str]) -> Survey:
    """The hosts of `NAME.example`; those of others are theirs alone."""

    async def survey(route: Route) -> frozenset[str]:
        await trio.sleep(0.01)
        return hosts.get(route.next_hop.partition(".")[0], frozenset({route.next_hop}))

    return survey


def shaped(*tables: ShapingConfig, concurrency: int = 20) -> Config:
    delivery = DeliveryConfig(initial_concurrency=concurrency, concurrency=concurrency)
    return Config(hostname="mx.example.net", delivery=delivery, shaping=tables)


def counts(bed: Bed, *names: str) -> list[int]:
    """What the next hop got for each domain."""
    return [len(bed.parcels(f"smtp:{name}.example")) for name in names]


async def slow(parcel: Parcel) -> list[Outcome]:
    await trio.sleep(1)
    return [OK] * len(parcel.recipients)


async def test_domains_with_the_same_hosts_share_their_connections(
    autojump_clock: trio.testing.MockClock,
) -> None:
    under_way: Counter[str] = Counter()
    most: Counter[str] = Counter()

    async def answer(parcel: Parcel) -> list[Outcome]:
        where = "c" if "@c." in str(parcel.recipients[0].mailbox) else "big"
        under_way[where] += 1
        most[where] = max(most[where], under_way[where])
        await trio.sleep(1)
        under_way[where] -= 1
        return [OK] * len(parcel.recipients)

    async with open_bed(answer, config=shaped(concurrency=3), survey=behind(a=BIG, b=BIG)) as bed:
        for _ in range(10):
            for name in "abc":
                await bed.accept(f"r@{name}.example")
        await trio.sleep(30)
        assert counts(bed, "a", "b", "c") == [10, 10, 10]
    assert most == {"big": 3, "c": 3}


async def test_a_domain_with_little_mail_gets_its_turn_among_those_with_much(
    autojump_clock: trio.testing.MockClock,
) -> None:
    hosts = behind(a=BIG, b=BIG, c=BIG)
    async with open_bed(slow, config=shaped(concurrency=1), survey=hosts) as bed:
        for _ in range(100):
            await bed.accept("r@a.example")
        await trio.sleep(0.5)
        for name in "bc":
            await bed.accept(f"r@{name}.example")
        await trio.sleep(13)
        assert counts(bed, "b", "c") == [1, 1]
        await trio.sleep(100)
        assert counts(bed, "a") == [100]


async def test_an_idle_connection_gives_its_place_to_another_domain(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed(config=shaped(concurrency=1), survey=behind(a=BIG, b=BIG)) as bed:
        await bed.accept("r@a.example")
        await trio.sleep(1)
        assert bed.transports["smtp:a.example"].open == 1
        await bed.accept("r@b.example")
        await trio.sleep(1)
        assert counts(bed, "b") == [1]
        assert bed.transports["smtp:a.example"].open == 0


async def test_a_rate_of_the_hosts_holds_for_all_their_domains(
    autojump_clock: trio.testing.MockClock,
) -> None:
    table = ShapingConfig(mx=HostPattern("mx1.big.example"), message_rate=Rate(60, 60), message_burst=1)
    async with open_bed(config=shaped(table), survey=behind(a=BIG, b=BIG)) as bed:
        for _ in range(5):
            for name in "abc":
                await bed.accept(f"r@{name}.example")
        await trio.sleep(0.5)
        assert counts(bed, "c") == [5]
        assert sum(counts(bed, "a", "b")) == 1
        await trio.sleep(5)
        a, b = counts(bed, "a", "b")
        assert a + b == 6
        assert abs(a - b) <= 2
        await trio.sleep(5)
        assert counts(bed, "a", "b") == [5, 5]


async def test_hosts_that_cannot_be_reached_rest_for_all_their_domains(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed(refuse=UNREACHABLE, survey=behind(a=BIG, b=BIG)) as bed:
        for _ in range(30):
            await bed.accept("r@a.example")
        await trio.sleep(10)
        assert len(bed.of("site.suspended")) == 1
        late = await bed.accept("r@b.example")
        await trio.sleep(10)
        assert "smtp:b.example" not in bed.transports
        entry = await bed.entry(late)
        assert (entry.attempts, entry.reason) == (0, Cause.CONNECT)
        other = await bed.accept("r@c.example")
        await trio.sleep(1)
        assert (await bed.entry(other)).attempts == 1


async def test_a_complaint_about_us_holds_for_all_domains_of_the_hosts(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def answer(parcel: Parcel) -> list[Outcome]:
        await trio.sleep(1)
        return [RATE_LIMITED] * len(parcel.recipients)

    async with open_bed(answer, config=shaped(concurrency=1), survey=behind(a=BIG, b=BIG)) as bed:
        for _ in range(10):
            for name in "ab":
                await bed.accept(f"r@{name}.example")
        await trio.sleep(30)
        assert sum(counts(bed, "a", "b")) == 3
        assert {site.suspended_because for site in bed.queue.statistics().sites} == {"rate limited"}


async def test_a_domain_with_its_own_table_is_counted_apart(autojump_clock: trio.testing.MockClock) -> None:
    table = ShapingConfig(match=HostPattern("b.example"), concurrency=2)
    config = shaped(table, concurrency=1)
    async with open_bed(slow, config=config, survey=behind(a=BIG, b=BIG)) as bed:
        for _ in range(10):
            for name in "ab":
                await bed.accept(f"r@{name}.example")
        await trio.sleep(5.5)
        assert [bed.transports[f"smtp:{name}.example"].open for name in "ab"] == [1, 2]


async def test_where_dns_is_silent_a_domain_is_counted_by_itself(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def silent(route: Route) -> frozenset[str]:
        await trio.sleep(10_000)
        return BIG

    async with open_bed(survey=silent) as bed:
        await bed.accept("r@a.example")
        await trio.sleep(29)
        assert counts(bed, "a") == [0]
        await trio.sleep(2)
        assert counts(bed, "a") == [1]


async def test_a_survey_that_crashes_is_told_and_holds_nothing_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def broken(route: Route) -> frozenset[str]:
        await trio.lowlevel.checkpoint()
        raise RuntimeError("boom")

    async with open_bed(survey=broken) as bed:
        await bed.accept("r@a.example")
        await trio.sleep(1)
        assert counts(bed, "a") == [1]
        assert len(bed.of("task.crashed")) == 1


async def test_a_drain_during_the_survey_gives_the_mail_back(autojump_clock: trio.testing.MockClock) -> None:
    async def silent(route: Route) -> frozenset[str]:
        await trio.sleep(20)
        return BIG

    async with open_bed(survey=silent) as bed:
        message = await bed.accept("r@a.example")
        await trio.sleep(1)
        bed.drain.begin("test", 60.0, 1.0)
        await trio.sleep(30)
        assert (await bed.entry(message)).reason == Cause.SHUTDOWN


async def test_a_reload_that_splits_domains_keeps_the_rest_of_their_hosts(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed(refuse=UNREACHABLE, survey=behind(a=BIG, b=BIG)) as bed:
        for name in "ab":
            for _ in range(30):
                await bed.accept(f"r@{name}.example")
        await trio.sleep(10)
        assert all(site.suspended_for for site in bed.queue.statistics().sites)
        bed.queue.replace(shaped(ShapingConfig(match=HostPattern("b.example"), concurrency=2)))
        split = bed.queue.statistics().sites
        assert {site.route for site in split} == {"smtp:a.example", "smtp:b.example"}
        assert all(site.suspended_for for site in split)
        bed.queue.replace(shaped())
        await trio.sleep(300)
        for transport in bed.transports.values():
            transport.refuse = None
        await trio.sleep(3000)
        assert (await bed.spool.totals()).queued == 0


async def test_domains_are_forgotten_while_their_hosts_are_busy(
    autojump_clock: trio.testing.MockClock,
) -> None:
    hosts = behind(**{f"d{number}": BIG for number in range(50)})
    table = ShapingConfig(mx=HostPattern(".big.example"), message_rate=Rate(1000, 3600), message_burst=500)
    async with open_bed(config=shaped(table), survey=hosts) as bed:
        for number in range(50):
            await bed.accept(f"r@d{number}.example")
        await trio.sleep(100)
        assert (await bed.spool.totals()).delivered == 50
        assert len(bed.queue.statistics().sites) <= 1


async def test_hosts_that_change_are_noticed_where_there_is_always_mail(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(sites, "SURVEY_AGAIN", 30.0)
    now: dict[str, frozenset[str]] = {}

    async def survey(route: Route) -> frozenset[str]:
        await trio.sleep(0.01)
        return now.get(route.next_hop, frozenset({route.next_hop}))

    async with open_bed(answer_ok, config=shaped(concurrency=1), survey=survey) as bed:
        for step in range(20):
            for name in "ab":
                await bed.accept(f"r@{name}.example")
            await trio.sleep(9)
            if not step:
                now |= {"a.example": BIG, "b.example": BIG}
        assert {site.provider.hosts for site in bed.queue.sites.all} == {BIG}
        assert len({id(site.provider) for site in bed.queue.sites.all}) == 1
        assert sum(counts(bed, "a", "b")) == 40
