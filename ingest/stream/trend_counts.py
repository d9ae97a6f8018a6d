"""Trend counts: what is wanted now, by item and hour of event time, each record counted once."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from recsys.errors import StoreUnavailable
from recsys.messages.interaction import (
    DEFAULT_TYPE_WEIGHTS,
    FUTURE_TOLERANCE,
    IMPRESSION,
    OTHER_TYPE_WEIGHT,
    Interaction,
    epoch_ms,
)
from recsys.recommender.trends import TREND_HOURS, TREND_UNITS, TrendCounts, hour_of
from recsys.retries import compare_and_set
from recsys.stores.trends import TrendStore
from recsys.users import PositionedMessage

ATTEMPTS = 5
NOWHERE = -2
"""An offset no partition is counted to: counting from it adds nothing and returns the stored offset."""

UNITS = {name: round(weight * TREND_UNITS) for name, weight in DEFAULT_TYPE_WEIGHTS.items()} | {IMPRESSION: 0}
OTHER_UNITS = round(OTHER_TYPE_WEIGHT * TREND_UNITS)


class TrendCounter:
    """Counts into the store, which keeps with the counts how far each partition was counted.

    Repeats by a producer are found from the users' records (`recsys.users.new_events`), as of before the batch.
    So counting comes before saving: every saved event has been counted.
    """

    def __init__(self, store: TrendStore) -> None:
        self._store = store
        self._reached: dict[str, int] = {}

    async def count(self, new_events: Sequence[PositionedMessage], reached: Mapping[str, int], now_ms: float) -> None:
        """Count `new_events`, which are complete up to the offsets `reached` per partition, in any order.

        Idempotent. Raises `StoreUnavailable`, with any part of it counted.
        """
        pending: defaultdict[str, list[PositionedMessage]] = defaultdict(list)
        for record in new_events:
            pending[record.partition].append(record)

        async def write(pending: dict[str, list[PositionedMessage]]) -> dict[str, list[PositionedMessage]]:
            """Count once; returns the records of partitions that were counted by somebody else in between."""
            counts = [
                self._counts(partition, records, reached[partition], now_ms) for partition, records in pending.items()
            ]
            weighty = [trend for trend in counts if trend.hours]
            offsets = await self._store.count(weighty) if weighty else []
            lost: dict[str, list[PositionedMessage]] = {}
            for trend, offset in zip(weighty, offsets, strict=True):
                self._reached[trend.partition] = trend.reached if offset == trend.base_offset else offset
                if offset != trend.base_offset:
                    lost[trend.partition] = pending[trend.partition]
            return lost

        if await compare_and_set(dict(pending), write, ATTEMPTS):
            raise StoreUnavailable("somebody else keeps counting the trends of the same partitions")

    async def look_up(self, partitions: Collection[str]) -> dict[str, int]:
        """Return the offset up to which the store has counted each of `partitions`, -1 where it has nothing.

        After the store lost its counts this process continues from the store's offsets, not from its own.
        """
        looks = [TrendCounts(partition, NOWHERE, NOWHERE, {}) for partition in partitions]
        offsets = dict(zip(partitions, await self._store.count(looks) if looks else (), strict=True))
        for partition, offset in offsets.items():
            if offset < self._reached.get(partition, -1):
                self._reached[partition] = offset
        return offsets

    def _counts(self, partition: str, records: Sequence[PositionedMessage], reached: int, now_ms: float) -> TrendCounts:
        previous = self._reached.get(partition, -1)
        first, last = hour_of(now_ms) - TREND_HOURS + 1, hour_of(now_ms + 1000 * FUTURE_TOLERANCE)
        hours: defaultdict[int, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
        for record in records:
            event = record.message
            if record.offset <= previous or not isinstance(event, Interaction):
                continue
            units, hour = UNITS.get(event.type, OTHER_UNITS), hour_of(epoch_ms(event.occurred_at))
            if units and first <= hour <= last:
                hours[hour][event.item_id] += units
        return TrendCounts(partition, previous, reached, hours)
