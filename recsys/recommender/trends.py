"""Trends: what is wanted more than usual now, from hourly counts that ingest makes and the feature store keeps."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import compress
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recsys.index.id_map import UNKNOWN
from recsys.recommender.ranked import NOTHING, Ranked

if TYPE_CHECKING:
    # Ingest and stores count without opening a version, and start without a search library.
    from recsys.catalogue.catalogue import Catalogue
    from recsys.index.index import Index

HOUR_MS = 3_600_000
TREND_HOURS = 168
"""Hours of event time that are counted and kept: a week, so that what is usual has every day in it."""

TREND_UNITS = 1000
"""Weights are counted in thousandths: sums of integers are exact, in any order."""

MIN_EVIDENCE = 2.0
"""Summed type weights within the window below which an item is left out: two purchases, ten views."""

MIN_SCORE = 1.0
"""Standard deviations above the usual below which an item is left out: all items are a little above or below."""

MAX_UNKNOWN = 200
"""Items the version does not know, looked for among the new ones of the catalogue."""

Weights = NDArray[np.float64]
Counted = tuple[NDArray[np.int64], Weights]


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


@dataclass(frozen=True, slots=True)
class _Scored:
    """Items of one window, best first: those of the version by row, the others by name."""

    version_items: Ranked
    unknown: tuple[str, ...]
    unknown_scores: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Trends:
    """Counts as of `hour` (since 1970): per hour the `codes` (m,) and weights (m,) of what was wanted in it.

    `codes` gives the code of each item id. Immutable but for what was ranked already; `updated` makes a new one.
    """

    hour: int = 0
    codes: Mapping[str, int] = field(default_factory=dict, repr=False)
    hours: Mapping[int, Counted] = field(default_factory=dict, repr=False)
    _scored: dict[tuple[str, int], _Scored] = field(default_factory=dict, repr=False, compare=False)
    _ranked: dict[tuple[str, int], tuple["Catalogue", Ranked]] = field(default_factory=dict, repr=False, compare=False)

    def updated(self, hour: int, counts: Mapping[int, Mapping[str, int]]) -> "Trends":
        """As of `hour`, with the hours in `counts` (thousandths by item id) in the place of those known."""
        codes = dict(self.codes)
        hours = {
            counted_hour: counted for counted_hour, counted in self.hours.items() if counted_hour > hour - TREND_HOURS
        }
        for counted_hour, weights in counts.items():
            coded = [codes.setdefault(item_id, len(codes)) for item_id in weights]
            summed = np.fromiter(weights.values(), np.float64, len(weights)) / TREND_UNITS
            hours[counted_hour] = (np.array(coded, np.int64), summed)
        return Trends(hour, codes, hours)

    def ranked(self, catalogue: "Catalogue", hours: float) -> Ranked:
        """The items wanted more than usual within the last `hours`, best first.

        Where too little was counted for that, what trended at the version's own watermark.
        """
        key = (catalogue.index.version, ceil(hours))
        ranking = self._ranked.get(key)
        if ranking is None or ranking[0] is not catalogue:
            ranking = self._ranked[key] = (catalogue, self._rank(catalogue, ceil(hours)))
        return ranking[1]

    def warm(self, catalogue: "Catalogue", previous: "Trends") -> None:
        """Rank now for every window that `previous` was asked for, so that no request waits for it."""
        for _, hours in list(previous._ranked):
            self.ranked(catalogue, hours)

    def _rank(self, catalogue: "Catalogue", hours: int) -> Ranked:
        index = catalogue.index
        scored = self._scored.get((index.version, hours))
        if scored is None:
            scored = self._scored[index.version, hours] = self._score(index, hours)
        rows, scores = scored.version_items.rows, scored.version_items.scores
        if scored.unknown:
            new = catalogue.rows(scored.unknown)
            rows = np.concatenate((rows, new[new != UNKNOWN]))
            scores = np.concatenate((scores, scored.unknown_scores[new != UNKNOWN]))
            order = np.argsort(-scores, kind="stable")
            rows, scores = rows[order], scores[order]
        if len(rows):
            return Ranked(rows, scores)
        return Ranked(index.trending_rows, index.trending[index.trending_rows])

    def _score(self, index: "Index", hours: int) -> _Scored:
        since = self.hour - hours
        recent = self._summed(hour for hour in self.hours if hour >= since)
        earlier_weights = self._summed(hour for hour in self.hours if hour < since)
        enough = recent >= MIN_EVIDENCE
        names = list(compress(self.codes, enough.tolist()))
        if not names:
            return _Scored(NOTHING, (), np.empty(0, np.float32))
        rows = index.item_id.rows(names)
        popular = np.where(rows == UNKNOWN, 0.0, index.popularity[rows])
        share = usual_share(
            earlier_weights[enough], earlier_weights.sum(), popular / (index.popularity.sum() or 1.0), recent.sum()
        )
        scores = above_usual(recent[enough], share * recent.sum())
        order = np.argsort(-scores, kind="stable")
        order = order[scores[order] >= MIN_SCORE]
        version_order, unknown = order[rows[order] != UNKNOWN], order[rows[order] == UNKNOWN][:MAX_UNKNOWN]
        return _Scored(
            Ranked(rows[version_order], scores[version_order]),
            tuple(names[position] for position in unknown.tolist()),
            scores[unknown],
        )

    def _summed(self, hours: Iterable[int]) -> Weights:
        """Weight per code, over `hours`."""
        counted = [self.hours[hour] for hour in hours]
        if not counted:
            return np.zeros(len(self.codes))
        codes, weights = (np.concatenate(parts) for parts in zip(*counted, strict=True))
        summed: Weights = np.bincount(codes, weights, len(self.codes)).astype(np.float64)
        return summed


def usual_share(earlier_weights: Weights, total_earlier: float, popular: Weights, trust: float) -> Weights:
    """Share of all that is wanted, per item, as counted `earlier_weights` (m,) of `total_earlier`.

    Smoothed towards the share by popularity, which counts as much as `trust` more would (a Dirichlet prior): it
    is all there is when the service has just been started, and little after a week.
    """
    return (earlier_weights + trust * popular) / max(total_earlier + trust, 1e-9)


def above_usual(weights: Weights, expected: Weights) -> NDArray[np.float32]:
    """How far `weights` (m,) is above `expected` (m,), in standard deviations of a Poisson count of that mean.

    One more in the root keeps a single event of an item without any from ranking first. 0: not above.
    """
    return np.maximum((weights - expected) / np.sqrt(expected + 1.0), 0.0).astype(np.float32)
