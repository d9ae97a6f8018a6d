"""Prometheus texts: read, compared with an earlier one, and turned into rates and quantiles."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

Labels = Mapping[str, str]
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]
Wanted = Callable[[Labels], bool]


def read(text: str, prefix: str = "millirec_") -> Series:
    """The samples of the metrics that begin with `prefix`. Raises `ValueError` for what is not such a text."""
    return {
        (one.name, frozenset(one.labels.items())): one.value
        for family in text_string_to_metric_families(text)
        if family.name.startswith(prefix)
        for one in family.samples
    }


def increase(now: Series, before: Series) -> Series:
    """What was counted in between. A counter that is lower than before began anew, as Prometheus takes it."""
    return {key: value - before[key] if 0 <= before.get(key, -1.0) <= value else value for key, value in now.items()}


def together(parts: Iterable[Series]) -> Series:
    """The sum over replicas."""
    summed: Series = {}
    for part in parts:
        for key, value in part.items():
            summed[key] = summed.get(key, 0.0) + value
    return summed


def total(series: Series, name: str, wanted: Wanted = lambda _: True) -> float:
    """The sum of a metric's samples whose labels are `wanted`."""
    return sum(value for (metric, labels), value in series.items() if metric == name and wanted(dict(labels)))


def by_label(series: Series, name: str, label: str) -> dict[str, float]:
    """A metric's samples, added up for each value of one label."""
    added: dict[str, float] = {}
    for (metric, labels), value in series.items():
        if metric == name:
            key = dict(labels).get(label, "")
            added[key] = added.get(key, 0.0) + value
    return added


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Of a histogram's increase, in its own unit, interpolated within a bucket as `histogram_quantile` does."""

    p50: float
    p99: float


def quantiles(counted: Series, name: str, wanted: Wanted = lambda _: True) -> Quantiles | None:
    """None where nothing was observed."""
    buckets: dict[float, float] = {}
    for (metric, labels), value in counted.items():
        found = dict(labels)
        if metric == f"{name}_bucket" and wanted(found):
            bound = float(found["le"])
            buckets[bound] = buckets.get(bound, 0.0) + value
    ordered = sorted(buckets.items())
    if not ordered or ordered[-1][1] <= 0:
        return None
    return Quantiles(_quantile(ordered, 0.5), _quantile(ordered, 0.99))


def _quantile(buckets: list[tuple[float, float]], share: float) -> float:
    wanted = share * buckets[-1][1]
    lower, below = 0.0, 0.0
    for bound, count in buckets:
        if count >= wanted:
            if bound == float("inf"):
                return lower
            within = (wanted - below) / (count - below) if count > below else 1.0
            return min(bound, lower + (bound - lower) * within)
        lower, below = bound, count
    return lower
