"""Cold start: items without interactions get factors from their content.

A linear map from content to factors, learned from the items that have both: Gantner et al., "Learning Attribute-to-
Feature Mappings for Cold-Start Recommendations" (ICDM 2010), here by ridge regression.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags
from scipy.sparse.linalg import lsqr
from threadpoolctl import threadpool_limits

from recsys.index.content import BUCKETS, features, place
from recsys.index.factors import Matrix
from recsys.messages.item import Item
from training.settings import ColdStartSettings

REGULARIZATIONS = (0.3, 1.0, 3.0, 10.0)
HELD_OUT = 10
"""One in this many items is held out to choose the regularisation."""
ITERATIONS = 60
MAX_LEARNED = 50_000
"""Items learned from, the most wanted: takes 30 seconds, and more would hardly change a word's weight."""


@dataclass(frozen=True, slots=True)
class ContentModel:
    """`projection` (BUCKETS, d), or (0, d) without content to learn from; `similarity` as of `judged` held-out items:
    mean cosine of placed with learned factors.
    """

    projection: Matrix
    similarity: float
    judged: int


def learn(
    items: Sequence[Item | None], factors: Matrix, demand: NDArray[np.float64], settings: ColdStartSettings
) -> ContentModel:
    """Learn a model from `items` (n) with their `factors` (n, d), weighted by `demand` (n,), users per item."""
    described = np.array([row for row, item in enumerate(items) if item is not None], np.int64)
    if len(described) < settings.min_items:
        return ContentModel(np.empty((0, factors.shape[1]), np.float32), 0.0, 0)
    described = np.sort(described[np.argsort(-demand[described], kind="stable")[:MAX_LEARNED]])
    matrix = _matrix([item for row in described.tolist() if (item := items[row]) is not None])
    learned = factors[described]
    weights = np.sqrt(np.log1p(demand[described]))
    judges = np.arange(len(described)) % HELD_OUT == 0
    scored = []
    for regularization in REGULARIZATIONS:
        solved = _ridge(matrix[~judges], learned[~judges], weights[~judges], regularization)
        scored.append((_cosine(matrix[judges] @ solved, learned[judges]), regularization))
    similarity, best = max(scored)
    projection = _ridge(matrix, learned, weights, best)
    # Regression shrinks the factors. An item as long as the median one takes about 3 % of the lists
    # when a tenth of the shop is new; at the 0.6 quantile it is 13 %, and recall falls (docs/quality.md).
    scale = _median_length(learned) / max(_median_length(matrix @ projection), 1e-12)
    return ContentModel((projection * scale).astype(np.float32), similarity, int(judges.sum()))


@dataclass(frozen=True, slots=True)
class ColdItems:
    """Items without interactions, placed: ids, descriptions and factors (m, d)."""

    item_ids: list[str]
    items: list[Item]
    factors: Matrix


def cold_items(
    catalogue: dict[str, Item], touched_ids: Sequence[str], model: ContentModel, settings: ColdStartSettings
) -> ColdItems:
    """Return the catalogue's items without interactions, the latest `max_items` of them, oldest first."""
    touched = set(touched_ids)
    new = [item for item in catalogue.values() if item.item_id not in touched] if len(model.projection) else []
    new = sorted(new, key=lambda item: (item.updated_at, item.item_id))[max(len(new) - settings.max_items, 0) :]
    return ColdItems([item.item_id for item in new], new, place(new, model.projection))


def _matrix(items: Sequence[Item]) -> csr_matrix:
    content = features(items)
    return csr_matrix((content.weights, content.buckets, content.indptr), shape=(len(items), BUCKETS))


def _ridge(matrix: csr_matrix, targets: Matrix, weights: NDArray[np.float64], regularization: float) -> Matrix:
    """Return weights (BUCKETS, d) by weighted least squares, one dimension per thread."""
    weighted = (diags(weights) @ matrix).tocsr()
    scaled = targets * weights[:, None]

    def solve(dimension: int) -> NDArray[np.float64]:
        """Return the weights (BUCKETS,) of one dimension of the factors."""
        solved: NDArray[np.float64] = lsqr(
            weighted, scaled[:, dimension], damp=regularization**0.5, iter_lim=ITERATIONS
        )[0]
        return solved

    with threadpool_limits(1, "blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.stack(list(pool.map(solve, range(targets.shape[1]))), axis=1).astype(np.float32)


def _cosine(placed: Matrix, learned: Matrix) -> float:
    """Return the mean cosine over items."""
    lengths = np.linalg.norm(placed, axis=1) * np.linalg.norm(learned, axis=1)
    return float(np.mean(np.einsum("nd,nd->n", placed, learned) / np.maximum(lengths, 1e-12)))


def _median_length(vectors: Matrix) -> float:
    return float(np.median(np.linalg.norm(vectors, axis=1)))
