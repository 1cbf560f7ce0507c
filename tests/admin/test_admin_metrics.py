"""Metrics: what Prometheus reads is right, bounded, and made without holding up anybody."""

from __future__ import annotations

import shutil
import subprocess

import pytest
import trio.testing
from admin_bed import open_bed
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from elemta.admin.counts import MOST_KEYS, OTHER, Counts, Tally
from elemta.admin.metrics import expose
from elemta.events import (
    CommandRejected,
    MessageAccepted,
    PluginCallFailed,
    RecipientDelivered,
    SessionClosed,
    SessionOpened,
    SessionTls,
)
from elemta.mail import Phases
from elemta.runtime import Histogram


def busy(counts: Counts) -> None:
    counts.observe(SessionOpened(time=1.0, session="s", listener="mx", peer="192.0.2.1", port=1))
    counts.observe(SessionTls(time=1.0, session="s", version="TLSv1.3", cipher="x"))
    counts.observe(
        CommandRejected(time=1.0, session="s", verb="RCPT", reply="550 5.1.1 there is no such mailbox")
    )
    counts.observe(
        MessageAccepted(
            time=1.0,
            session="s",
            message="m",
            sender="a@client.example",
            recipients=("b@far.example",),
            size=2000,
            peer="192.0.2.1",
            protocol="ESMTP",
        )
    )
    counts.observe(
        RecipientDelivered(
            time=2.0,
            message="m",
            recipient="b@far.example",
            route="smtp:far.example",
            remote="x",
            reply="250 ok",
            attempts=1,
            seconds=0.3,
            delays=(0.0, 0.001, 0.2, 0.1),
            phases=Phases(connect=0.2, reply=0.1),
        )
    )
    counts.observe(
        SessionClosed(
            time=1.0, session="s", cause="quit", seconds=2.0, commands=5, messages=1, errors=1, octets_in=9
        )
    )
    counts.observe(PluginCallFailed(time=1.0, plugin="p", hook="rcpt", kind="timeout", detail="x"))


async def test_what_happened_is_in_the_metrics(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        busy(bed.facts.counts)
        text = (await bed.request("GET", "/metrics")).body.decode()
        values = {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
        for expected in (
            ("elemta_sessions_total", "mx"),
            ("elemta_sessions_tls_total", "TLSv1.3"),
            ("elemta_commands_rejected_total", "RCPT", "550", "5.1.1"),
            ("elemta_sessions_closed_total", "quit"),
            ("elemta_route_recipients_total", "smtp:far.example", "delivered"),
            ("elemta_delivery_seconds_bucket", "0.5"),
            ("elemta_attempt_phase_seconds_count", "connect"),
            ("elemta_message_bytes_count",),
            (
                "elemta_build_info",
                "0.0",
                values and next(key[2] for key in values if key[0].endswith("_info")),
            ),
            ("elemta_ready",),
        ):
            assert values[expected] == 1, expected
        assert values["elemta_attempt_phase_seconds_sum", "connect"] == 0.2
        assert values["elemta_attempt_step_seconds_sum", "connect"] == 0.2
        assert values["elemta_attempt_step_seconds_count", "tls"] == 0
        assert values["elemta_queue_difference",] == 0
        assert any(key[0] == "elemta_threads_limit" for key in values)
        assert values["elemta_commits_total",] >= 0


@pytest.mark.interop
@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian: prometheus) is not here")
async def test_promtool_has_nothing_against_the_metrics(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        busy(bed.facts.counts)
        await bed.accept("carl@far.example")
        text = (await bed.request("GET", "/metrics")).body
    done = subprocess.run(
        ["promtool", "check", "metrics"], check=False, input=text, capture_output=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


class _Some(Collector):
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        return self._metrics


async def test_the_text_is_what_the_client_library_would_write() -> None:
    counter = CounterMetricFamily("a", 'A "text"\nwith \\ all', labels=["x", "y"])
    counter.add_metric(['quote " here', "back \\ slash\nline"], 3)
    gauge = GaugeMetricFamily("b", "B", value=float("inf"))
    histogram = HistogramMetricFamily("c", "C", labels=["z"])
    histogram.add_metric(["é"], [("0.5", 1), ("+Inf", 2)], 1.25)
    metrics: list[Metric] = [counter, gauge, histogram]
    ours = list(text_string_to_metric_families((await expose(metrics)).decode()))
    registry = CollectorRegistry()
    registry.register(_Some(metrics))
    theirs = list(text_string_to_metric_families(generate_latest(registry).decode()))
    assert ours == theirs


async def test_many_series_are_written_in_turns_with_others() -> None:
    families: list[Metric] = []
    for number in range(70):
        family = GaugeMetricFamily(f"elemta_many_{number}", "Many", labels=["one", "two"])
        for series in range(100):
            family.add_metric([f"one-{series}", "two"], series)
        families.append(family)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        text = await expose(families)
        nursery.cancel_scope.cancel()
    assert text.count(b"\n") == 7000 + 2 * 70
    assert turns >= 10


def test_a_tally_is_bounded_whatever_strangers_send() -> None:
    tally = Tally()
    for number in range(MOST_KEYS + 50):
        tally.add(f"cause-{number}")
    tally.add("cause-3")
    assert len(tally) == MOST_KEYS + 1
    assert (tally[("cause-3",)], tally[(OTHER,)]) == (2, 50)


def test_a_histogram_counts_up_to_and_with_each_bound() -> None:
    histogram = Histogram((1, 2, 5))
    for value in (0.5, 1, 1.5, 5, 7):
        histogram.observe(value)
    statistics = histogram.statistics()
    assert (statistics.cumulative, statistics.count, statistics.total) == ((2, 3, 4), 5, 15.0)
