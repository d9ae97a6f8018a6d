"""Co-occurrence: what is bought together, from the baskets in the log.

Scored by the log-likelihood ratio: Dunning, "Accurate Methods for the Statistics of Surprise and Coincidence" (1993).
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from recsys.index.artefact import Neighbours
from training.settings import CooccurrenceSettings

ROWS = 2048
"""Items whose pairs are counted at a time."""


def together(interactions: pl.DataFrame, item_ids: list[str], settings: CooccurrenceSettings) -> Neighbours:
    """Return for each of `item_ids` the items in the same baskets more often than by chance, best first.

    A basket is a session where the events name one, else a user's day (UTC). Only the first `max_basket` items of a
    basket count: very large baskets say little about pairs.
    """
    baskets = _baskets(interactions, item_ids, settings)
    n, total = len(item_ids), baskets.shape[0]
    if not total:
        return Neighbours.none(n)
    counts = np.asarray(baskets.sum(axis=0)).ravel()
    indptr, rows, scores = [0], [], []
    by_item = baskets.T.tocsr()
    for start in range(0, n, ROWS):
        pairs = (by_item[start : start + ROWS] @ baskets).tocsr()
        for position in range(pairs.shape[0]):
            line = slice(pairs.indptr[position], pairs.indptr[position + 1])
            others, both = pairs.indices[line].astype(np.int64), pairs.data[line]
            mask = (others != start + position) & (both >= settings.min_support)
            others, both = others[mask], both[mask]
            score = log_likelihood_ratio(both, counts[start + position], counts[others], total)
            order = np.lexsort((others, -score))[: settings.neighbours]
            order = order[score[order] > 0]
            indptr.append(indptr[-1] + len(order))
            rows.append(others[order])
            scores.append(score[order])
    return Neighbours(
        np.array(indptr, np.int64), np.concatenate(rows).astype(np.int32), np.concatenate(scores).astype(np.float32)
    )


def log_likelihood_ratio(
    both: NDArray[np.float64], item_count: float, other_counts: NDArray[np.float64], total: int
) -> NDArray[np.float64]:
    """Return (m,) 2 * sum of k log(k / expected) over four cells of two items; 0 where below chance."""
    cells = [
        (both, item_count * other_counts),
        (item_count - both, item_count * (total - other_counts)),
        (other_counts - both, (total - item_count) * other_counts),
        (total - item_count - other_counts + both, (total - item_count) * (total - other_counts)),
    ]
    ratio = np.zeros(len(both))
    for observed, expected in cells:
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio += np.where(observed > 0, observed * np.log(observed * total / np.maximum(expected, 1e-12)), 0.0)
    return np.where(both * total > item_count * other_counts, np.maximum(2.0 * ratio, 0.0), 0.0)


def _baskets(interactions: pl.DataFrame, item_ids: list[str], settings: CooccurrenceSettings) -> csr_matrix:
    """Return (baskets, items) of ones. Baskets of one item count too: they show how often items go alone."""
    bought = interactions.filter(pl.col("type").is_in(list(settings.types)))
    if bought.is_empty():
        bought = interactions
    day = pl.concat_str(pl.col("user_id"), pl.col("occurred_at").dt.date().cast(pl.String), separator="\n")
    basket = (
        pl.coalesce(pl.concat_str(pl.lit("\r"), pl.col("session_id")), day) if "session_id" in bought.columns else day
    )
    places = pl.DataFrame({"item_id": item_ids, "column": np.arange(len(item_ids), dtype=np.int64)})
    pairs = bought.select(basket.alias("basket"), "item_id").unique(maintain_order=True).join(places, on="item_id")
    pairs = pairs.filter(pl.int_range(pl.len()).over("basket") < settings.max_basket)
    rows = pairs["basket"].rank("dense").cast(pl.Int64).to_numpy() - 1 if pairs.height else np.empty(0, np.int64)
    ones = np.ones(pairs.height)
    return csr_matrix((ones, (rows, pairs["column"].to_numpy())), shape=(int(rows.max(initial=-1)) + 1, len(item_ids)))
