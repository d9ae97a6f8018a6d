"""The contract of an algorithm: from confidences to item factors that a version serves.

A file of this folder has `Parameters`, a `Section` whose fields are what `train.parameters` may hold, and
`create(settings, parameters)`, which returns an `Algorithm`. It imports its library inside `fit`: settings are checked
where no trainer is installed.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from recsys.index.factors import Matrix, Normal, fold_in, gram
from recsys.settings import Section

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

FOLD_IN_BATCH = 256

Progress = Callable[[int, int], None]
"""Called after each pass with passes done and passes in all."""


@dataclass(frozen=True, slots=True)
class Fit:
    """`item_factors` is float32 (items, d); `history` has one value per pass, named by `history_name`."""

    item_factors: Matrix
    history: list[float]
    history_name: str


class Algorithm(Protocol):
    """Learns item factors; users are folded in, so that a snapshot and the stream agree for every algorithm."""

    @property
    def name(self) -> str:
        """The word for it in `train.algorithm` and in manifests."""

    @property
    def parameters(self) -> Section:
        """The parameters in force, defaults included, for the manifest."""

    def fit(self, matrix: "csr_matrix", progress: Progress) -> Fit:
        """Learn from confidences (users, items), float32; the same seed and data give the same factors."""

    def user_factors(self, matrix: "csr_matrix", item_factors: Matrix) -> Matrix:
        """Return user factors (users, d) of the rows of `matrix`, whose inner products with items rank them."""


def fold_in_users(matrix: "csr_matrix", item_factors: Matrix, regularization: float, threads: int = 0) -> Matrix:
    """Return user factors (users, d) by the fold-in that serving uses, so that snapshot and stream agree.

    Batches go to threads, and BLAS uses one: its own threads are slower on systems this small, and on a busy
    machine they wait for each other (187 s instead of 9 for a whole run, as measured).
    """
    from threadpoolctl import threadpool_limits

    normal = Normal.of(gram(item_factors), regularization)

    def solve(start: int) -> Matrix:
        """Return the user factors of the batch of rows that begins at `start`."""
        batch = matrix[start : start + FOLD_IN_BATCH]
        sizes = np.diff(batch.indptr)
        return fold_in(normal, item_factors, batch.indices, batch.data, sizes)

    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        folded = pool.map(solve, range(0, matrix.shape[0], FOLD_IN_BATCH))
        return np.concatenate([np.empty((0, item_factors.shape[1]), dtype=np.float32), *folded])
