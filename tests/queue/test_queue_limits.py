"""Limits that an operator sets for one destination hold at once, apart from others, and after a restart."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio.testing
from queue_bed import OK, open_bed

from elemta.config import Config, DeliveryConfig, HostPattern, Rate, ShapingConfig, TransportKind
from elemta.delivery import (
    OVERRIDES_FILE,
    Override,
    OverridesDamaged,
    Parcel,
    Shaping,
    read_overrides,
    write_overrides,
)
from elemta.mail import Outcome
from elemta.queue import Limits, TooManyLimits, limits
from elemta.routing import Route
from elemta.runtime.threads import in_place

SLOW = ShapingConfig(concurrency=1, message_rate=Rate(10, 60.0))
HOSTS = frozenset({"mx1.big.example"})


async def test_they_hold_at_once_and_for_that_destination_alone(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def answer(parcel: Parcel) -> list[Outcome]:
        await trio.sleep(1)
        return [OK] * len(parcel.recipients)

    async def survey(route: Route) -> frozenset[str]:
        await trio.sleep(0.01)
        return HOSTS

    config = Config("mx.example.net", delivery=DeliveryConfig(initial_concurrency=5, concurrency=5))
    async with open_bed(answer, config=config, survey=survey) as bed:
        await bed.queue.limits.set("smtp:a.example", ShapingConfig(concurrency=1), "")
        for _ in range(10):
            await bed.accept("x@a.example")
            await bed.accept("x@b.example")
        await trio.sleep(4.5)
        sites = {str(site.route): site for site in bed.queue.sites.all}
        assert sites["smtp:a.example"].provider is not sites["smtp:b.example"].provider
        assert (bed.transports["smtp:a.example"].most_open, bed.transports["smtp:b.example"].most_open) == (
            1,
            5,
        )
        assert len(bed.parcels("smtp:b.example")) == 10
        assert 3 <= len(bed.parcels("smtp:a.example")) <= 5
        assert await bed.queue.limits.clear("smtp:a.example")
        assert sites["smtp:a.example"].provider.shape.concurrency == 5
        assert not await bed.queue.limits.clear("smtp:a.example")
        await trio.sleep(4)
        assert len(bed.parcels("smtp:a.example")) == 10


async def test_they_outlive_a_restart_and_a_reload(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    in_place.set(True)
    async with open_bed() as bed:
        kept = Limits(bed.queue.context, tmp_path, bed.queue.sites.reshape)
        await kept.set("smtp:a.example", SLOW, "they asked")
        await kept.set("smtp:b.example", ShapingConfig(concurrency=7), "")
        bed.queue.replace(Config("mx.example.net", delivery=DeliveryConfig(concurrency=3)))
        shape = bed.queue.sites.at(Route(TransportKind.SMTP, "a.example", 25, use_mx=True)).provider.shape
        assert (shape.concurrency, shape.messages is not None) == (1, True)
    async with open_bed() as again:
        kept = Limits(again.queue.context, tmp_path, again.queue.sites.reshape)
        kept.load()
        assert kept.all["smtp:a.example"].settings == SLOW
        assert kept.all["smtp:a.example"].reason == "they asked"
        assert await kept.clear("smtp:a.example")
        assert list(read_overrides(tmp_path)) == ["smtp:b.example"]


async def test_what_cannot_be_written_down_does_not_hold(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    in_place.set(True)
    async with open_bed() as bed:
        kept = Limits(bed.queue.context, tmp_path / "gone", bed.queue.sites.reshape)
        with pytest.raises(OSError):
            await kept.set("smtp:a.example", SLOW, "")
        assert not kept.all


async def test_there_are_only_so_many(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(limits, "MOST_OVERRIDES", 1)
    async with open_bed() as bed:
        await bed.queue.limits.set("smtp:a.example", SLOW, "")
        with pytest.raises(TooManyLimits):
            await bed.queue.limits.set("smtp:b.example", SLOW, "")
        await bed.queue.limits.set("smtp:a.example", ShapingConfig(concurrency=2), "again")
        assert list(bed.queue.limits.all) == ["smtp:a.example"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"destinations": {"smtp:x": {"limits": {"concurrency": -1}, "since": 1, "reason": ""}}}',
    ],
)
async def test_a_damaged_file_is_told_and_sets_nothing(
    content: str, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    (tmp_path / OVERRIDES_FILE).write_text(content)
    with pytest.raises(OverridesDamaged):
        read_overrides(tmp_path)
    async with open_bed() as bed:
        kept = Limits(bed.queue.context, tmp_path, bed.queue.sites.reshape)
        kept.load()
        assert not kept.all


def test_the_file_has_what_was_set(tmp_path: Path) -> None:
    override = Override(SLOW, 1.5, "why")
    write_overrides(tmp_path, {"smtp:a.example": override})
    assert read_overrides(tmp_path) == {"smtp:a.example": override}
    assert (tmp_path / OVERRIDES_FILE).stat().st_mode & 0o777 == 0o600


def test_they_come_before_every_table() -> None:

    table = ShapingConfig(match=HostPattern("a.example"), concurrency=9, idle=3.0)
    config = Config("mx.example.net", shaping=(table,))
    route = Route(TransportKind.SMTP, "a.example", 25, use_mx=True)
    shape = Shaping(config, {"smtp:a.example": Override(SLOW, 0.0)}).of(route)
    assert (shape.concurrency, shape.idle) == (1, 3.0)
    assert shape.tables == ("set for smtp:a.example", "match a.example")
