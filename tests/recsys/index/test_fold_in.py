"""An embedding folded in online is the one that implicit would have trained."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from implicit.als import AlternatingLeastSquares
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from recsys.index.factors import Normal, confidences, decayed_weights, fold_in, gram
from recsys.models.kinds import ConfidenceParameters
from recsys.users import HistoryEntry

DAY_MS = 86_400_000


@st.composite
def problems(draw: st.DrawFn) -> tuple[NDArray[np.float32], csr_matrix, float]:
    """Item factors (n, d), confidences (u, n) with at least one item per user, regularisation.

    Regularisation from 1 up: below, these random systems are so ill-conditioned that two correct solvers in
    single precision (ours and implicit's) differ by more than 1e-4.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    items, users, dimensions = draw(st.integers(2, 40)), draw(st.integers(1, 6)), draw(st.integers(1, 32))
    factors = rng.normal(size=(items, dimensions)).astype(np.float32)
    dense = np.where(rng.random((users, items)) < 0.3, 1.0 + 40.0 * rng.random((users, items)), 0.0)
    dense[:, 0] = 2.0
    return factors, csr_matrix(dense.astype(np.float32)), draw(st.sampled_from([1.0, 5.0, 20.0]))


@given(problems())
def test_fold_in_equals_implicits_recalculated_user_factors(
    problem: tuple[NDArray[np.float32], csr_matrix, float],
) -> None:
    factors, matrix, regularization = problem
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(factors=factors.shape[1], regularization=regularization, alpha=1.0)
    model.item_factors = factors
    expected = model.recalculate_user(np.arange(matrix.shape[0]), matrix)
    sizes = np.diff(matrix.indptr)
    folded = fold_in(Normal.of(gram(factors), regularization), factors, matrix.indices, matrix.data, sizes)
    np.testing.assert_allclose(folded, expected, atol=1e-4, rtol=1e-4)


@given(problems())
def test_whose_company_a_user_is_folded_in_changes_no_bit(
    problem: tuple[NDArray[np.float32], csr_matrix, float],
) -> None:
    factors, matrix, regularization = problem
    normal = Normal.of(gram(factors), regularization)
    together = fold_in(normal, factors, matrix.indices, matrix.data, np.diff(matrix.indptr))
    for user in range(matrix.shape[0]):
        row = matrix[user]
        (alone,) = fold_in(normal, factors, row.indices, row.data, np.diff(row.indptr))
        assert alone.tobytes() == together[user].tobytes()


@pytest.mark.parametrize("items", [3, 30, 300])
def test_factors_that_are_nearly_alike_are_folded_in_as_in_double_precision(items: int) -> None:
    """Few directions matter and hardly any regularisation: the condition number is about a million."""
    rng = np.random.default_rng(items)
    factors = (rng.normal(size=(1000, 64)) * np.geomspace(1.0, 0.001, 64)).astype(np.float32)
    liked, confidence = rng.choice(1000, items, replace=False), np.full(items, 20.0, dtype=np.float32)
    (folded,) = fold_in(Normal.of(gram(factors), 0.01), factors, liked, confidence, np.array([items]))
    wide, own = factors.astype(np.float64), factors[liked].astype(np.float64)
    left = wide.T @ wide + 0.01 * np.eye(64) + 19.0 * own.T @ own
    expected = np.linalg.solve(left, 20.0 * own.sum(axis=0))
    np.testing.assert_allclose(wide @ folded, wide @ expected, atol=1e-3 * np.abs(wide @ expected).max())


def test_who_likes_nothing_gets_zeros() -> None:
    factors = np.eye(3, dtype=np.float32)
    sizes, ones = np.array([0, 1, 0]), np.ones(1, dtype=np.float32)
    folded = fold_in(Normal.of(gram(factors), 1.0), factors, np.array([2]), 2 * ones, sizes)
    expected = np.array([[0, 0, 0], [0, 0, 2 / 3], [0, 0, 0]])
    np.testing.assert_allclose(folded, expected, rtol=1e-6)


def test_confidences_sum_per_item_and_leave_out_the_unknown() -> None:
    rows, confidence = confidences(np.array([3, -1, 3, 0]), np.array([0.5, 9.0, 1.0, 2.0]), alpha=10.0)
    assert rows.tolist() == [0, 3]
    assert confidence.tolist() == [21.0, 16.0]


def test_weights_halve_with_every_half_life_and_are_bounded_in_the_future() -> None:
    parameters = ConfidenceParameters(
        alpha=1.0, regularization=1.0, reference_ms=100 * DAY_MS, type_weights={"buy": 1.0}, half_life_days=10.0
    )
    at = [100, 90, 80, 105, 1000]
    history = [HistoryEntry(day * DAY_MS, place, "i", "buy") for place, day in enumerate(at)]
    assert decayed_weights(history, parameters).tolist() == [1.0, 0.5, 0.25, 2**0.5, 2.0]
    unknown = [HistoryEntry(100 * DAY_MS, 0, "i", "wave")]
    assert decayed_weights(unknown, parameters).tolist() == [parameters.other_weight]
