"""Prometheus metrics: counted from events in plain integers, read from `statistics()` when scraped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from elemta.events import (
    CommandRejected,
    Event,
    MessageAccepted,
    RecipientDeferred,
    RecipientDelivered,
    RecipientFailed,
    SessionOpened,
    SessionRefused,
    TaskCrashed,
)
from elemta.spool import SpoolStatistics
from elemta.tls import TlsContexts

if TYPE_CHECKING:
    from .api import Facts

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Counts:
    """What has happened since the start. `observe` is a synchronous observer of the event bus."""

    def __init__(self) -> None:
        self.sessions: Counter[str] = Counter()
        self.refused = 0
        self.rejected: Counter[str] = Counter()
        self.messages = 0
        self.octets = 0
        self.delivered = 0
        self.deferred: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.crashes = 0

    def observe(self, event: Event) -> None:
        match event:
            case RecipientDelivered():
                self.delivered += 1
            case MessageAccepted():
                self.messages += 1
                self.octets += event.size
            case SessionOpened():
                self.sessions[event.listener] += 1
            case CommandRejected():
                self.rejected[event.reply[:3]] += 1
            case RecipientDeferred():
                self.deferred[event.cause] += 1
            case RecipientFailed():
                self.failed[event.cause] += 1
            case SessionRefused():
                self.refused += 1 + event.more
            case TaskCrashed():
                self.crashes += 1


class _Snapshot(Collector):
    def __init__(self, facts: Facts, totals: SpoolStatistics) -> None:
        self._facts = facts
        self._totals = totals

    def collect(self) -> Iterator[Metric]:
        counts, totals = self._facts.counts, self._totals
        yield _counter("elemta_sessions", "Sessions opened", "listener", counts.sessions)
        yield CounterMetricFamily("elemta_sessions_refused", "Connections turned away", value=counts.refused)
        yield _counter("elemta_commands_rejected", "Commands answered 4yz or 5yz", "code", counts.rejected)
        yield CounterMetricFamily("elemta_messages_accepted", "Messages accepted", value=counts.messages)
        yield CounterMetricFamily("elemta_octets_accepted", "Octets accepted", value=counts.octets)
        yield CounterMetricFamily(
            "elemta_recipients_delivered", "Recipients delivered", value=counts.delivered
        )
        yield _counter("elemta_recipients_deferred", "Attempts that were deferred", "cause", counts.deferred)
        yield _counter("elemta_recipients_failed", "Recipients that failed", "cause", counts.failed)
        yield CounterMetricFamily("elemta_crashes", "Contained crashes of tasks", value=counts.crashes)
        recipients = GaugeMetricFamily("elemta_queue_recipients", "Recipients in the spool", labels=["state"])
        recipients.add_metric(["queued"], totals.queued)
        recipients.add_metric(["leased"], totals.leased)
        recipients.add_metric(["held"], totals.held)
        yield recipients
        yield GaugeMetricFamily(
            "elemta_queue_difference",
            "Accepted recipients that are neither final, held nor queued; anything but 0 is a loss",
            value=totals.difference,
        )
        yield GaugeMetricFamily("elemta_queue_messages", "Messages in the spool", value=totals.messages)
        yield GaugeMetricFamily("elemta_queue_octets", "Octets in the spool", value=totals.octets)
        queue = self._facts.queue.statistics()
        yield GaugeMetricFamily("elemta_active_messages", "Messages in memory", value=queue.active_messages)
        yield GaugeMetricFamily("elemta_active_octets", "Bodies in memory, octets", value=queue.active_octets)
        yield GaugeMetricFamily(
            "elemta_sessions_open", "Sessions open now", value=self._facts.open_sessions()
        )
        if self._facts.tls is not None:
            yield from _tls(self._facts.tls)


def _tls(tls: TlsContexts) -> Iterator[Metric]:
    ends = GaugeMetricFamily(
        "elemta_certificate_end_timestamp_seconds",
        "When a certificate ends, in seconds since 1970",
        labels=["file", "name"],
    )
    for certificate in tls.certificates():
        ends.add_metric(
            [str(certificate.path), certificate.names[0] if certificate.names else ""], certificate.not_after
        )
    yield ends
    handshakes = tls.handshakes()
    family = GaugeMetricFamily("elemta_tls_handshakes", "TLS handshakes with clients now", labels=["state"])
    family.add_metric(["running"], handshakes.running)
    family.add_metric(["waiting"], handshakes.waiting)
    yield family


def _counter(name: str, documentation: str, label: str, values: Counter[str]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, documentation, labels=[label])
    for key, value in sorted(values.items()):
        family.add_metric([key], value)
    return family


def render(facts: Facts, totals: SpoolStatistics) -> bytes:
    """The exposition text."""
    registry = CollectorRegistry()
    registry.register(_Snapshot(facts, totals))
    return generate_latest(registry)
