"""Cold start: items that nobody has touched get factors by what they are.

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

from recsys.item import Item
from recsys.recommender.content import BUCKETS, features, place
from recsys.recommender.factors import Matrix
from training.settings import ColdStartSettings

REGULARIZATIONS = (0.3, 1.0, 3.0, 10.0)
HELD_OUT = 10
"""One item in so many judges the regularisation."""
ITERATIONS = 60
TYPICAL_NORM = 0.25
"""Quantile of the learned factors' norms that placed items are brought to: those of items that are wanted now and then.
Regression shrinks them by how little it knows; by their own norm they would never be shown."""


@dataclass(frozen=True, slots=True)
class ContentModel:
    """`projection` (BUCKETS, d), or (0, d) without content to learn from; `similarity` as of `judged` held-out items:
    mean cosine of placed with learned factors.
    """

    projection: Matrix
    similarity: float
    judged: int


def learn(
    items: Sequence[Item | None], factors: Matrix, wanted: NDArray[np.float64], settings: ColdStartSettings
) -> ContentModel:
    """From `items` (n) with their learned `factors` (n, d), weighted by how often each was `wanted` (n,)."""
    described = np.array([row for row, item in enumerate(items) if item is not None], np.int64)
    d = factors.shape[1]
    if len(described) < settings.min_items:
        return ContentModel(np.empty((0, d), np.float32), 0.0, 0)
    known = [item for item in items if item is not None]
    # The norm tells how much an item is wanted, which no content tells: directions are learned.
    lengths = np.linalg.norm(factors[described], axis=1, keepdims=True)
    directions = factors[described] / np.maximum(lengths, 1e-12)
    weights = np.sqrt(np.log1p(wanted[described]))
    matrix = _matrix(known)
    judges = np.arange(len(known)) % HELD_OUT == 0
    scored = []
    for regularization in REGULARIZATIONS:
        solved = _ridge(matrix[~judges], directions[~judges], weights[~judges], regularization)
        scored.append((_cosine(matrix[judges] @ solved, directions[judges]), regularization))
    similarity, best = max(scored)
    projection = _ridge(matrix, directions, weights, best)
    placed = np.linalg.norm(matrix @ projection, axis=1)
    scale = float(np.quantile(lengths, TYPICAL_NORM)) / max(float(np.median(placed)), 1e-12)
    return ContentModel((projection * scale).astype(np.float32), similarity, int(judges.sum()))


@dataclass(frozen=True, slots=True)
class ColdItems:
    """Items without interactions, placed: ids, descriptions and factors (m, d)."""

    item_ids: list[str]
    items: list[Item]
    factors: Matrix


def cold_items(
    catalogue: dict[str, Item], known: Sequence[str], model: ContentModel, settings: ColdStartSettings
) -> ColdItems:
    """The catalogue's items that nobody has touched, the latest `max_items` of them, oldest first."""
    touched = set(known)
    new = [item for item in catalogue.values() if item.item_id not in touched] if len(model.projection) else []
    new = sorted(new, key=lambda item: (item.updated_at, item.item_id))[-settings.max_items :]
    return ColdItems([item.item_id for item in new], new, place(new, model.projection))


def _matrix(items: Sequence[Item]) -> csr_matrix:
    made = features(items)
    return csr_matrix((made.weights, made.buckets, made.indptr), shape=(len(items), BUCKETS))


def _ridge(matrix: csr_matrix, targets: Matrix, weights: NDArray[np.float64], regularization: float) -> Matrix:
    """(BUCKETS, d): weighted least squares, one dimension per thread."""
    weighted = (diags(weights) @ matrix).tocsr()
    scaled = targets * weights[:, None]

    def solve(dimension: int) -> NDArray[np.float64]:
        solved: NDArray[np.float64] = lsqr(
            weighted, scaled[:, dimension], damp=regularization**0.5, iter_lim=ITERATIONS
        )[0]
        return solved

    with threadpool_limits(1, "blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.stack(list(pool.map(solve, range(targets.shape[1]))), axis=1).astype(np.float32)


def _cosine(placed: Matrix, true: Matrix) -> float:
    """Mean over items; `true` has length 1."""
    lengths = np.maximum(np.linalg.norm(placed, axis=1), 1e-12)
    return float(np.mean(np.einsum("nd,nd->n", placed, true) / lengths))
