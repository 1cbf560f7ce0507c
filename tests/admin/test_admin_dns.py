"""The cache of DNS behind the admin port: shown, asked, forgotten."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio.testing
from admin_bed import Bed, open_bed

from elemta.app.dns_view import DnsView, record_text
from elemta.config import DnsConfig
from elemta.dns import RecordKind, TlsaRecord, open_resolver
from elemta.testing.dns import FakeResolver

ZONE = {"a.test": {"MX": [(10, "mx.a.test")], "TXT": [b"evil \x1b[31m"], "A": ["192.0.2.1"]}}


@asynccontextmanager
async def open_dns() -> AsyncGenerator[tuple[Bed, FakeResolver], None]:
    inner = FakeResolver(ZONE, authentic={"a.test"}, failing={"broken.test"}, ttl=100.0)
    async with open_bed() as bed, open_resolver(DnsConfig(), inner=inner) as resolver:
        bed.facts.dns = DnsView(resolver)
        yield bed, inner


async def test_lookup_gives_records_and_their_truth(autojump_clock: trio.testing.MockClock) -> None:
    async with open_dns() as (bed, _):
        answer = (await bed.request("GET", "/api/v1/dns/lookup?name=a.test")).json()
        assert answer == {
            "name": "a.test",
            "type": "MX",
            "status": "ok",
            "records": ["10 mx.a.test."],
            "ttl": 100.0,
            "authentic": True,
            "canonical": "a.test",
            "detail": "",
        }
        text = (await bed.request("GET", "/api/v1/dns/lookup?name=a.test&type=txt")).json()
        assert text["records"] == ["evil \\x1b[31m"]  # what strangers publish moves no cursor
        failed = (await bed.request("GET", "/api/v1/dns/lookup?name=broken.test")).json()
        assert (failed["status"], failed["detail"]) == ("failed", "broken.test MX: SERVFAIL")


async def test_cache_shows_ages_and_what_does_not_exist(autojump_clock: trio.testing.MockClock) -> None:
    async with open_dns() as (bed, _):
        for name in ("a.test", "gone.test"):
            await bed.request("GET", f"/api/v1/dns/lookup?name={name}")
        await trio.sleep(30)
        shown = (await bed.request("GET", "/api/v1/dns")).json()
        gone, there = shown["entries"]
        assert (gone["name"], gone["type"], gone["status"]) == ("gone.test", "any", "nxdomain")
        assert (there["name"], there["age"], there["ttl"], there["authentic"]) == ("a.test", 30.0, 70.0, True)
        assert shown["statistics"]["misses"] == 2
        one = (await bed.request("GET", "/api/v1/dns?name=A.test.&limit=5")).json()
        assert [entry["name"] for entry in one["entries"]] == ["a.test"]
        await trio.sleep(70)  # what no longer holds is not shown
        assert (await bed.request("GET", "/api/v1/dns?name=a.test")).json()["entries"] == []


async def test_flush_forgets_one_name_or_all(autojump_clock: trio.testing.MockClock) -> None:
    async with open_dns() as (bed, inner):

        async def forget(**wish: object) -> object:
            body = json.dumps(wish).encode()
            return (await bed.request("POST", "/api/v1/dns/flush", body=body)).json()

        for query in ("name=a.test", "name=a.test&type=A", "name=gone.test"):
            await bed.request("GET", f"/api/v1/dns/lookup?{query}")
        assert await forget(name="a.test") == {"forgotten": 2}
        assert await forget(all=True) == {"forgotten": 1}
        await bed.request("GET", "/api/v1/dns/lookup?name=a.test")
        assert inner.queries.count(("a.test", RecordKind.MX)) == 2


async def test_mistakes_are_told(autojump_clock: trio.testing.MockClock) -> None:
    async with open_dns() as (bed, _):
        for path in ("dns/lookup", "dns/lookup?name=a.test&type=SOA", "dns?limit=0", "dns?limit=5000"):
            answer = await bed.request("GET", f"/api/v1/{path}")
            assert (answer.status, answer.json()["title"]) == (400, "Bad Request")
        for body in (b"{}", b'{"name": "a.test", "all": true}', b'{"nam": "a.test"}', b"no"):
            assert (await bed.request("POST", "/api/v1/dns/flush", body=body)).status == 400
        assert (await bed.request("GET", "/api/v1/dns", token=None)).status == 401
        bed.facts.dns = None
        answer = await bed.request("GET", "/api/v1/dns")
        assert (answer.status, answer.json()["detail"]) == (400, "this server has no cache of DNS")


def test_certificate_rules_are_shown_as_in_a_zone_file() -> None:
    assert record_text(TlsaRecord(3, 1, 1, b"\xab\xcd")) == "3 1 1 abcd"
