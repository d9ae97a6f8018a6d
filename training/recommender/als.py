"""Fit: item factors from a confidence matrix, by implicit's ALS or BPR.

ALS: Hu, Koren, Volinsky, "Collaborative Filtering for Implicit Feedback Datasets" (ICDM 2008).
BPR: Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback" (UAI 2009). It has no closed
form for a new user, so online its item factors (with the bias as one more dimension) are folded into with the
same least squares as ALS; the evaluation measures exactly that.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from implicit.cpu.bpr import BayesianPersonalizedRanking
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from recsys.index.factors import Matrix, Normal, fold_in, gram
from training.settings import Algorithm, TrainSettings

FOLD_IN_BATCH = 256

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Fit:
    """`item_factors` is float32 (items, d); `history` has one value per pass, named by `history_name`."""

    item_factors: Matrix
    history: list[float]
    history_name: str


def fit(matrix: csr_matrix, settings: TrainSettings, progress: Progress, stage: str = "learning factors") -> Fit:
    """Learn item factors from `matrix`; the same seed and data give the same factors."""
    history: list[float] = []
    # implicit has threads of its own; BLAS threads below them only slow it down.
    with threadpool_limits(1, "blas"):
        if settings.algorithm is Algorithm.ALS:
            als = AlternatingLeastSquares(
                factors=settings.factors,
                regularization=settings.regularization,
                iterations=settings.iterations,
                calculate_training_loss=True,
                random_state=settings.seed,
                num_threads=settings.threads,
            )

            def after_als(iteration: int, _seconds: float, loss: float) -> None:
                """Record the training loss of this pass."""
                history.append(float(loss))
                progress(stage, iteration + 1, settings.iterations)

            als.fit(matrix, show_progress=False, callback=after_als)
            return Fit(np.ascontiguousarray(als.item_factors, dtype=np.float32), history, "training loss")
        bpr = BayesianPersonalizedRanking(
            factors=settings.factors,
            regularization=settings.bpr_regularization,
            learning_rate=settings.bpr_learning_rate,
            iterations=settings.bpr_iterations,
            random_state=settings.seed,
            # Several threads race for the same rows, and results would differ from run to run.
            num_threads=1,
        )

        def after_bpr(iteration: int, _seconds: float, right: int, skipped: int) -> None:
            """Record the share of pairs ranked right in this pass."""
            history.append(right / max(matrix.nnz - skipped, 1))
            progress(stage, iteration + 1, settings.bpr_iterations)

        bpr.fit(matrix, show_progress=False, callback=after_bpr)
        return Fit(np.ascontiguousarray(bpr.item_factors, dtype=np.float32), history, "pairs ranked right")


def user_factors(matrix: csr_matrix, item_factors: Matrix, regularization: float, threads: int = 0) -> Matrix:
    """Return user factors (users, d) by the fold-in that serving uses, so that snapshot and stream agree.

    Batches go to threads, and BLAS uses one: its own threads are slower on systems this small, and on a busy
    machine they wait for each other (187 s instead of 9 for a whole run, as measured).
    """
    normal = Normal.of(gram(item_factors), regularization)

    def solve(start: int) -> Matrix:
        """Return the user factors of the batch of rows that begins at `start`."""
        batch = matrix[start : start + FOLD_IN_BATCH]
        sizes = np.diff(batch.indptr)
        return fold_in(normal, item_factors, batch.indices, batch.data, sizes)

    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        folded = pool.map(solve, range(0, matrix.shape[0], FOLD_IN_BATCH))
        return np.concatenate([np.empty((0, item_factors.shape[1]), dtype=np.float32), *folded])
