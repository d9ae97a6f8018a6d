"""The store of trends: how often each item was wanted, by hour of event time.

Ingest alone writes it: the consumer group `features`, and a rebuild from the log. The service reads it every few
seconds. How far a partition was counted stands beside the counts, so that each record counts once.
"""

from collections.abc import Sequence
from typing import Protocol

from recsys.recommender.trends import TrendCounts

KEPT_ITEMS = 10_000
"""Items of one partition and hour in the trend counts. Above it only the heavier half stays: newcomers get room."""


class TrendStore(Protocol):
    """Counts by hour and item. Methods raise `StoreUnavailable` when the server does not answer in time."""

    async def count(self, counts: Sequence[TrendCounts]) -> list[int]:
        """Add each, atomically, where the highest offset counted of its partition still is `base_offset` (-1: none).

        Returns the offset found per entry. Where it differs from `base_offset` nothing was added: another process
        counted up to there. Of an hour with more than `KEPT_ITEMS` the heaviest stay; hours leave after `TREND_HOURS`.
        """
        ...

    async def read(self, hours: Sequence[int]) -> dict[int, dict[str, int]]:
        """Weights by hour and item, summed over partitions."""
        ...
