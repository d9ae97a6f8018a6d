"""ALS: weighted matrix factorization by alternating least squares, by implicit.

Hu, Koren, Volinsky, "Collaborative Filtering for Implicit Feedback Datasets" (ICDM 2008).
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
    """Parameters of ALS; its regularization is `train.regularization`, which fold-in shares."""

    iterations: int = Field(15, ge=1, le=1000, description="passes over the data")


@dataclass(frozen=True, slots=True)
class ALS:
    """Item factors whose inner products with folded-in users come close to 0 or 1, weighted by confidence."""

    settings: TrainSettings
    parameters: Parameters
    name: str = "als"

    def fit(self, matrix: "csr_matrix", progress: Progress) -> Fit:
        """Learn from confidences (users, items); the history is the training loss of each pass."""
        from implicit.cpu.als import AlternatingLeastSquares
        from threadpoolctl import threadpool_limits

        history: list[float] = []

        def after_pass(iteration: int, _seconds: float, loss: float) -> None:
            """Record the training loss of this pass."""
            history.append(float(loss))
            progress(iteration + 1, self.parameters.iterations)

        # implicit has threads of its own; BLAS threads below them only slow it down.
        with threadpool_limits(1, "blas"):
            model = AlternatingLeastSquares(
                factors=self.settings.factors,
                regularization=self.settings.regularization,
                iterations=self.parameters.iterations,
                calculate_training_loss=True,
                random_state=self.settings.seed,
                num_threads=self.settings.threads,
            )
            model.fit(matrix, show_progress=False, callback=after_pass)
        return Fit(np.ascontiguousarray(model.item_factors, dtype=np.float32), history, "training loss")

    def user_factors(self, matrix: "csr_matrix", item_factors: Matrix) -> Matrix:
        """Return folded-in users (users, d): for ALS the very half step that training alternates with."""
        return fold_in_users(matrix, item_factors, self.settings.regularization, self.settings.threads)


def create(settings: TrainSettings, parameters: Parameters) -> ALS:
    """Return ALS with these parameters."""
    return ALS(settings, parameters)
