"""One line per cause and interval, which says how many it stands for."""

import pytest

from recsys.observability import throttle
from recsys.observability.throttle import MAX_CAUSES, Throttle, log_throttled


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(throttle, "monotonic", lambda: now[0])
    return now


def test_a_cause_is_due_once_an_interval_and_counts_what_it_held_back(clock: list[float]) -> None:
    lines = Throttle(60.0)
    assert [lines.due("broken", "a") for _ in range(240)] == [1, *[0] * 239]
    assert lines.due("broken", "b") == lines.due("lost", "a") == 1
    clock[0] += 59.9
    assert lines.due("broken", "a") == 0
    clock[0] += 0.2
    assert [lines.due("broken", "a"), lines.due("broken", "a")] == [241, 0]


def test_causes_without_end_take_no_room_without_end(clock: list[float]) -> None:
    lines = Throttle(60.0)
    assert all(lines.due("broken", str(n)) == 1 for n in range(10 * MAX_CAUSES))
    assert len(lines._causes) == MAX_CAUSES
    assert clock == [1000.0]


def test_a_line_says_how_often_its_cause_was_met(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "_throttle", Throttle(60.0))
    lines: list[tuple[str, dict[str, object]]] = []

    class Log:
        def warning(self, event: str, **fields: object) -> None:
            lines.append((event, fields))

    for _ in range(5):
        log_throttled(Log(), "warning", "broken", cause="disk", place=1)
    clock[0] += 61
    log_throttled(Log(), "warning", "broken", cause="disk", place=2)
    assert lines == [("broken", {"times": 1, "place": 1}), ("broken", {"times": 5, "place": 2})]
