"""Trend counts: what is wanted now, by item and hour of event time, each record counted once."""

from collections import defaultdict
from collections.abc import Sequence

from recsys.errors import StoreUnavailable
from recsys.feature_store import FeatureStore
from recsys.interaction import (
    DEFAULT_TYPE_WEIGHTS,
    FUTURE_TOLERANCE,
    IMPRESSION,
    OTHER_TYPE_WEIGHT,
    Interaction,
    epoch_ms,
)
from recsys.trend import TREND_HOURS, TREND_UNITS, TrendCounts, hour_of
from recsys.user_features import Positioned

ATTEMPTS = 5
REMEMBERED = 50_000

_UNITS = {name: round(weight * TREND_UNITS) for name, weight in DEFAULT_TYPE_WEIGHTS.items()} | {IMPRESSION: 0}
_OTHER_UNITS = round(OTHER_TYPE_WEIGHT * TREND_UNITS)


class TrendCounter:
    """Counts into the store, which keeps with the counts how far each partition was counted.

    A producer's repeat is recognised among the last counted here, unlike in the history: the record that
    would tell it apart is the user's, and is written at another moment than the counts.
    """

    def __init__(self, store: FeatureStore) -> None:
        self._store = store
        self._reached: dict[str, int] = {}
        self._recent: set[str] = set()
        self._before: set[str] = set()

    async def count(self, interactions: Sequence[Positioned], now_ms: float) -> None:
        """Idempotent. Raises `StoreUnavailable`, with any part of `interactions` counted."""
        pending: defaultdict[str, list[Positioned]] = defaultdict(list)
        for record in interactions:
            pending[record.partition].append(record)
        for _ in range(ATTEMPTS):
            counts = [self._counts(partition, records, now_ms) for partition, records in pending.items()]
            weighty = [one for one in counts if one.hours]
            if not weighty:
                return
            for one, found in zip(weighty, await self._store.count_trends(weighty), strict=True):
                self._reached[one.partition] = one.reached if found == one.after else found
                if found == one.after:
                    self._remember(pending.pop(one.partition))
        raise StoreUnavailable("somebody else keeps counting the trends of the same partitions")

    def _counts(self, partition: str, records: Sequence[Positioned], now_ms: float) -> TrendCounts:
        after = self._reached.get(partition, -1)
        first, last = hour_of(now_ms) - TREND_HOURS + 1, hour_of(now_ms + 1000 * FUTURE_TOLERANCE)
        hours: defaultdict[int, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
        told: set[str] = set()
        for record in records:
            event = record.message
            if record.offset <= after or not isinstance(event, Interaction):
                continue
            units, hour = _UNITS.get(event.type, _OTHER_UNITS), hour_of(epoch_ms(event.occurred_at))
            repeat = event.event_id in told or event.event_id in self._recent or event.event_id in self._before
            if units and first <= hour <= last and not repeat:
                told.add(event.event_id)
                hours[hour][event.item_id] += units
        return TrendCounts(partition, after, max(record.offset for record in records), hours)

    def _remember(self, records: Sequence[Positioned]) -> None:
        self._recent.update(record.message.event_id for record in records)
        if len(self._recent) >= REMEMBERED:
            self._before, self._recent = self._recent, set()
