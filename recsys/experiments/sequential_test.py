"""Experiment: how sure a difference of two arms is, however often one looks.

The interval is valid at every moment at once, so that an operator may look after each event and stop when it suits.
"""

import math
from dataclasses import dataclass

MIN_USERS = 100
"""Of each arm, below which the interval is endless: the normal approximation does not hold yet."""


@dataclass(frozen=True, slots=True)
class Arm:
    """Sufficient statistics of one arm: `n` users, the sum of their values and of the squares of these.

    The users are what is independent, not their requests: count each once, with their own rate or sum.
    """

    n: int
    total: float
    squares: float

    @classmethod
    def of_rate(cls, n: int, successes: int) -> "Arm":
        """An arm of `n` users whose values are 0 or 1, `successes` of them 1."""
        return cls(n, float(successes), float(successes))

    @property
    def mean(self) -> float:
        """The mean value per user; 0.0 without users."""
        return self.total / self.n if self.n else 0.0

    @property
    def variance(self) -> float:
        """The variance of one value, with two pseudo-users added so that it is positive without any data."""
        n, total, squares = self.n + 2, self.total + 1.0, self.squares + 1.0
        return max(squares / n - (total / n) ** 2, 0.0)


@dataclass(frozen=True, slots=True)
class Difference:
    """Treated less control: the `estimate`, and bounds that hold at all times together with 1 - alpha."""

    estimate: float
    low: float
    high: float


def difference(control: Arm, treated: Arm, *, expected: float, alpha: float = 0.05) -> Difference:
    """The always-valid interval of the difference of means.

    The mixture sequential probability ratio test with effects N(0, `expected`^2), turned into an interval: Robbins,
    "Statistical Methods Related to the Law of the Iterated Logarithm" (1970); Johari, Koomen, Pekelis & Walsh, "Always
    Valid Inference" (Operations Research, 2022), eq. 11, with V the variance of the estimate:

        |d - estimate| < sqrt(2 V (V + expected^2) / expected^2 * log(sqrt((V + expected^2) / V) / alpha))

    Variances are estimated, so it holds asymptotically: Waudby-Smith et al., "Time-uniform central limit theory and
    asymptotic confidence sequences" (Annals of Statistics, 2024). `expected` is a difference worth finding; a wrong one
    costs width, never validity. It has to be fixed beforehand.
    """
    estimate = treated.mean - control.mean
    if min(control.n, treated.n) < MIN_USERS:
        return Difference(estimate, -math.inf, math.inf)
    variance = max(control.variance / control.n + treated.variance / treated.n, 1e-300)
    mixture = expected * expected
    odds = 0.5 * math.log1p(mixture / variance) - math.log(alpha)
    radius = math.sqrt(2.0 * variance * (variance + mixture) / mixture * odds)
    return Difference(estimate, estimate - radius, estimate + radius)
