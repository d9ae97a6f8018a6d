"""Confidence weights and fold-in: how a history becomes a user-factor vector without retraining.

Hu, Koren, Volinsky, "Collaborative Filtering for Implicit Feedback Datasets" (ICDM 2008), eq. 4: with
item factors Y (n, d), confidences c_i of the user's items and everything else at confidence 1,
    x = (YtY + sum_i (c_i - 1) y_i y_it + reg I)^-1  sum_i c_i y_i
which is what `implicit.als.recalculate_user` solves, so an embedding folded in online equals the trained one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.models.kinds import ConfidenceParameters
from recsys.users import HistoryEntry, Vector

Matrix = NDArray[np.float32]
DAY_MS = 86_400_000
BATCH_ELEMENTS = 1 << 18
"""Floats of the largest array of one batched solve: 1 MB, so that it stays near the processor."""
WIDTH_STEP = 8
"""Users are padded to a multiple of so many items, to be solved together."""


def decayed_weights(history: Sequence[HistoryEntry], parameters: ConfidenceParameters) -> NDArray[np.float64]:
    """The weight of each entry before `alpha`; shape (len(history),)."""
    weights, other_weight = parameters.type_weights, parameters.other_weight
    base = np.array([weights.get(entry.type, other_weight) for entry in history], dtype=np.float64)
    return decayed(base, np.array([entry.at_ms for entry in history], dtype=np.float64), parameters)


def decayed(
    base: NDArray[np.float64], at_ms: NDArray[np.float64], parameters: ConfidenceParameters
) -> NDArray[np.float64]:
    """Type weights `base` (m,) of interactions at `at_ms` (m,), after time decay; training uses the same."""
    if not parameters.half_life_days:
        return base
    age_days = (parameters.reference_ms - at_ms) / DAY_MS
    # Events after the watermark weigh more than old ones, but not without bound.
    return base * np.exp2(np.clip(-age_days / parameters.half_life_days, -60.0, 1.0))


def confidences(
    rows: NDArray[np.int64], weights: NDArray[np.float64], alpha: float
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """One confidence per distinct known row: (rows (m,), confidences (m,)); unknown rows (-1) are left out."""
    mask = rows >= 0
    distinct, inverse = np.unique(rows[mask], return_inverse=True)
    summed = np.bincount(inverse, weights=weights[mask], minlength=len(distinct))
    return distinct, (1.0 + alpha * summed).astype(np.float32)


def gram(item_factors: Matrix) -> Matrix:
    """YtY, shape (d, d)."""
    product: Matrix = item_factors.T @ item_factors
    return product


def normal_equations(gram_matrix: Matrix, liked: Matrix, confidence: NDArray[np.float32]) -> tuple[Matrix, Vector]:
    """The left side (d, d), without regularisation, and right side (d,) for one user's liked items (m, d)."""
    matrix: Matrix = (gram_matrix + (liked.T * (confidence - 1.0)) @ liked).astype(np.float32)
    right: Vector = (liked.T @ confidence).astype(np.float32)
    return matrix, right


@dataclass(frozen=True, slots=True)
class Normal:
    """The common part of every user's normal equations: A = YtY + reg I, shape (d, d).

    `whitening` W (d, d) is the inverse transpose of A's Cholesky factor: W Wt = A^-1.
    """

    matrix: Matrix
    whitening: Matrix

    @classmethod
    def of(cls, gram_matrix: Matrix, regularization: float) -> "Normal":
        """`gram_matrix` is YtY (d, d). Raises `ValueError` where the sum is not positive definite."""
        matrix = gram_matrix.astype(np.float64) + regularization * np.eye(len(gram_matrix))
        whitening = np.linalg.inv(np.linalg.cholesky(matrix)).T
        return cls(matrix.astype(np.float32), np.ascontiguousarray(whitening, dtype=np.float32))


def fold_in(
    normal: Normal,
    item_factors: Matrix,
    rows: NDArray[np.integer[Any]],
    confidence: NDArray[np.float32],
    sizes: NDArray[np.integer[Any]],
) -> Matrix:
    """User factors (u, d) for u users; user i likes the next `sizes[i]` of `rows` of `item_factors` (n, d).

    `rows` and `confidence` have the length sum(sizes). Who likes nothing gets zeros. Users of about as many
    items are solved together; whose company a user is in changes no bit.
    """
    d = len(normal.matrix)
    starts = np.cumsum(sizes) - sizes
    widths = -(-sizes // WIDTH_STEP) * WIDTH_STEP
    solved = np.zeros((len(sizes), d), dtype=np.float32)
    for width in np.unique(widths[widths > 0]).tolist():
        members = np.flatnonzero(widths == width)
        step = max(1, BATCH_ELEMENTS // (d * max(width, d)))
        for users in (members[start : start + step] for start in range(0, len(members), step)):
            slots = np.arange(width)
            mask = slots < sizes[users, None]
            places = np.where(mask, starts[users, None] + slots, 0)
            weights = np.where(mask, confidence[places], np.float32(0.0))
            excess = np.where(mask, weights - np.float32(1.0), np.float32(0.0))
            solve = _by_items if width < d else _by_dimensions
            solved[users] = solve(normal, item_factors[rows[places]], weights, excess)
    return solved


def _by_dimensions(normal: Normal, liked: Matrix, weights: Matrix, excess: Matrix) -> Matrix:
    """A system of d equations each, for `liked` (u, m, d), `weights` and `excess` c - 1 (u, m), 0 where padded."""
    matrix = normal.matrix + (liked * excess[..., None]).transpose(0, 2, 1) @ liked
    right = weights[:, None, :] @ liked
    solved: Matrix = np.linalg.solve(matrix, right.transpose(0, 2, 1))[..., 0]
    return solved


def _by_items(normal: Normal, liked: Matrix, weights: Matrix, excess: Matrix) -> Matrix:
    """The same as a system of m equations each, by the push-through identity (A + VtCV)^-1 Vt = A^-1 Vt (I + CK)^-1.

    K = V A^-1 Vt = UUt for whitened items U = VW. Its entries are at most 1 (they are leverages), so that this is
    well conditioned, whatever A is.
    """
    m = liked.shape[1]
    # User by user, as matmul does it for stacks: one product for all would round by who else is there.
    whitened = liked @ normal.whitening
    system = whitened @ whitened.transpose(0, 2, 1)
    system *= excess[..., None]
    system[:, np.arange(m), np.arange(m)] += 1.0
    shares = np.linalg.solve(system, weights[..., None])
    solved: Matrix = shares.transpose(0, 2, 1) @ whitened @ normal.whitening.T
    return solved[:, 0]


def parts(gram_matrix: Matrix, liked: Matrix, confidence: NDArray[np.float32], regularization: float) -> Matrix:
    """Each liked item's part (m, d) of the folded-in vector; the parts sum to `fold_in` of the same.

    Hu, Koren, Volinsky (2008), section 5: with W = (YtY + ...)^-1, a score y_i.x is the sum of y_i.(W y_u c_u).
    """
    matrix, _ = normal_equations(gram_matrix, liked, confidence)
    matrix += np.eye(len(matrix), dtype=np.float32) * np.float32(regularization)
    solved: Matrix = np.linalg.solve(matrix, (liked.T * confidence)).T
    return solved
