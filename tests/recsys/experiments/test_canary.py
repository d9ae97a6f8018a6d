"""A canary that is worse goes back, one as good goes on, and 100 simulated ones of each kind say how surely."""

import math
from collections.abc import Mapping

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from recsys.experiments.canary import Action, Verdict, counts_of, judge
from recsys.experiments.rollout import STEPS, UNITS, Outcome, Rollout, next_share
from tests.recsys.experiments.test_rollout import STARTED

RUNS = 100
LOOKS = 6
PER_LOOK = 5000
"""Users exposed for the first time between two looks."""
GOOD = {Outcome.CONVERTED: 0.10, Outcome.FAILED: 0.0, Outcome.FALLBACK: 0.05, Outcome.SLOW: 0.02}
WORSE = {
    "half the conversions": {Outcome.CONVERTED: 0.05},
    "one user in fifty cannot be answered": {Outcome.FAILED: 0.02},
    "falls back four times as often": {Outcome.FALLBACK: 0.20},
    "is slow for one user in ten": {Outcome.SLOW: 0.10},
}

Rates = Mapping[Outcome, float]


def rollout(share: float = STEPS[0]) -> Rollout:
    return Rollout(share=share, salt="s", started_at=STARTED, control="v1", steps=STEPS, step_seconds=3600.0)


def packed(units: NDArray[np.int64]) -> bytes:
    bits = np.zeros(UNITS, dtype=np.uint8)
    bits[units] = 1
    return np.packbits(bits).tobytes()


def simulated(rng: np.random.Generator, canary: Rates) -> Verdict:
    """How a canary whose users have these rates ends: looked at six times in each step, by the code that serves."""
    state = rollout()
    while True:
        exposed = rng.choice(UNITS, LOOKS * PER_LOOK, replace=False)
        happened = {
            outcome: rng.random(len(exposed)) < np.where(exposed < state.boundary, canary.get(outcome, rate), rate)
            for outcome, rate in GOOD.items()
        }
        for look in range(1, LOOKS + 1):
            seen = slice(None, look * PER_LOOK)
            outcomes = {outcome: packed(exposed[seen][befell[seen]]) for outcome, befell in happened.items()}
            outcomes[Outcome.EXPOSED] = packed(exposed[seen])
            verdict = judge(state, 3600.0 * look / LOOKS, counts_of(outcomes, state.boundary))
            if verdict.action is not Action.WAIT:
                break
        if verdict.action is not Action.ADVANCE:
            return verdict
        state = msgspec.structs.replace(state, share=next_share(state.share, state.steps))


def test_a_version_as_good_is_taken_back_in_at_most_5_of_100_canaries() -> None:
    rng = np.random.default_rng(20261123)
    ends = [simulated(rng, {}).action for _ in range(RUNS)]
    assert ends.count(Action.REVERT) <= 5
    assert ends.count(Action.PROMOTE) >= 60


@pytest.mark.parametrize("worse", WORSE.values(), ids=WORSE.keys())
def test_a_version_that_is_worse_is_taken_back_in_at_least_95_of_100(worse: Rates) -> None:
    rng = np.random.default_rng(20261124)
    ends = [simulated(rng, worse) for _ in range(RUNS)]
    assert sum(end.action is Action.REVERT for end in ends) >= 95
    (outcome,) = worse
    assert sum(end.reason.startswith(outcome.value) for end in ends) >= 95, "and for the right reason"


def test_nothing_is_said_before_there_are_users_enough() -> None:
    verdict = judge(rollout(), 1e9, {Outcome.EXPOSED: (5000, 99), Outcome.FAILED: (0, 99)})
    assert verdict.action is Action.WAIT
    assert "99 users" in verdict.reason
    assert all(math.isinf(one.difference.low) for one in verdict.findings)


def test_a_step_takes_its_time_however_good_it_looks() -> None:
    counts = {Outcome.EXPOSED: (50_000, 500), Outcome.CONVERTED: (5000, 60)}
    assert judge(rollout(), 3599.0, counts).action is Action.WAIT
    assert judge(rollout(), 3600.0, counts).action is Action.ADVANCE


def test_everybody_gets_it_only_when_conversions_are_surely_not_much_fewer() -> None:
    few = {Outcome.EXPOSED: (750, 250), Outcome.CONVERTED: (75, 25)}
    many = {outcome: (100 * control, 100 * canary) for outcome, (control, canary) in few.items()}
    assert judge(rollout(0.25), 7200.0, few).action is Action.WAIT
    assert judge(rollout(0.25), 7200.0, many).action is Action.PROMOTE


def test_a_shop_that_reports_no_conversions_is_judged_by_the_rest() -> None:
    assert judge(rollout(0.25), 7200.0, {Outcome.EXPOSED: (7500, 2500)}).action is Action.PROMOTE


def test_outcomes_count_for_exposed_users_alone_each_on_its_side() -> None:
    outcomes = {
        Outcome.EXPOSED: packed(np.array([0, 5, 9, 10, 11, UNITS - 1])),
        Outcome.CONVERTED: packed(np.array([5, 6, 11])),
        Outcome.SLOW: b"\xff",
    }
    found = counts_of(outcomes, 10)
    assert found[Outcome.EXPOSED] == (3, 3)
    assert found[Outcome.CONVERTED] == (1, 1)
    assert found[Outcome.SLOW] == (0, 2)
    assert found[Outcome.FAILED] == (0, 0)
