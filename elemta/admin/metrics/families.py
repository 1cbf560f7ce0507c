"""Families of metrics out of one number, one tally or one histogram."""

from __future__ import annotations

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from elemta.runtime import Histogram, HistogramStatistics

from ..counts import Tally


def gauge(name: str, text: str, value: float) -> Metric:
    """What can fall."""
    return GaugeMetricFamily(name, text, value=value)


def counter(name: str, text: str, value: float) -> Metric:
    """What only rises; its name ends in `_total` where it is read."""
    return CounterMetricFamily(name, text, value=value)


def tally(name: str, text: str, labels: list[str], values: Tally) -> Metric:
    """One counter for each combination of labels."""
    family = CounterMetricFamily(name, text, labels=labels)
    for key, value in sorted(values.items()):
        family.add_metric(key, value)
    return family


def histogram(name: str, text: str, values: Histogram | HistogramStatistics) -> Metric:
    """How large something was."""
    family = HistogramMetricFamily(name, text)
    add_histogram(family, [], values.statistics() if isinstance(values, Histogram) else values)
    return family


def add_histogram(family: HistogramMetricFamily, labels: list[str], values: HistogramStatistics) -> None:
    """One histogram of a family that has several."""
    buckets = [(f"{bound:g}", count) for bound, count in zip(values.bounds, values.cumulative, strict=True)]
    family.add_metric(labels, [*buckets, ("+Inf", values.count)], values.total)
