"""Metrics of the parts that only some servers have: certificates, DNS, accounts, policy, plugins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from elemta.plugin import Standing

from .families import add_histogram, counter, gauge

if TYPE_CHECKING:
    from ..api import Facts


def certificates(facts: Facts) -> Iterator[Metric]:
    """TLS."""
    if facts.tls is None:
        return
    ends = GaugeMetricFamily(
        "elemta_certificate_end_timestamp_seconds",
        "When a certificate ends, in seconds since 1970",
        labels=["file", "name"],
    )
    for each in facts.tls.certificates():
        ends.add_metric([str(each.path), each.names[0] if each.names else ""], each.not_after)
    yield ends
    handshakes = facts.tls.handshakes()
    family = GaugeMetricFamily("elemta_tls_handshakes", "TLS handshakes with clients now", labels=["state"])
    family.add_metric(["running"], handshakes.running)
    family.add_metric(["waiting"], handshakes.waiting)
    yield family


_DNS = {
    "hits": "Questions answered from the cache",
    "misses": "Questions that were asked outside",
    "joined": "Questions that waited for the same one",
    "evicted": "Answers dropped for want of room",
    "failures": "Questions that nobody could answer",
}


def dns(facts: Facts) -> Iterator[Metric]:
    """The resolver."""
    if facts.dns is None:
        return
    found = facts.dns.statistics()
    for name, text in _DNS.items():
        yield counter(f"elemta_dns_{name}", text, found[name])
    yield gauge("elemta_dns_entries", "Answers in the cache", found["entries"])
    yield gauge("elemta_dns_running", "Questions that are being asked", found["in_flight"])


def judges(facts: Facts) -> Iterator[Metric]:
    """Policy: what was found, and what followed."""
    if facts.gate is not None:
        gate = facts.gate.statistics()
        family = CounterMetricFamily(
            "elemta_policy_findings", "Findings of checks of clients", labels=["check", "action"]
        )
        for action, counts in (("noted", gate.noted), ("refused", gate.refused)):
            for check, count in sorted(counts.items()):
                family.add_metric([check, action], count)
        yield family
        lists = CounterMetricFamily(
            "elemta_dns_list_answers", "Answers of DNS lists", labels=["list", "answer"]
        )
        for each in gate.lists:
            for answer in ("asked", "listed", "unanswered", "refused"):
                lists.add_metric([each.name, answer], getattr(each, answer))
        yield lists
    if facts.notary is not None:
        notary = facts.notary.statistics()
        results = CounterMetricFamily(
            "elemta_policy_results", "Results of checks of messages", labels=["method", "result"]
        )
        for text, count in notary.results:
            method, _, result = text.partition("=")
            results.add_metric([method, result], count)
        yield results
        done = CounterMetricFamily("elemta_policy_messages", "Messages by what policy did", labels=["action"])
        for action in ("checked", "refused", "quarantined", "signed", "sealed"):
            done.add_metric([action], getattr(notary, action))
        yield done


def verifier(facts: Facts) -> Iterator[Metric]:
    """What next hops were asked about recipients."""
    if facts.verifier is None:
        return
    found = facts.verifier.statistics()
    asked = CounterMetricFamily(
        "elemta_verifications", "Questions to next hops about recipients", labels=["verdict"]
    )
    for verdict, count in found.verdicts:
        asked.add_metric([verdict], count)
    yield asked
    yield counter("elemta_verifications_remembered", "Such questions answered from memory", found.answered)
    yield gauge("elemta_verifications_running", "Such questions under way", found.under_way)
    yield gauge("elemta_verified_recipients", "Recipients of which is known what was said", found.remembered)


def plugins(facts: Facts) -> Iterator[Metric]:
    """Plugins: how they do, and what they count themselves."""
    if facts.plugins is None:
        return
    running = GaugeMetricFamily("elemta_plugin_running", "Whether a plugin is in service", labels=["plugin"])
    calls = CounterMetricFamily("elemta_plugin_calls", "Calls that ended", labels=["plugin"])
    seconds = CounterMetricFamily("elemta_plugin_seconds", "Time of these calls", labels=["plugin"])
    active = GaugeMetricFamily("elemta_plugin_active", "Calls under way", labels=["plugin"])
    failures = CounterMetricFamily(
        "elemta_plugin_failures", "Calls without an answer", labels=["plugin", "kind"]
    )
    restarts = CounterMetricFamily("elemta_plugin_restarts", "Restarts", labels=["plugin"])
    took = HistogramMetricFamily(
        "elemta_plugin_call_seconds", "How long calls took, by hook", labels=["plugin", "hook"]
    )
    own = GaugeMetricFamily("elemta_plugin_value", "What a plugin counts itself", labels=["plugin", "name"])
    lasted = HistogramMetricFamily(
        "elemta_plugin_duration_seconds", "What a plugin measures itself", labels=["plugin", "name"]
    )
    for status in facts.plugins.statuses():
        name, statistics = status.name, status.statistics
        running.add_metric([name], int(status.standing is Standing.RUNNING))
        calls.add_metric([name], statistics.calls)
        seconds.add_metric([name], statistics.seconds)
        active.add_metric([name], statistics.active)
        restarts.add_metric([name], statistics.restarts)
        for kind, count in statistics.failures.items():
            failures.add_metric([name, kind.value], count)
        for hook, durations in status.durations.items():
            add_histogram(took, [name, hook], durations)
        for key, value in status.measured.values.items():
            own.add_metric([name, key], value)
        for key, durations in status.measured.durations.items():
            add_histogram(lasted, [name, key], durations)
    yield from (running, calls, seconds, active, failures, restarts, took, own, lasted)
