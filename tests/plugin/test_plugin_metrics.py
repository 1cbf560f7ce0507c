"""What plugins count: kinds, bounds, from workers too, and what is shown of it."""

import json
from types import SimpleNamespace

import pytest
import trio
from plugin_bed import hosting, loaded

from elemta.admin.metrics.parts import plugins
from elemta.app.plugins import WorkerDesk
from elemta.plugin import HookArguments, Metrics
from elemta.plugin.api import Plugin, hook
from elemta.plugin.metrics import LONGEST_NAME, MOST_NAMES
from elemta.plugin.served import RemoteMetrics


class Collected:
    """In the place of what carries questions to the server."""

    def __init__(self):
        self.waiting = []

    def send(self, name, content):
        self.waiting.append((name, content))


def use(metrics):
    metrics.count("listed")
    metrics.count("listed", 2)
    metrics.set("waiting", 7)
    metrics.set("waiting", 3)
    metrics.observe("lookup", 0.02)
    metrics.observe("lookup", 2)


def check(measured):
    assert measured.values == {"listed": 3, "waiting": 3.0}
    assert (measured.durations["lookup"].count, measured.durations["lookup"].total) == (2, 2.02)


def test_a_plugin_counts_sets_and_measures():
    metrics = Metrics()
    use(metrics)
    check(metrics.measured())


def test_names_are_bounded_in_number_and_length():
    metrics = Metrics()
    for number in range(2 * MOST_NAMES):
        metrics.count(f"{number:x<200}")
        metrics.set(f"g{number}", 1)
        metrics.observe(f"d{number}", 1)
    measured = metrics.measured()
    assert len(measured.values) + len(measured.durations) == MOST_NAMES
    assert max(map(len, measured.values)) == LONGEST_NAME
    before = dict(measured.values)
    metrics.count(f"{0:x<200}")
    assert metrics.measured().values[f"{0:x<100}"] == before[f"{0:x<100}"] + 1


def test_a_name_is_of_one_kind_and_what_is_no_number_is_not_kept():
    metrics = Metrics()
    metrics.count("a")
    metrics.set("a", 5)
    metrics.observe("a", 5)
    metrics.observe("b", float("nan"))
    assert metrics.measured().values == {"a": 1}
    assert metrics.measured().durations == {}


async def test_what_workers_measure_is_added_up_by_the_server():
    errands, metrics = Collected(), Metrics()
    remote = RemoteMetrics(errands=errands)
    use(remote)
    ((name, content),) = errands.waiting
    desk = WorkerDesk(metrics, None, None, None)
    await desk.answer(name, content())
    check(metrics.measured())
    use(remote)
    assert len(errands.waiting) == 2


@pytest.mark.parametrize("said", [{}, {"counts": []}, {"counts": {"a": "x"}, "gauges": {}, "durations": {}}])
async def test_what_a_worker_makes_up_changes_nothing(said):
    metrics = Metrics()
    with pytest.raises((ValueError, KeyError, AttributeError)):
        await WorkerDesk(metrics, None, None, None).answer("measure", json.dumps(said).encode())
    assert metrics.measured().values == {}


class Slow(Plugin):
    @hook("rcpt")
    async def check(self):
        await trio.sleep(0.3)


async def test_the_time_of_calls_is_shown_by_hook(autojump_clock):
    async with hosting(loaded(Slow)) as (host, _, _):
        await host.ask("rcpt", HookArguments(recipient="a@example.org"), {})
        use(host._services[0].ward.metrics)
        families = {each.name: each for each in plugins(SimpleNamespace(plugins=host))}
    took = {
        sample.labels.get("le"): sample.value for sample in families["elemta_plugin_call_seconds"].samples
    }
    assert (took["0.25"], took["0.5"]) == (0, 1)
    assert {sample.labels["hook"] for sample in families["elemta_plugin_call_seconds"].samples} == {"rcpt"}
    own = {sample.labels["name"]: sample.value for sample in families["elemta_plugin_value"].samples}
    assert own == {"listed": 3, "waiting": 3}
    assert families["elemta_plugin_duration_seconds"].samples[0].labels["name"] == "lookup"
