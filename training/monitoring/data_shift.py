"""Data shift: how the events since the last snapshot differ from those before.

By the Jensen-Shannon divergence to base 2, from 0 for the same shares to 1 for nothing in common: Lin, "Divergence
Measures Based on the Shannon Entropy" (IEEE Transactions on Information Theory, 1991).
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon


@dataclass(frozen=True, slots=True)
class DataShift:
    """`new_events` came after the last snapshot's watermark; with none, the shares say nothing and are 0.

    `volume` is the snapshot's interactions over those of the last one, `None` where that was not noted. `unknown` is
    the share of new events on items that neither the last snapshot held nor the catalogue describes.
    """

    volume: float | None
    new_events: int
    unknown: float = 0.0
    types: float = 0.0
    items: float = 0.0


def data_shift(
    interactions: pl.DataFrame, watermark: datetime, described: Collection[str], previous_count: int | None = None
) -> DataShift:
    """Compare `interactions` after `watermark` with those before; `previous_count` is the last snapshot's size."""
    volume = interactions.height / previous_count if previous_count else None
    is_new = pl.col("occurred_at") > watermark
    old, new = interactions.filter(~is_new), interactions.filter(is_new)
    if old.is_empty() or new.is_empty():
        return DataShift(volume, new.height)
    item_ids = pl.Series(list(described), dtype=pl.String).append(old["item_id"].unique())
    unknown = (~new["item_id"].is_in(item_ids.implode())).mean()
    assert isinstance(unknown, float)  # noqa: S101
    return DataShift(volume, new.height, unknown, _between(old, new, "type"), _between(old, new, "item_id"))


def _between(old: pl.DataFrame, new: pl.DataFrame, column: str) -> float:
    counts = [frame.group_by(column).len(name) for name, frame in (("old", old), ("new", new))]
    both = counts[0].join(counts[1], on=column, how="full", coalesce=True).sort(column).fill_null(0)
    return jensen_shannon(both["old"].to_numpy().astype(np.float64), both["new"].to_numpy().astype(np.float64))


def jensen_shannon(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return the divergence (0 to 1) of two histograms (n,) over the same bins, neither of them empty."""
    return float(jensenshannon(first, second, base=2)) ** 2
