"""Assignment of users to a canary, and its length."""

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import InvalidInput
from recsys.experiments.rollout import STEPS, UNITS, Rollout, checked_steps, next_share
from recsys.messages.interaction import Interaction

STARTED = datetime(2026, 11, 23, tzinfo=UTC)


def rollout(share: float = 0.05, salt: str = "july") -> Rollout:
    return Rollout(share=share, salt=salt, started_at=STARTED, control="v1")


def treated(users: list[str], one: Rollout) -> set[str]:
    return {user for user in users if one.unit(user) < one.boundary}


@given(st.text(), st.text(), st.floats(0.001, 1), st.floats(0.001, 1))
def test_who_is_treated_stays_so_while_the_share_grows(user: str, salt: str, one: float, other: float) -> None:
    small, large = (rollout(share, salt) for share in sorted((one, other)))
    assert 0 <= small.unit(user) < UNITS
    assert small.unit(user) == large.unit(user)
    assert small.boundary <= large.boundary
    assert rollout(1.0, salt).boundary == UNITS


def test_shares_are_what_they_say_and_rollouts_do_not_share_their_users() -> None:
    users = [f"user-{n}" for n in range(20_000)]
    first, second = treated(users, rollout()), treated(users, rollout(salt="august"))
    assert 900 < len(first) < 1100
    assert 20 < len(first & second) < 90, "a twentieth of a twentieth"


def test_an_assignment_never_changes_with_a_release() -> None:
    assert rollout(salt="9f3a1c00").unit("13085") == 859_649


def test_a_canary_goes_from_step_to_step_and_stays_at_the_last() -> None:
    assert [next_share(share, STEPS) for share in (0.0, 0.01, 0.05, 0.25, 1.0)] == [0.01, 0.05, 0.25, 1.0, 1.0]


def test_steps_end_with_everybody_and_ascend() -> None:
    assert checked_steps([0.1, 0.5]) == (0.1, 0.5, 1.0)
    for wrong in ([], [0.5, 0.1], [0.1, 0.1], [0.0, 1.0], [0.5, 2.0], [float("nan")]):
        with pytest.raises(InvalidInput, match="steps"):
            checked_steps(wrong)


def test_a_success_is_what_names_the_answer_it_came_from_or_one_of_the_types_asked_for() -> None:
    bought = Interaction(event_id="1", user_id="u", item_id="i", type="purchase", occurred_at=STARTED)
    attributed = msgspec.structs.replace(bought, type="view", recommendation_id="r1")
    shown = msgspec.structs.replace(attributed, type="impression")
    by_answer, by_type = rollout(), msgspec.structs.replace(rollout(), converts=("purchase",))
    assert [by_answer.counts(one) for one in (bought, attributed, shown)] == [False, True, False]
    assert [by_type.counts(one) for one in (bought, attributed, shown)] == [True, False, False]
