"""A schedule is repeatable, whole and in order, whatever it is made for."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.schedule import FIRST, LAST, Kind, Targets, lanes, schedule

TARGETS = st.dictionaries(
    st.sampled_from(["features", "log", "serve", "store", "broker", "serve-store"]),
    st.lists(st.sampled_from(list(Kind)), min_size=1, unique=True),
    min_size=1,
)
SEEDS, EVENTS, COUNTS = st.integers(0, 2**32), st.integers(100, 1_000_000), st.integers(0, 80)


@given(SEEDS, EVENTS, TARGETS, COUNTS)
def test_one_seed_has_one_schedule(seed: int, events: int, targets: Targets, count: int) -> None:
    drawn = schedule(seed, events, targets, count, 2.0)
    backwards = dict(reversed(list(targets.items())))
    assert schedule(seed, events, backwards, count, 2.0) == drawn
    assert len(drawn) == count


@given(SEEDS, EVENTS, TARGETS, COUNTS)
def test_faults_come_in_order_and_while_events_flow(seed: int, events: int, targets: Targets, count: int) -> None:
    drawn = schedule(seed, events, targets, count, 2.0)
    begins = [one.after for one in drawn]
    assert begins == sorted(begins)
    assert all(round(FIRST * events) <= begin <= round(LAST * events) for begin in begins)
    assert all(0.1 <= one.seconds <= 2.0 for one in drawn)


@given(SEEDS, TARGETS, COUNTS)
def test_everything_that_may_happen_happens_as_often_as_anything_else(seed: int, targets: Targets, count: int) -> None:
    drawn = schedule(seed, 1000, targets, count, 2.0)
    possible = [(target, kind) for target, kinds in targets.items() for kind in kinds]
    times = Counter((one.target, one.kind) for one in drawn)
    assert times.keys() <= set(possible)
    assert {times[one] for one in possible} <= {count // len(possible), -(-count // len(possible))}


@given(SEEDS, TARGETS, COUNTS)
def test_lanes_hold_every_fault_once_and_in_order(seed: int, targets: Targets, count: int) -> None:
    drawn = schedule(seed, 1000, targets, count, 2.0)
    separate = lanes(drawn)
    assert sum(map(len, separate.values())) == count
    for target, lane in separate.items():
        assert lane == [one for one in drawn if one.target == target]


def test_other_seeds_have_other_schedules() -> None:
    targets = {"log": list(Kind), "store": [Kind.KILL]}
    assert len({schedule(seed, 1000, targets, 9, 2.0) for seed in range(50)}) == 50
