"""Looking after every few users raises no more false alarms than promised, and a bad arm is found."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.experiments.sequential_test import MIN_USERS, Arm, difference

RUNS, LOOKS, STEP, SHARE, RATE = 100, 400, 50, 0.2, 0.1


def alarms(rate: float, runs: int = RUNS, seed: int = 20261123) -> int:
    """Of the runs, in how many a treated arm of `rate` beside one of 0.1 was ever told apart, at any look."""
    rng = np.random.default_rng(seed)
    treated = round(STEP * SHARE)
    raised = 0
    for _ in range(runs):
        control = np.cumsum(rng.binomial(STEP - treated, RATE, LOOKS))
        other = np.cumsum(rng.binomial(treated, rate, LOOKS))
        raised += any(
            found.low > 0.0 or found.high < 0.0
            for look, (mine, theirs) in enumerate(zip(control.tolist(), other.tolist(), strict=True), 1)
            for found in [
                difference(
                    Arm.of_rate(look * (STEP - treated), mine), Arm.of_rate(look * treated, theirs), expected=0.03
                )
            ]
        )
    return raised


def test_the_same_rate_raises_at_most_five_false_alarms_in_a_hundred_at_400_looks_each() -> None:
    assert alarms(RATE) <= 5


def test_a_clearly_worse_arm_is_found_in_95_of_100() -> None:
    assert alarms(0.05) >= 95


def test_looking_as_often_with_a_fixed_interval_would_be_wrong_far_more_often() -> None:
    """That the bar above means something: 1.96 standard errors at every look."""
    rng = np.random.default_rng(1)
    crossed = 0
    for _ in range(RUNS):
        sides = np.cumsum(rng.binomial(25, RATE, (2, LOOKS)), axis=1)
        n = 25 * np.arange(1, LOOKS + 1)
        rates = sides / n
        errors = np.sqrt((rates * (1 - rates)).sum(axis=0) / n)
        crossed += bool((np.abs(rates[1] - rates[0]) > 1.96 * errors)[4:].any())
    assert crossed > 20


def test_means_with_long_tails_are_told_apart_and_same_ones_are_not() -> None:
    rng = np.random.default_rng(5)
    found = {1.0: 0, 0.6: 0}
    for mean in found:
        for _ in range(RUNS):
            sides = [rng.exponential(scale, 3000) for scale in (1.0, mean)]
            sums = [(np.cumsum(one), np.cumsum(one * one)) for one in sides]
            looks = range(99, 3000, 100)
            arms = [[Arm(at + 1, total[at], squares[at]) for total, squares in sums] for at in looks]
            found[mean] += any(difference(*pair, expected=0.2).high < 0 for pair in arms)
    assert found[1.0] <= 5
    assert found[0.6] >= 95


ARMS = st.integers(MIN_USERS, 100_000).flatmap(lambda n: st.builds(Arm.of_rate, st.just(n), st.integers(0, n)))


@given(ARMS, ARMS, st.floats(0.001, 0.5))
def test_the_interval_holds_its_estimate_and_changes_sign_with_the_arms(one: Arm, other: Arm, expected: float) -> None:
    found, turned = difference(one, other, expected=expected), difference(other, one, expected=expected)
    assert found.low < found.estimate < found.high
    assert [turned.low, turned.high] == pytest.approx([-found.high, -found.low])


@given(ARMS, ARMS)
def test_more_of_the_same_and_less_certainty_make_it_narrower(one: Arm, other: Arm) -> None:
    def width(times: int = 1, alpha: float = 0.05) -> float:
        grown = [Arm(arm.n * times, arm.total * times, arm.squares * times) for arm in (one, other)]
        found = difference(*grown, expected=0.05, alpha=alpha)
        return found.high - found.low

    assert width(times=4) < width()
    assert width(alpha=0.2) < width() < width(alpha=0.01)


def test_few_users_say_nothing_and_none_at_all_is_no_division_by_zero() -> None:
    nobody, many = Arm.of_rate(0, 0), Arm.of_rate(10_000, 100)
    for pair in ((nobody, many), (many, nobody), (Arm.of_rate(MIN_USERS - 1, 0), many)):
        found = difference(*pair, expected=0.05)
        assert (found.low, found.high) == (-np.inf, np.inf)
