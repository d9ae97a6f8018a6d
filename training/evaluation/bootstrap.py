"""Paired bootstrap over users: the confidence interval of a difference of two models on the same users.

The percentile interval of Efron & Tibshirani, "An Introduction to the Bootstrap" (1993), ch. 13. Resampling users keeps
each user's two values together (Sakai, "Evaluating evaluation metrics based on the bootstrap", SIGIR 2006).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

CELLS = 4_000_000
"""Values drawn at a time: 32 MB."""


@dataclass(frozen=True, slots=True)
class Interval:
    """`low` to `high` holds the mean with the chosen confidence; `estimate` is the mean over `users`."""

    estimate: float
    low: float
    high: float
    users: int


def mean_interval(values: Values, *, confidence: float, samples: int, seed: int) -> Interval:
    """Return the interval of the mean of `values` (users,) from `samples` resamplings; one seed, one result."""
    n = len(values)
    drawn = np.random.default_rng(seed)
    means = [
        values[drawn.integers(n, size=(min(step, samples - begun), n))].mean(axis=1)
        for step in [max(1, CELLS // n)]
        for begun in range(0, samples, step)
    ]
    outside = 50.0 * (1.0 - confidence)
    low, high = np.percentile(np.concatenate(means), [outside, 100.0 - outside])
    return Interval(float(values.mean()), float(low), float(high), n)
