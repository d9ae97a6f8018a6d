"""Fit: item factors from a confidence matrix, by implicit's ALS or BPR.

ALS: Hu, Koren, Volinsky, "Collaborative Filtering for Implicit Feedback Datasets" (ICDM 2008).
BPR: Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback" (UAI 2009). It has no closed
form for a new user, so online its item factors (with the bias as one more dimension) are folded into with the
same least squares as ALS; the evaluation measures exactly that.
"""

from collections.abc import Callable

import numpy as np
from implicit.als import AlternatingLeastSquares
from implicit.bpr import BayesianPersonalizedRanking
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from recsys.recommender.factors import Matrix, fold_in, gram
from training.settings import Algorithm, TrainSettings

FOLD_IN_BATCH = 512

Progress = Callable[[str, int, int], None]


def fit(matrix: csr_matrix, settings: TrainSettings, progress: Progress) -> Matrix:
    """Item factors, float32 (items, d). The same seed, data and number of threads give the same factors."""

    def after_iteration(iteration: int, *_: object) -> None:
        progress("learning factors", iteration + 1, settings.iterations)

    # implicit has threads of its own; BLAS threads below them only get in each other's way.
    with threadpool_limits(1, "blas"):
        if settings.algorithm is Algorithm.ALS:
            model = AlternatingLeastSquares(
                factors=settings.factors,
                regularization=settings.regularization,
                iterations=settings.iterations,
                random_state=settings.seed,
                num_threads=settings.threads,
            )
        else:
            model = BayesianPersonalizedRanking(
                factors=settings.factors,
                regularization=0.01,
                learning_rate=settings.learning_rate,
                iterations=settings.iterations * 10,
                random_state=settings.seed,
                # Several threads race for the same rows, and no two runs would agree.
                num_threads=1,
            )
        model.fit(matrix, show_progress=False, callback=after_iteration)
    return np.ascontiguousarray(model.item_factors, dtype=np.float32)


def user_factors(matrix: csr_matrix, item_factors: Matrix, regularization: float) -> Matrix:
    """User factors (users, d) by the fold-in that serving uses, so that snapshot and stream agree."""
    folded = [np.empty((0, item_factors.shape[1]), dtype=np.float32)]
    gram_matrix = gram(item_factors)
    for start in range(0, matrix.shape[0], FOLD_IN_BATCH):
        batch = matrix[start : start + FOLD_IN_BATCH]
        places = [slice(batch.indptr[row], batch.indptr[row + 1]) for row in range(batch.shape[0])]
        liked = [item_factors[batch.indices[place]] for place in places]
        folded.append(fold_in(gram_matrix, liked, [batch.data[place] for place in places], regularization))
    return np.concatenate(folded)
