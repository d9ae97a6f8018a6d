"""BPR: matrix factorization that ranks what a user had above what the user had not, by implicit.

Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback" (UAI 2009). It has no closed form for a new
user, so online its item factors (with the bias as one more dimension) are folded into with the same least squares as
ALS; the evaluation measures exactly that.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from recsys.index.factors import Matrix
from recsys.settings import Section
from training.recommender.algorithms.protocol import Fit, Progress, fold_in_users
from training.settings import TrainSettings

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


class Parameters(Section):
    """Parameters of BPR."""

    iterations: int = Field(150, ge=1, le=10_000, description="passes over the data")
    learning_rate: float = Field(0.02, gt=0, description="step of each gradient")
    regularization: float = Field(0.01, ge=0, description="of BPR alone; fold-in has train.regularization")


@dataclass(frozen=True, slots=True)
class BPR:
    """Item factors and biases learned from pairs of an item that a user had and a random one."""

    settings: TrainSettings
    parameters: Parameters
    name: str = "bpr"

    def fit(self, matrix: "csr_matrix", progress: Progress) -> Fit:
        """Learn from (users, items); the history is the share of pairs ranked right in each pass."""
        from implicit.cpu.bpr import BayesianPersonalizedRanking
        from threadpoolctl import threadpool_limits

        history: list[float] = []

        def after_pass(iteration: int, _seconds: float, right: int, skipped: int) -> None:
            """Record the share of pairs ranked right in this pass."""
            history.append(right / max(matrix.nnz - skipped, 1))
            progress(iteration + 1, self.parameters.iterations)

        with threadpool_limits(1, "blas"):
            model = BayesianPersonalizedRanking(
                factors=self.settings.factors,
                regularization=self.parameters.regularization,
                learning_rate=self.parameters.learning_rate,
                iterations=self.parameters.iterations,
                random_state=self.settings.seed,
                # Several threads race for the same rows, and results would differ from run to run.
                num_threads=1,
            )
            model.fit(matrix, show_progress=False, callback=after_pass)
        return Fit(np.ascontiguousarray(model.item_factors, dtype=np.float32), history, "pairs ranked right")

    def user_factors(self, matrix: "csr_matrix", item_factors: Matrix) -> Matrix:
        """Return folded-in users (users, d)."""
        return fold_in_users(matrix, item_factors, self.settings.regularization, self.settings.threads)


def create(settings: TrainSettings, parameters: Parameters) -> BPR:
    """Return BPR with these parameters."""
    return BPR(settings, parameters)
