"""Confidence weights and fold-in: how a history becomes a user-factor vector without retraining.

Hu, Koren, Volinsky, "Collaborative Filtering for Implicit Feedback Datasets" (ICDM 2008), eq. 4: with
item factors Y (n, d), confidences c_i of the user's items and everything else at confidence 1,
    x = (YtY + sum_i (c_i - 1) y_i y_it + reg I)^-1  sum_i c_i y_i
which is what `implicit.als.recalculate_user` solves, so an embedding folded in online equals the trained one.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from recsys.interaction import DEFAULT_TYPE_WEIGHTS, OTHER_TYPE_WEIGHT
from recsys.user_features import HistoryEntry, Vector

Matrix = NDArray[np.float32]
DAY_MS = 86_400_000


class ConfidenceParameters(msgspec.Struct, frozen=True, kw_only=True):
    """How interactions become confidence: 1 + alpha * sum of type weight * 0.5 ** (age / half life).

    Ages count back from `reference_ms` (the version's watermark), so that the same history gives the
    same vector at any hour. Types without a weight count as `other_weight`. `half_life_days` 0: no decay.
    """

    alpha: float
    regularization: float
    reference_ms: int
    type_weights: dict[str, float] = msgspec.field(default_factory=lambda: dict(DEFAULT_TYPE_WEIGHTS))
    other_weight: float = OTHER_TYPE_WEIGHT
    half_life_days: float = 0.0


def decayed_weights(history: Sequence[HistoryEntry], parameters: ConfidenceParameters) -> NDArray[np.float64]:
    """The weight of each entry before `alpha`; shape (len(history),)."""
    weights, other = parameters.type_weights, parameters.other_weight
    base = np.array([weights.get(entry.type, other) for entry in history], dtype=np.float64)
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
    known = rows >= 0
    distinct, inverse = np.unique(rows[known], return_inverse=True)
    summed = np.bincount(inverse, weights=weights[known], minlength=len(distinct))
    return distinct, (1.0 + alpha * summed).astype(np.float32)


def gram(item_factors: Matrix) -> Matrix:
    """YtY, shape (d, d)."""
    product: Matrix = item_factors.T @ item_factors
    return product


def normal_equations(gram_matrix: Matrix, liked: Matrix, confidence: NDArray[np.float32]) -> tuple[Matrix, Vector]:
    """The left side (d, d), without regularisation, and right side (d,) for one user's liked items (m, d)."""
    left: Matrix = (gram_matrix + (liked.T * (confidence - 1.0)) @ liked).astype(np.float32)
    right: Vector = (liked.T @ confidence).astype(np.float32)
    return left, right


def fold_in(
    gram_matrix: Matrix, liked: Sequence[Matrix], confidence: Sequence[NDArray[np.float32]], regularization: float
) -> Matrix:
    """User factors (u, d) for u users, each with liked item factors (m_u, d) and confidences (m_u,).

    One batched solve. `gram_matrix` is YtY of shape (d, d).
    """
    d = gram_matrix.shape[0]
    left = np.empty((len(liked), d, d), dtype=np.float32)
    right = np.empty((len(liked), d), dtype=np.float32)
    for place, (factors, weights) in enumerate(zip(liked, confidence, strict=True)):
        left[place], right[place] = normal_equations(gram_matrix, factors, weights)
    left += np.eye(d, dtype=np.float32) * np.float32(regularization)
    solved: Matrix = np.linalg.solve(left, right[..., None])[..., 0]
    return solved


def parts(gram_matrix: Matrix, liked: Matrix, confidence: NDArray[np.float32], regularization: float) -> Matrix:
    """Each liked item's part (m, d) of the folded-in vector; the parts sum to `fold_in` of the same.

    Hu, Koren, Volinsky (2008), section 5: with W = (YtY + ...)^-1, a score y_i.x is the sum of y_i.(W y_u c_u).
    """
    left, _ = normal_equations(gram_matrix, liked, confidence)
    left += np.eye(len(left), dtype=np.float32) * np.float32(regularization)
    solved: Matrix = np.linalg.solve(left, (liked.T * confidence)).T
    return solved
