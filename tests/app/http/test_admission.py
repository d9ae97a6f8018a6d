"""A bounded number of requests at a time, shared fairly; the rest get a whole answer that was built before."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.http.admission import FULL, SHARE, Admission, Overload, Refusal
from app.metrics import REQUESTS_SHED


def shed() -> float:
    return float(REQUESTS_SHED._value.get())


def enters(admission: Admission, caller: str) -> bool:
    try:
        admission.enter(caller)
    except Overload:
        return False
    return True


@given(limit=st.integers(1, 5), asks=st.lists(st.booleans(), max_size=60))
def test_never_more_than_the_limit_are_inside_and_none_is_turned_away_below_it(limit: int, asks: list[bool]) -> None:
    admission = Admission(limit)
    inside = 0
    earlier = shed()
    turned_away = 0
    for comes in asks:
        if comes:
            entered = enters(admission, "shop")
            assert entered == (inside < limit)
            inside += entered
            turned_away += not entered
        elif inside:
            admission.leave("shop")
            inside -= 1
    assert shed() - earlier == turned_away


@given(limit=st.integers(1, 40), asks=st.lists(st.sampled_from("abcde"), max_size=200), leaves=st.randoms())
def test_who_holds_nothing_gets_in_while_there_is_room(limit: int, asks: list[str], leaves: object) -> None:
    admission, held = Admission(limit, shared=True), Counter[str]()
    for caller in asks:
        room = held.total() < limit
        if enters(admission, caller):
            held[caller] += 1
            assert held.total() <= limit
        else:
            assert not room or held[caller], "with nothing under way, room is room"
        if leaves.random() < 0.4 and held.total():  # type: ignore[attr-defined]
            gone = leaves.choice(sorted(held.elements()))  # type: ignore[attr-defined]
            held[gone] -= 1
            admission.leave(gone)


def test_two_who_take_all_they_can_leave_room_for_a_third() -> None:
    admission = Admission(32, shared=True)
    for _ in range(100):
        for caller in ("hog", "boar"):
            enters(admission, caller)
    assert enters(admission, "shop")


@pytest.mark.parametrize("refusal", [FULL, SHARE])
def test_the_answer_to_those_turned_away_is_a_problem_with_a_time_to_come_back(refusal: Refusal) -> None:
    headers = dict(refusal.response.headers)
    assert int(headers[b"content-length"]) == len(refusal.response.body)
    assert headers[b"content-type"] == b"application/problem+json"
    assert int(headers[b"retry-after"]) >= 1
    assert json.loads(refusal.response.body)["status"] == refusal.problem.status
