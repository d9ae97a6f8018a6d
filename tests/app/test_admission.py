"""A bounded number of requests at a time; the rest get a whole answer that was built before."""

import json

from hypothesis import given
from hypothesis import strategies as st

from app.admission import SHED_BODY, SHED_HEADERS, Admission
from app.metrics import REQUESTS_SHED


def shed() -> float:
    return float(REQUESTS_SHED._value.get())


@given(limit=st.integers(1, 5), asks=st.lists(st.booleans(), max_size=60))
def test_never_more_than_the_limit_are_inside_and_none_is_turned_away_below_it(limit: int, asks: list[bool]) -> None:
    admission = Admission(limit)
    inside = 0
    before = shed()
    turned_away = 0
    for comes in asks:
        if comes:
            entered = admission.enter()
            assert entered == (inside < limit)
            inside += entered
            turned_away += not entered
        elif inside:
            admission.leave()
            inside -= 1
    assert shed() - before == turned_away


def test_the_answer_to_those_turned_away_is_a_problem_with_a_time_to_come_back() -> None:
    headers = dict(SHED_HEADERS)
    assert int(headers[b"content-length"]) == len(SHED_BODY)
    assert headers[b"content-type"] == b"application/problem+json"
    assert int(headers[b"retry-after"]) >= 1
    assert json.loads(SHED_BODY)["status"] == 503
