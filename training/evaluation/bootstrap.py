"""Paired bootstrap over users: the confidence interval of a difference of two models on the same users.

The percentile interval of Efron & Tibshirani, "An Introduction to the Bootstrap" (1993), ch. 13. Resampling users keeps
each user's two values together (Sakai, "Evaluating evaluation metrics based on the bootstrap", SIGIR 2006).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

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
    if n < 2:
        return Interval(float(values.mean()), float(values.mean()), float(values.mean()), n)
    resampled = bootstrap(
        (values,),
        np.mean,
        n_resamples=samples,
        batch=max(1, CELLS // n),
        vectorized=True,
        confidence_level=confidence,
        method="percentile",
        rng=seed,
    )
    low, high = resampled.confidence_interval
    return Interval(float(values.mean()), float(low), float(high), n)
