"""Prometheus texts: parsed, compared with an earlier one, and turned into rates and quantiles."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

Labels = Mapping[str, str]
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]
LabelFilter = Callable[[Labels], bool]


def read(text: str, prefix: str = "millirec_") -> Series:
    """Return the samples of the metrics that begin with `prefix`. Raises `ValueError` for what is not such a text."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        if family.name.startswith(prefix)
        for sample in family.samples
    }


def increase(current: Series, previous: Series) -> Series:
    """Return what was counted in between; a counter that is lower than before was reset and counts whole."""
    return {
        key: value - previous[key] if 0 <= previous.get(key, -1.0) <= value else value for key, value in current.items()
    }


def together(parts: Iterable[Series]) -> Series:
    """Return the sum over replicas."""
    summed: Series = {}
    for part in parts:
        for key, value in part.items():
            summed[key] = summed.get(key, 0.0) + value
    return summed


def total(series: Series, name: str, matches: LabelFilter = lambda _: True) -> float:
    """Return the sum of a metric's samples whose labels `matches` accepts."""
    return sum(value for (metric, labels), value in series.items() if metric == name and matches(dict(labels)))


def by_label(series: Series, name: str, label: str) -> dict[str, float]:
    """Return a metric's samples, added up for each value of one label."""
    added: dict[str, float] = {}
    for (metric, labels), value in series.items():
        if metric == name:
            key = dict(labels).get(label, "")
            added[key] = added.get(key, 0.0) + value
    return added


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Quantiles of a histogram's increase, in its unit, interpolated as `histogram_quantile` does."""

    p50: float
    p99: float


def quantiles(counted: Series, name: str, matches: LabelFilter = lambda _: True) -> Quantiles | None:
    """Return the quantiles of a histogram, None where nothing was observed."""
    buckets: dict[float, float] = {}
    for (metric, labels), value in counted.items():
        values = dict(labels)
        if metric == f"{name}_bucket" and matches(values):
            bound = float(values["le"])
            buckets[bound] = buckets.get(bound, 0.0) + value
    ordered = sorted(buckets.items())
    if not ordered or ordered[-1][1] <= 0:
        return None
    return Quantiles(interpolated_quantile(ordered, 0.5), interpolated_quantile(ordered, 0.99))


def interpolated_quantile(buckets: Sequence[tuple[float, float]], share: float) -> float:
    """Return the `share` quantile of cumulated counts by ascending upper bound, as if evenly spread in a bucket.

    0 without buckets; the last finite bound for what lies above it.
    """
    target = share * buckets[-1][1]
    lower, below = 0.0, 0.0
    for bound, count in buckets:
        if count >= target:
            if bound == float("inf"):
                return lower
            within = (target - below) / (count - below) if count > below else 1.0
            return min(bound, lower + (bound - lower) * within)
        lower, below = bound, count
    return lower
