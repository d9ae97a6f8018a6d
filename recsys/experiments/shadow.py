"""Comparison of a shadow's answers with the live ones: running counts that many workers add to, and their report."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence

import msgspec

SECONDS = tuple(0.0001 * 1.25**n for n in range(48))
"""Upper ends of the buckets that times are counted in: 0.1 ms to 3.6 s, a quarter apart."""
OVERLAP, SCORES, MILLIONTHS = "overlap", "scores", 1_000_000
COMPARED, FAILED, SKIPPED = "compared", "failed", "skipped"


class Seconds(msgspec.Struct, frozen=True):
    """Time in the recommender per query; to within a quarter, as the buckets are. `None`: nothing compared yet."""

    live_p50: float | None
    live_p99: float | None
    shadow_p50: float | None
    shadow_p99: float | None


class Scores(msgspec.Struct, frozen=True):
    """Mean score of the items that were found by the user's vector."""

    live_mean: float | None
    shadow_mean: float | None


class ShadowReport(msgspec.Struct, frozen=True):
    """`overlap`: mean share of the items of an answer that are in the shadow's too; `skipped` for want of budget."""

    compared: int
    failed: int
    skipped: int
    overlap: float | None
    seconds: Seconds
    scores: Scores


def time_counted(side: str, seconds: float) -> str:
    """The name of the count that `seconds` add one to."""
    return f"{side}:{bisect_left(SECONDS, seconds)}"


def report(counts: Mapping[str, int]) -> ShadowReport:
    """The comparison of live and shadow answers that these running counts amount to."""
    compared = counts.get(COMPARED, 0)
    live, shadow = (_times(counts, side) for side in ("live", "shadow"))
    return ShadowReport(
        compared=compared,
        failed=counts.get(FAILED, 0),
        skipped=counts.get(SKIPPED, 0),
        overlap=counts.get(OVERLAP, 0) / MILLIONTHS / compared if compared else None,
        seconds=Seconds(_quantile(live, 0.5), _quantile(live, 0.99), _quantile(shadow, 0.5), _quantile(shadow, 0.99)),
        scores=Scores(_mean(counts, "live"), _mean(counts, "shadow")),
    )


def _times(counts: Mapping[str, int], side: str) -> list[int]:
    return [counts.get(f"{side}:{bucket}", 0) for bucket in range(len(SECONDS) + 1)]


def _quantile(times: Sequence[int], share: float) -> float | None:
    """The upper end of the bucket that it lies in."""
    threshold, cumulative_count = share * sum(times), 0
    for bucket, count in enumerate(times):
        cumulative_count += count
        if count and cumulative_count >= threshold:
            return SECONDS[min(bucket, len(SECONDS) - 1)]
    return None


def _mean(counts: Mapping[str, int], side: str) -> float | None:
    number = counts.get(f"{side}:{SCORES}:n", 0)
    return counts.get(f"{side}:{SCORES}", 0) / MILLIONTHS / number if number else None
