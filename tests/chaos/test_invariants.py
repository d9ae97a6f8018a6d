"""The comparisons see what they are there to see."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from recsys.messages.interaction import Interaction
from recsys.users import PositionedMessage, UserFeatures
from tests.chaos.invariants import Ledger, differing, folded, judged, keys_amiss, trending, written_twice

START = datetime(2026, 1, 1, tzinfo=UTC)
LEDGER = Ledger(frozenset({"e1", "e2"}), frozenset({"maybe"}))


def row(offset: int, event: str = "", kind: str = "view") -> PositionedMessage:
    message = Interaction(
        event_id=event or f"e{offset}",
        user_id=f"user-{offset % 2}",
        item_id="i1",
        type=kind,
        occurred_at=START + timedelta(minutes=offset),
    )
    return PositionedMessage("topic-0", offset, message)


def test_what_was_acknowledged_and_is_not_there_is_lost() -> None:
    assert judged(LEDGER, ["e1"]).lost == ["e2"]
    assert judged(LEDGER, ["e1", "e2"]).lost == []


def test_what_is_in_doubt_may_be_there_once() -> None:
    assert judged(LEDGER, ["e1", "e2", "maybe"]) == judged(LEDGER, ["e1", "e2"])
    assert judged(LEDGER, ["e1", "e2", "maybe", "maybe"]).duplicated == ["maybe"]
    assert judged(LEDGER, ["e1", "e2", "never sent"]).invented == ["never sent"]


def test_a_place_of_the_topic_that_was_written_twice_is_seen() -> None:
    assert written_twice([row(1), row(2), row(1)]) == [("topic-0", 1)]


def test_a_record_that_missed_an_event_or_counted_it_twice_differs() -> None:
    rows = [row(number) for number in range(6)]
    right = folded(rows, 200)
    assert differing(right, list(right.values())) == []
    missed = folded(rows[:-1], 200)
    assert differing(right, list(missed.values())) == ["user-1: history, offsets"]
    one = right["user-0"]
    twice = replace(one, history=(*one.history, one.history[-1]))
    assert differing(right, [twice]) == ["user-0: history"]
    assert differing(right, [UserFeatures("user-0")]) == ["user-0: history, offsets"]


def test_an_event_that_was_told_twice_trends_once_and_an_impression_never() -> None:
    rows = [row(1), row(3, "e1"), row(4, kind="impression"), row(120, kind="purchase")]
    hour = int(START.timestamp()) // 3600
    assert trending(rows) == {hour: {"i1": 200}, hour + 2: {"i1": 1000}}


def test_keys_that_nobody_owns_or_that_live_for_ever_are_seen() -> None:
    lives = {"p:user:a": 9, "p:trends": 9, "p:trend:t-3:99": 9, "p:t:0": 9, "p:t.dead-letters:1": 9}
    assert keys_amiss(lives, "p:", "t", ["a"]) == []
    assert keys_amiss(lives, "p:", "t", []) == ["p:user:a: nobody's"]
    assert keys_amiss(lives | {"p:trends": -1}, "p:", "t", ["a"]) == ["p:trends: for ever"]
    assert keys_amiss(lives | {"p:t:0:lease:log": 9}, "p:", "t", ["a"]) == ["p:t:0:lease:log: nobody's"]
