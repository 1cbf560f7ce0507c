"""The rates in the status: what is configured, and how it goes."""

from __future__ import annotations

from random import Random

import trio
from admin_bed import open_bed

from elemta.config import parse_config
from elemta.policy import Client, Gate
from elemta.spool import open_memo
from elemta.testing.dns import FakeResolver

CONFIG = """
hostname = "mx.example.org"
[[policy.rates]]
count = "connections"
limit = "1/1m"
"""


async def test_status_has_each_rate_with_what_it_refused(autojump_clock: trio.testing.MockClock) -> None:
    async with (
        open_bed() as bed,
        open_memo(None, clock=bed.facts.clock, on_trouble=lambda *_: None) as memo,
    ):
        assert (await bed.request("GET", "/api/v1/status")).json()["rates"] == []
        gate = Gate(parse_config(CONFIG, "f"), FakeResolver(), bed.facts.clock, Random(1), memo)
        bed.facts.gate = gate
        for _ in range(3):
            await gate.connected(Client("192.0.2.7"))
        assert (await bed.request("GET", "/api/v1/status")).json()["rates"] == [
            {
                "rate": "connections per address: 1/1m",
                "known": 1,
                "allowed": 1,
                "refused": 2,
                "forgotten": 0,
            }
        ]
