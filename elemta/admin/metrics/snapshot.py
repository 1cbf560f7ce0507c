"""The server at the moment of a scrape, as families of metrics. Labels are bounded: see `Tally`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs
from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from elemta.queue import SiteStatistics
from elemta.runtime import pool_statistics
from elemta.spool import QueueFilter, RecipientState, SpoolStatistics

from ..counts import Counts
from .families import add_histogram, counter, gauge, histogram, tally
from .parts import certificates, dns, judges, plugins, verifier

if TYPE_CHECKING:
    from ..api import Facts

MOST_ROUTES = 200
"""Destinations with gauges of their own, those with most to do."""
_process = ProcessCollector(namespace="elemta", registry=None)
"""Processor, memory and open files, from /proc."""


@attrs.frozen
class Looked:
    """What had to be asked of the spool, and waited for."""

    totals: SpoolStatistics
    oldest: dict[str, float]
    """When the oldest message of each state was received."""


async def look(facts: Facts) -> Looked:
    """Ask the spool.

    Raises:
      SpoolError: it does not answer.
    """
    totals = await facts.spool.totals()
    oldest = {}
    for state in (RecipientState.QUEUED, RecipientState.HELD):
        for entry in await facts.spool.list(QueueFilter(state=state), limit=1):
            oldest[state.name.lower()] = entry.received
    return Looked(totals, oldest)


def families(facts: Facts, looked: Looked) -> Iterator[Metric]:
    """All metrics."""
    yield from _server(facts)
    yield from _sessions(facts.counts)
    yield from _messages(facts.counts)
    yield from _deliveries(facts.counts)
    yield from _queue(facts, looked)
    yield from _sites(facts.queue.statistics().sites)
    yield from _storage(facts)
    yield from _watching(facts)
    yield from certificates(facts)
    yield from dns(facts)
    yield from judges(facts)
    yield from verifier(facts)
    yield from plugins(facts)


def _server(facts: Facts) -> Iterator[Metric]:
    build = GaugeMetricFamily("elemta_build_info", "Always 1", labels=["version", "python"])
    build.add_metric([facts.version, ".".join(map(str, sys.version_info[:3]))], 1)
    yield build
    yield gauge("elemta_start_timestamp_seconds", "When the server started, since 1970", facts.started)
    ready = facts.readiness().ready
    yield gauge("elemta_ready", "Whether new mail is accepted", int(ready))
    yield gauge("elemta_draining", "Whether the server stops", int(facts.drain.draining))
    yield from _process.collect()
    yield counter("elemta_crashes", "Contained crashes of tasks", facts.counts.crashes)
    yield tally("elemta_admin_changes", "Changes through the admin port", ["operation"], facts.counts.admin)
    if facts.load is not None:
        load = facts.load.statistics()
        yield gauge("elemta_loop_lag_seconds", "By how much the event loop is late, smoothed", load.lag)
        yield gauge("elemta_loop_lag_worst_seconds", "The same at its worst, lately", load.worst_lag)
        yield gauge("elemta_overloaded", "Whether new mail is deferred for load", int(bool(load.overload)))
        yield counter("elemta_overloads", "How often that began", load.overloads)
    size = GaugeMetricFamily("elemta_threads_limit", "Threads that a purpose may use", labels=["pool"])
    running = GaugeMetricFamily("elemta_threads_running", "Threads that work", labels=["pool"])
    waiting = GaugeMetricFamily("elemta_threads_waiting", "Tasks that wait for a thread", labels=["pool"])
    for pool in pool_statistics():
        size.add_metric([pool.name], pool.size)
        running.add_metric([pool.name], pool.running)
        waiting.add_metric([pool.name], pool.waiting)
    yield from (size, running, waiting)


def _sessions(counts: Counts) -> Iterator[Metric]:
    yield tally("elemta_sessions", "Sessions opened", ["listener"], counts.sessions)
    yield tally("elemta_sessions_closed", "Sessions that ended, by what ended them", ["cause"], counts.closed)
    yield histogram("elemta_session_seconds", "How long sessions lasted", counts.session_seconds)
    yield counter("elemta_sessions_refused", "Connections turned away", counts.refused)
    yield tally("elemta_sessions_tls", "Sessions that became private", ["version"], counts.tls)
    yield tally(
        "elemta_authentications", "Clients that proved who they are", ["mechanism"], counts.authenticated
    )
    yield tally(
        "elemta_commands_rejected",
        "Commands answered 4yz or 5yz",
        ["verb", "code", "enhanced"],
        counts.rejected,
    )


def _messages(counts: Counts) -> Iterator[Metric]:
    yield counter("elemta_messages_accepted", "Messages accepted", counts.messages)
    yield counter("elemta_accepted_bytes", "Octets of messages accepted", counts.octets)
    yield histogram("elemta_message_bytes", "How large accepted messages are", counts.sizes)
    yield tally(
        "elemta_messages_rejected",
        "Bodies that were received, or begun, and not accepted",
        ["code", "enhanced"],
        counts.bodies_rejected,
    )
    yield tally("elemta_notices", "Delivery status notifications made", ["action"], counts.notices)


def _deliveries(counts: Counts) -> Iterator[Metric]:
    yield counter("elemta_recipients_delivered", "Recipients delivered", counts.delivered)
    yield tally("elemta_recipients_deferred", "Attempts that were deferred", ["cause"], counts.deferred)
    yield tally("elemta_recipients_failed", "Recipients that failed", ["cause"], counts.failed)
    yield tally("elemta_recipients_held", "Recipients that the server put on hold", ["reason"], counts.held)
    yield tally(
        "elemta_route_recipients", "Results of attempts by destination", ["route", "outcome"], counts.routes
    )
    yield histogram("elemta_delivery_seconds", "From acceptance to delivery", counts.in_queue)
    phases = HistogramMetricFamily(
        "elemta_attempt_phase_seconds",
        "Where the time of recipients went: before the queue, in it, making the connection, over it",
        labels=["phase"],
    )
    for phase, each in counts.phases.items():
        add_histogram(phases, [phase], each.statistics())
    yield phases
    steps = HistogramMetricFamily(
        "elemta_attempt_step_seconds",
        "What attempts spent their time on, for those that had such a step",
        labels=["step"],
    )
    for step, each in counts.steps.items():
        add_histogram(steps, [step], each.statistics())
    yield steps
    yield tally("elemta_sites_suspensions", "Destinations that were left alone", ["reason"], counts.suspended)


def _queue(facts: Facts, looked: Looked) -> Iterator[Metric]:
    totals, now = looked.totals, facts.clock.time()
    recipients = GaugeMetricFamily("elemta_queue_recipients", "Recipients in the spool", labels=["state"])
    recipients.add_metric(["queued"], totals.queued)
    recipients.add_metric(["leased"], totals.leased)
    recipients.add_metric(["held"], totals.held)
    yield recipients
    ages = GaugeMetricFamily(
        "elemta_queue_oldest_seconds", "Age of the oldest message with such a recipient", labels=["state"]
    )
    for state in ("queued", "held"):
        received = looked.oldest.get(state)
        ages.add_metric([state], 0.0 if received is None else max(0.0, now - received))
    yield ages
    fates = CounterMetricFamily(
        "elemta_spool_recipients", "What became of all recipients since the spool was made", labels=["fate"]
    )
    for fate in ("accepted", "delivered", "failed", "expired", "removed"):
        fates.add_metric([fate], getattr(totals, fate))
    yield fates
    yield gauge(
        "elemta_queue_difference",
        "Accepted recipients that are neither final, held nor queued; anything but 0 is a loss",
        totals.difference,
    )
    yield gauge("elemta_queue_messages", "Messages in the spool", totals.messages)
    yield gauge("elemta_queue_bytes", "Octets of messages in the spool", totals.octets)
    queue = facts.queue.statistics()
    yield gauge("elemta_active_messages", "Messages in memory", queue.active_messages)
    yield gauge("elemta_active_bytes", "Bodies in memory, octets", queue.active_octets)
    yield gauge("elemta_attempts_running", "Attempts under way", len(facts.queue.underway.views()))
    yield gauge("elemta_sessions_open", "Sessions open now", facts.open_sessions())


def _sites(sites: tuple[SiteStatistics, ...]) -> Iterator[Metric]:
    yield gauge("elemta_sites", "Destinations in memory", len(sites))
    ready = GaugeMetricFamily("elemta_route_ready", "Jobs that are ready for a destination", labels=["route"])
    connections = GaugeMetricFamily("elemta_route_connections", "Connections to it", labels=["route"])
    suspended = GaugeMetricFamily(
        "elemta_route_suspended_seconds", "For how long it is left alone from now on", labels=["route"]
    )
    busiest = sorted(sites, key=lambda each: (each.ready, each.dispatchers), reverse=True)[:MOST_ROUTES]
    for site in busiest:
        ready.add_metric([site.route], site.ready)
        connections.add_metric([site.route], site.dispatchers)
        suspended.add_metric([site.route], site.suspended_for)
    yield from (ready, connections, suspended)


def _storage(facts: Facts) -> Iterator[Metric]:
    writer = facts.spool.statistics()
    yield counter("elemta_commits", "Transactions of the spool", writer.commits)
    yield counter("elemta_commit_requests", "Requests committed in them", writer.requests)
    yield histogram("elemta_commit_seconds", "How long the flush of a commit took", writer.seconds)
    yield histogram("elemta_commit_group_requests", "Requests in one commit", writer.groups)
    yield gauge("elemta_commit_waiting", "Tasks that wait for a commit", writer.waiting)
    yield gauge("elemta_commit_pending_records", "Results that are not stored yet", writer.pending_records)
    yield counter("elemta_leases_lost", "Results that came after their lease", writer.lost_leases)
    yield gauge("elemta_wal_pages", "Pages in the write-ahead log", writer.log_pages)
    yield tally("elemta_storage_trouble", "Troubles of storage", ["what"], facts.counts.storage)
    if facts.config is None:
        return
    folder = facts.config().state_dir
    try:
        status = os.statvfs(folder)
        spool = sum(entry.stat().st_size for entry in os.scandir(folder) if entry.name.startswith("spool"))
    except OSError:
        return
    yield gauge("elemta_disk_free_bytes", "Free for the state folder", status.f_bavail * status.f_frsize)
    yield gauge("elemta_disk_size_bytes", "Size of its file system", status.f_blocks * status.f_frsize)
    yield gauge("elemta_spool_file_bytes", "Size of the spool's database", spool)


def _watching(facts: Facts) -> Iterator[Metric]:
    bus = facts.bus.statistics()
    yield counter("elemta_events", "Events published", bus.published)
    failures = CounterMetricFamily("elemta_event_failures", "Observers that crashed", labels=["observer"])
    for observer in bus.observers:
        failures.add_metric([observer.name], observer.failures)
    yield failures
    lost = CounterMetricFamily(
        "elemta_events_lost", "Events that a watcher was too slow for", labels=["watcher"]
    )
    for subscription in bus.subscriptions:
        lost.add_metric([subscription.name], subscription.lost)
    if facts.watchers is not None:
        tail = facts.watchers.statistics()
        lost.add_metric(["tail"], tail.lost)
        yield gauge("elemta_tail_clients", "Programs and people that follow the events", tail.watchers)
    for name, log in (facts.log() if facts.log is not None else {}).items():
        lost.add_metric([name], log.dropped)
    yield lost
