"""Content: from what an item is (categories, words) to a place among the item factors.

The same code makes features for the trainer, which learns the projection, and for the service, which places items
that appeared after training.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import xxhash
from numpy.typing import NDArray

from recsys.index.factors import Matrix
from recsys.messages.item import Item

BUCKETS = 8192
"""Rows of a projection; tokens that share one blur each other a little (Weinberger et al., "Feature Hashing for Large
Scale Multitask Learning", ICML 2009)."""
MAX_TOKENS = 64
MAX_TEXT = 64
"""Characters of a property beyond which it is prose, not a label."""

_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Features:
    """The features of m items, as rows of a sparse matrix (m, BUCKETS): item i has `buckets[indptr[i]:indptr[i + 1]]`.

    Each with the same weight, such that the row has length 1.
    """

    indptr: NDArray[np.int64]
    buckets: NDArray[np.int64]

    @property
    def weights(self) -> NDArray[np.float32]:
        """(nnz,) one over the root of how many features the item has."""
        counts = np.diff(self.indptr)
        return np.repeat(1.0 / np.sqrt(np.maximum(counts, 1)), counts).astype(np.float32)


def features(items: Sequence[Item]) -> Features:
    """Hashed tokens of each item; every item has one at least, which stands for being an item."""
    rows = [_buckets(item) for item in items]
    indptr = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row) for row in rows], out=indptr[1:])
    return Features(indptr, np.array([bucket for row in rows for bucket in row], np.int64))


def place(items: Sequence[Item], projection: Matrix) -> Matrix:
    """Factors (m, d) for items by `projection` (BUCKETS, d); zeros where the version has none (0, d)."""
    if not len(items) or not len(projection):
        return np.zeros((len(items), projection.shape[1]), np.float32)
    item_features = features(items)
    placed: Matrix = np.add.reduceat(
        projection[item_features.buckets] * item_features.weights[:, None], item_features.indptr[:-1], axis=0
    )
    return placed


def tokens(item: Item) -> list[str]:
    """Categories, words of the title and pairs of them, and short text properties by name; distinct, in order."""
    words = _WORD.findall((item.title or "").lower())
    labels = ["", *(f"c:{name}" for name in item.categories or ())]
    labels += [f"w:{word}" for word in words]
    labels += [f"b:{first} {second}" for first, second in pairwise(words)]
    for name, value in sorted((item.properties or {}).items()):
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and len(text) <= MAX_TEXT:
                labels.append(f"p:{name}={text.lower()}")
    return list(dict.fromkeys(labels))[:MAX_TOKENS]


def _buckets(item: Item) -> list[int]:
    return sorted({xxhash.xxh3_64_intdigest(token.encode()) % BUCKETS for token in tokens(item)})
