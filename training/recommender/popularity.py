"""Popularity, and trending scores at the watermark by the formula that serving ranks live counts with."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.recommender.trends import above_usual, usual_share
from training.settings import TrendingSettings


def popularity(interactions: pl.DataFrame, item_ids: list[str], days: float) -> NDArray[np.float32]:
    """Return users per item (n,) in the last `days`; items without any rank by all of time, with values below 1."""
    newest = interactions["occurred_at"].max()
    recent = interactions.filter(pl.col("occurred_at") >= pl.lit(newest) - pl.duration(seconds=int(days * 86_400)))
    of_late, ever = _users_per_item(recent, item_ids), _users_per_item(interactions, item_ids)
    return (of_late + 0.999 * ever / max(float(ever.max(initial=0.0)), 1.0)).astype(np.float32)


def trending(
    interactions: pl.DataFrame, item_ids: list[str], popularity: NDArray[np.float32], settings: TrendingSettings
) -> NDArray[np.float32]:
    """Return (n,) how far above its usual share each item was wanted in the last `hours`, 0 for other items.

    Counts users per item and day, so that one user alone makes no trend.
    """
    newest = interactions["occurred_at"].max()
    since = pl.lit(newest) - pl.duration(seconds=int(settings.hours * 3600))
    begin = since - pl.duration(days=int(settings.usual_days))
    recent = _counts(interactions.filter(pl.col("occurred_at") >= since), item_ids)
    usual = _counts(interactions.filter(pl.col("occurred_at") >= begin, pl.col("occurred_at") < since), item_ids)
    popular = popularity.astype(np.float64) / (float(popularity.sum()) or 1.0)
    share = usual_share(usual, usual.sum(), popular, recent.sum())
    scores = above_usual(recent, share * recent.sum())
    return np.where(recent >= settings.min_users, scores, np.float32(0)).astype(np.float32)


def _users_per_item(interactions: pl.DataFrame, item_ids: list[str]) -> NDArray[np.float64]:
    counted = interactions.group_by("item_id").agg(pl.col("user_id").n_unique().alias("users"))
    joined = pl.DataFrame({"item_id": item_ids}).join(counted, on="item_id", how="left", maintain_order="left")
    return joined["users"].fill_null(0).cast(pl.Float64).to_numpy()


def _counts(interactions: pl.DataFrame, item_ids: list[str]) -> NDArray[np.float64]:
    days = interactions.select("item_id", "user_id", pl.col("occurred_at").dt.date()).unique()
    counted = days.group_by("item_id").agg(pl.len().alias("count"))
    joined = pl.DataFrame({"item_id": item_ids}).join(counted, on="item_id", how="left", maintain_order="left")
    return joined["count"].fill_null(0).cast(pl.Float64).to_numpy()
