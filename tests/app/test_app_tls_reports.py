"""Daily reports on TLS: when, to whom, by which way, and what becomes of one that cannot be sent."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from elemta.app.tls_reports import DAY, SPREAD, TlsReporter
from elemta.config import Config, SpoolConfig, TlsReportsConfig
from elemta.delivery import HttpsAnswer, HttpsFailed, PolicyUsed, TlsResults
from elemta.runtime import TrioWallClock
from elemta.spool import MemoryStore, QueueFilter, Spool, open_spool
from elemta.testing.dns import FakeResolver

CONFIG = Config(hostname="mx.ours.example", tls_reports=TlsReportsConfig(collect=True, send=True))
ZONE = {
    "_smtp._tls.mail.example": {"TXT": ["v=TLSRPTv1; rua=mailto:r@mail.example"]},
    "_smtp._tls.web.example": {"TXT": ["v=TLSRPTv1; rua=https://r.web.example/in"]},
}


class FakeClient:
    """Notes what is posted; answers with `status`, or not at all."""

    def __init__(self) -> None:
        self.status: int | None = 201
        self.posted: list[tuple[str, str, str, Any]] = []

    async def request(
        self, method: str, host: str, path: str, *, headers: Sequence[tuple[str, str]], body: bytes, most: int
    ) -> HttpsAnswer:
        self.posted.append((method, host, path, json.loads(gzip.decompress(body))))
        assert dict(headers)["Content-Type"] == "application/tlsrpt+gzip"
        await trio.lowlevel.checkpoint()
        if self.status is None:
            raise HttpsFailed("connection lost")
        if self.status == 0:
            await trio.sleep_forever()
        return HttpsAnswer(self.status, "text/plain", b"")


@attrs.define(eq=False)
class Bed:
    reporter: TlsReporter
    results: TlsResults
    client: FakeClient
    spool: Spool
    woken: list[float]

    async def recipients(self) -> list[str]:
        entries = await self.spool.list(QueueFilter())
        return [each.address for entry in entries for each in entry.recipients]


@asynccontextmanager
async def open_bed(config: Config = CONFIG) -> AsyncGenerator[Bed, None]:
    clock, client, woken = TrioWallClock(), FakeClient(), list[float]()
    results = TlsResults(None, clock, lambda *_: None)
    async with open_spool(
        Path("nowhere"),
        SpoolConfig(),
        message_size=10**6,
        lease=config.queue.lease,
        clock=clock,
        random=Random(1),
        on_trouble=lambda *_: None,
        store=MemoryStore(),
    ) as spool:
        reporter = TlsReporter(
            config=lambda: config,
            results=results,
            resolver=FakeResolver(ZONE),
            client=client,  # type: ignore[arg-type]  # a fake of the one method that is used
            spool=spool,
            wake=lambda: woken.append(clock.time()),
            clock=clock,
            random=Random(7),
            sign=lambda text: b"DKIM-Signature: of %d octets\r\n" % len(text),
        )
        yield Bed(reporter, results, client, spool, woken)


def count(results: TlsResults, *domains: str) -> None:
    for domain in domains:
        results.success(PolicyUsed(domain))


async def test_each_domain_that_asks_gets_its_report_by_its_way(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed() as bed:
        count(bed.results, "mail.example", "web.example", "other.example")
        (day,) = bed.results.days()
        await bed.reporter.report_day(day)
        assert await bed.recipients() == ["r@mail.example"]
        assert len(bed.woken) == 1
        (entry,) = await bed.spool.list(QueueFilter(), limit=10)
        message = await bed.spool.stored(entry.id)
        async with bed.spool.open_body(message) as body:
            # RFC 8460 §3: a report by mail is signed
            assert message.prefix == b"DKIM-Signature: of %d octets\r\n" % len(await body.read())
        ((method, host, path, report),) = bed.client.posted
        assert (method, host, path) == ("POST", "r.web.example", "/in")
        assert report["contact-info"] == "postmaster@mx.ours.example"
        assert [each["policy"]["policy-domain"] for each in report["policies"]] == ["web.example"]
        assert bed.results.days() == ()


async def test_a_day_is_reported_once_when_it_is_over(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed, trio.open_nursery() as nursery:
        nursery.start_soon(bed.reporter.run)
        count(bed.results, "mail.example")
        left = DAY - bed.reporter.clock.time() % DAY
        await trio.sleep(left - 1)
        assert await bed.recipients() == []
        await trio.sleep(SPREAD + 2)
        assert await bed.recipients() == ["r@mail.example"]
        await trio.sleep(2 * DAY)
        assert await bed.recipients() == ["r@mail.example"]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("status", [500, 302, None, 0])
async def test_report_that_cannot_be_posted_is_lost_and_holds_up_no_other(
    autojump_clock: trio.testing.MockClock, status: int | None
) -> None:
    async with open_bed() as bed:
        bed.client.status = status
        count(bed.results, "a.web.example", "web.example", "mail.example")
        await bed.reporter.report_day(bed.results.days()[0])
        assert len(bed.client.posted) == 1
        assert await bed.recipients() == ["r@mail.example"]
        assert bed.results.days() == ()


@pytest.mark.parametrize(
    ("contact", "expected"),
    [("tls@ours.example", "tls@ours.example"), ("müller@ours.example", "postmaster@mx.ours.example")],
)
async def test_contact_is_the_configured_one_if_every_server_takes_it(
    autojump_clock: trio.testing.MockClock, contact: str, expected: str
) -> None:
    async with open_bed(attrs.evolve(CONFIG, tls_reports=TlsReportsConfig(contact=contact))) as bed:
        count(bed.results, "web.example")
        await bed.reporter.report_day(bed.results.days()[0])
        assert bed.client.posted[0][3]["contact-info"] == expected
