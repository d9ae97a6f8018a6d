"""The store of trends inside one process, for tests and experiments; nothing outlives it."""

from collections import Counter
from collections.abc import Sequence

from recsys.recommender.trends import TREND_HOURS, TrendCounts
from recsys.stores.trends.protocol import KEPT_ITEMS


class MemoryTrendStore:
    """A `TrendStore` in dictionaries."""

    def __init__(self) -> None:
        self._counted: dict[str, int] = {}
        self._trends: dict[int, Counter[str]] = {}

    async def count(self, counts: Sequence[TrendCounts]) -> list[int]:
        """See `TrendStore.count`."""
        return [self._count(entry) for entry in counts]

    def _count(self, counts: TrendCounts) -> int:
        offset = self._counted.get(counts.partition, -1)
        if offset == counts.base_offset:
            self._counted[counts.partition] = counts.reached
            for hour, weights in counts.hours.items():
                counted = self._trends.setdefault(hour, Counter())
                counted.update(weights)
                if len(counted) > KEPT_ITEMS:
                    self._trends[hour] = Counter(dict(counted.most_common(KEPT_ITEMS // 2)))
            for hour in sorted(self._trends)[:-TREND_HOURS]:
                del self._trends[hour]
        return offset

    async def read(self, hours: Sequence[int]) -> dict[int, dict[str, int]]:
        """See `TrendStore.read`."""
        return {hour: dict(self._trends.get(hour, ())) for hour in hours}
