"""Temporal holdout: learn from the past, evaluate on the future."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

MAX_SHARE = 0.2
"""Share of the log's time span that may be held out; a young log is split here instead of at `holdout_days`."""


@dataclass(frozen=True, slots=True)
class Split:
    """`past` is everything before `cutoff`, `future` everything from it on."""

    past: pl.DataFrame
    future: pl.DataFrame
    cutoff: datetime


def split_by_time(interactions: pl.DataFrame, holdout_days: float) -> Split:
    """Hold out the last `holdout_days`, but never more than a fifth of the time the log covers."""
    first, last = interactions.select(
        pl.col("occurred_at").min().alias("first"), pl.col("occurred_at").max().alias("last")
    ).row(0)
    held_out = min(timedelta(days=holdout_days), (last - first) * MAX_SHARE)
    cutoff = last - held_out
    is_past = pl.col("occurred_at") < cutoff
    return Split(interactions.filter(is_past), interactions.filter(~is_past), cutoff)
