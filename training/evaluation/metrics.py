"""Ranking metrics of one list, from which of its places hold a relevant item.

`hits` (k,) is boolean, best place first; `relevant` is how many items the user wanted in all.
Definitions as in Järvelin & Kekäläinen, "Cumulated gain-based evaluation of IR techniques" (TOIS 2002) for
NDCG with binary gains, and Manning et al., "Introduction to Information Retrieval" (2008), ch. 8, for the others.
"""

import numpy as np
from numpy.typing import NDArray

Hits = NDArray[np.bool_]


def recall(hits: Hits, relevant: int, k: int) -> float:
    """Return the share of the wanted items that the first k places show."""
    return float(hits[:k].sum()) / relevant


def ndcg(hits: Hits, relevant: int, k: int) -> float:
    """Return the discounted gain of the first k places over that of a perfect list."""
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    gained = float(discounts[: len(hits[:k])][hits[:k]].sum())
    return gained / float(discounts[: min(relevant, k)].sum())


def average_precision(hits: Hits, relevant: int, k: int) -> float:
    """Return the mean over wanted items of the precision at their places; 0 for those the list lacks."""
    places = np.flatnonzero(hits[:k])
    return float((np.arange(1, len(places) + 1) / (places + 1)).sum()) / relevant


def hit(hits: Hits, relevant: int, k: int) -> float:  # noqa: ARG001 - one signature for all
    """Return 1 when the first k places show anything wanted, else 0."""
    return float(hits[:k].any())
