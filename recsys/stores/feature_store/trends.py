"""Trend counts on Redis or Valkey: each record counted once, hours that expire, the heaviest items of each."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from math import isfinite
from typing import Any

import msgspec

from recsys.clients.redis import Argument, Exchange, ScriptCall, sound
from recsys.observability.unreadable import TRENDS, note_unreadable
from recsys.recommender.trend import HOUR_MS, TREND_HOURS, TrendCounts
from recsys.stores.feature_store import scripts
from recsys.stores.feature_store.keys import Keys
from recsys.stores.feature_store.protocol import KEPT_ITEMS

READ_ITEMS = 2000
"""The heaviest that a reader gets of each, so that what it costs to read has a bound too."""

TREND_TTL_MS = (TREND_HOURS + 24) * HOUR_MS


_encode = msgspec.msgpack.Encoder().encode


class TrendCounters:
    """Counts and reads trends. Every method raises `StoreUnavailable`."""

    def __init__(self, exchange: Exchange, keys: Keys) -> None:
        self._exchange = exchange
        self._keys = keys

    async def count(self, counts: Sequence[TrendCounts]) -> list[int]:
        """Add each of `counts` atomically; the offset that was stored for each, as in `FeatureStore.count_trends`."""
        offsets = await self._exchange.scripted(scripts.COUNT_TRENDS, [self._call(entry) for entry in counts])
        return [int(offset) for offset in offsets]

    async def read(self, hours: Sequence[int]) -> dict[int, dict[str, int]]:
        """Return weights in thousandths by hour and item, summed over the partitions."""
        (partitions,) = sound(await self._exchange.retrying([("HKEYS", self._keys.trends())]), TRENDS, "trends")
        read: dict[int, dict[str, int]] = {}
        for hour in hours:
            keys = [self._keys.trend(partition.decode(errors="replace"), hour) for partition in partitions]
            ranges = await self._exchange.retrying(
                [("ZREVRANGE", key, 0, READ_ITEMS - 1, "WITHSCORES") for key in keys]
            )
            # In a thread: thousands of names, while requests wait for the event loop.
            read[hour] = await asyncio.to_thread(_summed, sound(ranges, TRENDS, f"hour {hour}"))
        return read

    def _call(self, counts: TrendCounts) -> ScriptCall:
        keys = [self._keys.trends()]
        arguments: list[Argument] = [counts.partition, counts.base_offset, counts.reached, TREND_TTL_MS, KEPT_ITEMS]
        for hour, weights in counts.hours.items():
            keys.append(self._keys.trend(counts.partition, hour))
            # One argument instead of thousands: the client takes a microsecond for each.
            flat = _encode([part for pair in weights.items() for part in pair])
            arguments += [hour * HOUR_MS + TREND_TTL_MS, flat]
        return keys, arguments


def _summed(ranges: Sequence[Sequence[Any]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for members in ranges:
        for item_id, weight in zip(members[::2], members[1::2], strict=True):
            # Above 10^17 the server writes an exponent.
            units = float(weight)
            if isfinite(units):
                total[item_id.decode(errors="replace")] += int(units)
            else:
                note_unreadable(TRENDS, item_id.decode(errors="replace"), f"a weight of {units}")
    return dict(total)
