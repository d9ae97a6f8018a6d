"""The breaker opens on failures, probes one at a time, and agrees with a plain model of itself."""

from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from app.metrics import CIRCUIT_OPEN
from app.serving.circuit_breaker import BreakerPolicy, CircuitBreaker

POLICY = BreakerPolicy(consecutive=3, failures=5, window=10, first_open=1.0, longest_open=8.0)


class Time:
    """A clock that stands until it is moved."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def breaker(chance: float = 0.0) -> tuple[CircuitBreaker, Time]:
    clock = Time()
    return CircuitBreaker(POLICY, clock, lambda: chance), clock


def opened(chance: float = 0.0) -> tuple[CircuitBreaker, Time]:
    made, clock = breaker(chance)
    for _ in range(POLICY.consecutive):
        made.failed()
    return made, clock


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    made, _ = breaker()
    for outcome in (made.failed, made.failed, made.succeeded, made.failed, made.failed):
        outcome()
        assert made.allow()
    made.failed()
    assert made.is_open
    assert not made.allow()


def test_it_opens_when_too_many_of_the_last_calls_failed() -> None:
    made, _ = breaker()
    for _ in range(4):
        made.failed()
        made.succeeded()
    assert not made.is_open
    made.failed()
    assert made.is_open


def test_failures_that_left_the_window_are_forgotten() -> None:
    made, _ = breaker()
    for _ in range(50):
        made.failed()
        for _ in range(2):
            made.succeeded()
    assert not made.is_open


def test_one_probe_at_a_time_and_a_success_closes_it() -> None:
    made, clock = opened()
    clock.now += 1.0
    assert made.allow()
    assert not made.allow()
    made.succeeded()
    assert not made.is_open
    assert made.allow()


def test_a_probe_that_fails_doubles_the_open_time_up_to_the_longest() -> None:
    made, clock = opened()
    for wait in (1.0, 2.0, 4.0, 8.0, 8.0, *[8.0] * 2000):
        clock.now += 0.99 * wait
        assert not made.allow()
        clock.now += 0.02 * wait
        assert made.allow()
        made.failed()


def test_an_outage_after_a_recovery_starts_with_the_first_open_time() -> None:
    made, clock = opened()
    for _ in range(5):
        clock.now += 8.0
        assert made.allow()
        made.failed()
    clock.now += 8.0
    assert made.allow()
    made.succeeded()
    for _ in range(POLICY.consecutive):
        made.failed()
    clock.now += 1.0
    assert made.allow()


def test_chance_shortens_the_open_time_by_up_to_half() -> None:
    made, clock = opened(chance=0.999)
    clock.now += 0.49
    assert not made.allow()
    clock.now += 0.02
    assert made.allow()


def test_a_probe_whose_outcome_nobody_reports_does_not_close_the_door_for_ever() -> None:
    made, clock = opened()
    clock.now += 1.0
    assert made.allow()
    clock.now += 1.0
    assert made.allow()


def test_what_was_asked_before_it_opened_neither_closes_it_nor_opens_it_longer() -> None:
    made, clock = opened()
    made.succeeded()
    assert made.is_open
    made.failed()
    clock.now += 1.0
    assert made.allow()


def test_the_metric_says_whether_it_is_open() -> None:
    made, clock = opened()
    assert CIRCUIT_OPEN._value.get() == 1
    clock.now += 1.0
    assert made.allow()
    made.succeeded()
    assert CIRCUIT_OPEN._value.get() == 0


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999])
def test_the_open_time_is_never_longer_than_the_longest(chance: float) -> None:
    made, clock = opened(chance)
    for _ in range(20):
        clock.now += POLICY.longest_open
        assert made.allow()
        made.failed()


class Model(RuleBasedStateMachine):
    """The breaker beside a slow and obvious one: a list of outcomes and a time of the next call."""

    def __init__(self) -> None:
        super().__init__()
        self.made, self.clock = breaker()
        self.outcomes: deque[bool] = deque(maxlen=POLICY.window)
        self.open_times = 0
        self.next_call = 0.0
        self.probing = False

    def open_time(self) -> float:
        seconds = POLICY.first_open
        for _ in range(self.open_times - 1):
            seconds = min(2 * seconds, POLICY.longest_open)
        return seconds

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0, 4.0, 9.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def somebody_asks(self) -> None:
        allowed = self.open_times == 0 or self.clock.now >= self.next_call
        assert self.made.allow() == allowed
        if self.open_times and allowed:
            self.probing = True
            self.next_call = self.clock.now + self.open_time()

    @rule()
    def a_call_fails(self) -> None:
        self.made.failed()
        if self.open_times and self.probing:
            self.probing = False
            self.open_times += 1
            self.next_call = self.clock.now + self.open_time()
        elif not self.open_times:
            self.outcomes.append(True)
            last = list(self.outcomes)[-POLICY.consecutive :]
            if last == [True] * POLICY.consecutive or sum(self.outcomes) >= POLICY.failures:
                self.open_times = 1
                self.next_call = self.clock.now + self.open_time()

    @rule()
    def a_call_succeeds(self) -> None:
        self.made.succeeded()
        if not self.open_times:
            self.outcomes.append(False)
        elif self.probing:
            self.outcomes.clear()
            self.open_times, self.probing = 0, False

    @invariant()
    def both_say_the_same(self) -> None:
        assert self.made.is_open == (self.open_times > 0)

    @precondition(lambda self: self.open_times > 0)
    @rule()
    def it_never_stays_shut(self) -> None:
        self.clock.now += POLICY.longest_open
        self.somebody_asks()
        assert self.probing


Model.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestModel = Model.TestCase
