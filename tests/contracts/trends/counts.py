"""Counts of trends for the contracts of the stores."""

import time

from recsys.recommender.trends import TrendCounts, hour_of

HOUR = hour_of(time.time() * 1000)


def counted(partition: str = "p-0", after: int = -1, reached: int = 5, hour: int = HOUR, **weights: int) -> TrendCounts:
    return TrendCounts(partition, after, reached, {hour: weights})
