"""Trend counts: what was wanted hour by hour. Ingest counts, the feature store keeps, the recommender ranks."""

from collections.abc import Mapping
from dataclasses import dataclass

HOUR_MS = 3_600_000
TREND_HOURS = 168
"""Hours of event time that are counted and kept: a week, so that what is usual has every day in it."""

TREND_UNITS = 1000
"""Weights are counted in thousandths: sums of integers are exact, in any order."""


@dataclass(frozen=True, slots=True)
class TrendCounts:
    """Weights by hour (since 1970) and item of one partition's records above `base_offset`, up to `reached`."""

    partition: str
    base_offset: int
    reached: int
    hours: Mapping[int, Mapping[str, int]]


def hour_of(at_ms: float) -> int:
    """The hour (since 1970) of a time in epoch milliseconds."""
    return int(at_ms // HOUR_MS)
