"""The reducer: what "counted exactly once" means, whatever the topic does."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.messages.interaction import IMPRESSION, Erasure, Interaction, epoch_ms
from recsys.users import (
    HISTORY_LENGTH,
    IMPRESSIONS_LENGTH,
    PAST_BYTES,
    REPEAT_WINDOW,
    HistoryEntry,
    PositionedMessage,
    UserFeatures,
    apply,
    bounded,
    history_entry,
    join,
    new_events,
)

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SHORT = 4
EMPTY = UserFeatures("ada")


def interaction(event: int, minutes: int, item: str = "i", kind: str = "view") -> Interaction:
    at = NOW + timedelta(minutes=minutes)
    return Interaction(event_id=f"e{event}", user_id="ada", item_id=item, type=kind, occurred_at=at)


@st.composite
def topics(draw: st.DrawFn, erasures: bool = True) -> list[PositionedMessage]:
    """One user's records in an order of delivery: three partitions, offsets with gaps, repeats, lateness."""
    kinds = st.sampled_from(["view", "view", IMPRESSION])
    events = st.builds(interaction, st.integers(0, 12), st.integers(0, 30), st.sampled_from("abc"), kinds)
    forgets = st.builds(Erasure, event_id=st.just("x"), user_id=st.just("ada"), occurred_at=st.just(NOW))
    messages = st.one_of(events, events, events, forgets) if erasures else events
    deliveries = st.tuples(messages, st.sampled_from(["p-0", "p-1", "p-2"]), st.integers(1, 3))
    offsets: dict[str, int] = {}
    records = []
    for message, partition, step in draw(st.lists(deliveries, max_size=16)):
        offsets[partition] = offsets.get(partition, -1) + step
        records.append(PositionedMessage(partition, offsets[partition], message))
    return records


def once(records: list[PositionedMessage]) -> UserFeatures:
    return apply(EMPTY, records, SHORT)


@given(topics(), st.data())
def test_any_redelivery_gives_the_same_state(records: list[PositionedMessage], data: st.DataObject) -> None:
    """A consumer that dies goes back to what was committed: any earlier place, any number of times."""
    features, at = EMPTY, 0
    for _ in range(data.draw(st.integers(0, 6))):
        begin = data.draw(st.integers(0, at))
        at = data.draw(st.integers(begin, len(records)))
        features = apply(features, records[begin:at], SHORT)
        at = max(at, begin)
    assert apply(features, records, SHORT) == once(records)


@given(topics(), st.data())
def test_any_split_into_batches_gives_the_same_state(records: list[PositionedMessage], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(records)), max_size=5)))
    features = EMPTY
    for begin, end in zip([0, *cuts], [*cuts, len(records)], strict=True):
        features = apply(features, records[begin:end], SHORT)
    assert features == once(records)


@given(topics())
def test_a_redelivered_record_changes_nothing(records: list[PositionedMessage]) -> None:
    features = once(records)
    assert apply(features, records, SHORT) is features
    for record in records:
        assert apply(features, [record], SHORT) is features


@given(topics())
def test_what_is_remembered_is_bounded_ordered_and_without_repeats(records: list[PositionedMessage]) -> None:
    for entries in (once(records).history, once(records).impressions):
        assert len(entries) <= SHORT
        assert list(entries) == sorted(entries)
        assert len({entry.event for entry in entries}) == len(entries)


@given(topics(erasures=False))
def test_an_event_told_again_is_a_repeat_while_it_is_among_the_newest_of_the_window(
    records: list[PositionedMessage],
) -> None:
    window, features = 6, EMPTY
    told: dict[int, int] = {}
    for record in records:
        assert isinstance(record.message, Interaction)
        entry = history_entry(record.message)
        if entry.type != IMPRESSION:
            assert new_events(features, [record]) == ([] if entry.event in told else [record])
            told[entry.event] = max(entry.at_ms, told.get(entry.event, entry.at_ms))
            told = dict(sorted(told.items(), key=lambda one: (one[1], one[0]))[-window:])
        features = apply(features, [record], SHORT, window)
    assert len(features.dedup_window) <= PAST_BYTES * (window - SHORT)


@given(topics(), st.integers(0, 16))
def test_the_new_events_of_a_batch_are_those_of_its_records_by_themselves(
    records: list[PositionedMessage], place: int
) -> None:
    features, one_by_one = once(records[:place]), list[PositionedMessage]()
    for record in records[place:]:
        one_by_one += new_events(features, [record])
        features = apply(features, [record], SHORT)
    assert new_events(once(records[:place]), records[place:]) == one_by_one
    assert new_events(features, records) == []


def test_an_event_the_history_has_no_room_for_is_still_told_apart() -> None:
    records = [PositionedMessage("p-0", n, interaction(n, n)) for n in range(REPEAT_WINDOW + 1)]
    features = apply(EMPTY, records)
    told_later = [PositionedMessage("p-0", 10_000 + n, interaction(n, 100_000 + n, "other")) for n in (0, 1)]
    assert new_events(features, told_later) == told_later[:1], "the oldest has left the window"
    again = apply(features, told_later[1:])
    assert again.history[-1].item_id == "other"
    assert len(again.history) + len(again.dedup_window) // PAST_BYTES == REPEAT_WINDOW


def test_an_erasure_takes_what_told_events_apart() -> None:
    records = [PositionedMessage("p-0", n, interaction(n, n)) for n in range(10)]
    erasure = PositionedMessage("p-0", 10, Erasure(event_id="x", user_id="ada", occurred_at=NOW))
    assert apply(EMPTY, records, SHORT).dedup_window
    assert apply(EMPTY, [*records, erasure], SHORT).dedup_window == b""
    assert new_events(apply(EMPTY, [*records, erasure], SHORT), [PositionedMessage("p-0", 11, interaction(3, 3))])


@given(topics())
def test_impressions_change_nothing_but_what_was_shown(records: list[PositionedMessage]) -> None:
    others = [r for r in records if not (isinstance(r.message, Interaction) and r.message.type == IMPRESSION)]
    shown = [r for r in records if not (isinstance(r.message, Interaction) and r.message.type != IMPRESSION)]
    assert once(records).history == once(others).history
    assert once(records).impressions == once(shown).impressions
    assert {entry.type for entry in once(records).impressions} <= {IMPRESSION}


@given(topics(erasures=False))
def test_the_history_is_the_newest_of_all_events_in_any_order_of_arrival(records: list[PositionedMessage]) -> None:
    def newest(entries: list[HistoryEntry]) -> tuple[HistoryEntry, ...]:
        latest = {entry.event: entry for entry in sorted(entries)}
        return tuple(sorted(latest.values())[-SHORT:])

    alone = [once([record]) for record in records]
    assert once(records).history == newest([entry for one in alone for entry in one.history])
    assert once(records).impressions == newest([entry for one in alone for entry in one.impressions])


@given(topics())
def test_the_high_water_offsets_are_those_of_the_last_records(records: list[PositionedMessage]) -> None:
    assert once(records).offsets == {record.partition: record.offset for record in records}


@given(topics(), st.integers(0, 30))
def test_an_erasure_leaves_only_what_came_after_it(records: list[PositionedMessage], place: int) -> None:
    forget = PositionedMessage("forget", 0, Erasure(event_id="x", user_id="ada", occurred_at=NOW))
    place = min(place, len(records))
    left, after = once([*records[:place], forget, *records[place:]]), apply(EMPTY, records[place:], SHORT)
    assert (left.history, left.impressions) == (after.history, after.impressions)


@given(topics(erasures=False), topics(erasures=False), topics(erasures=False))
def test_the_order_in_which_records_are_joined_does_not_matter(
    first: list[PositionedMessage], second: list[PositionedMessage], third: list[PositionedMessage]
) -> None:
    a, b, c = once(first), once(second), once(third)
    assert join(a, b, SHORT) == join(b, a, SHORT)
    assert join(join(a, b, SHORT), c, SHORT) == join(a, join(b, c, SHORT), SHORT)
    assert join(a, a, SHORT) is a
    assert join(a, EMPTY, SHORT) is a


@given(topics(erasures=False), st.integers(0, 30), st.integers(0, 30))
def test_joining_two_prefixes_of_one_topic_is_reading_the_longer_one(
    records: list[PositionedMessage], first: int, second: int
) -> None:
    joined = join(apply(EMPTY, records[:first], 100), apply(EMPTY, records[:second], 100), 100)
    assert joined == apply(EMPTY, records[: max(first, second)], 100)


def test_embeddings_stay_exactly_as_long_as_the_history_does() -> None:
    vector = np.ones(4, dtype=np.float32)
    known = replace(once([PositionedMessage("p-0", 0, interaction(1, 0))]), embeddings={"v1": vector})
    repeat = apply(known, [PositionedMessage("p-0", 1, interaction(1, 0))])
    assert (repeat.offsets, repeat.embeddings) == ({"p-0": 1}, {"v1": vector})
    assert apply(known, [PositionedMessage("p-0", 1, interaction(2, 0, kind=IMPRESSION))]).embeddings == {"v1": vector}
    assert apply(known, [PositionedMessage("p-0", 1, interaction(2, 0))]).embeddings == {}
    assert join(known, once([PositionedMessage("p-1", 0, interaction(2, 0))])).embeddings == {}


def test_impressions_have_a_bound_of_their_own() -> None:
    shows = [PositionedMessage("p-0", n, interaction(n, n, kind=IMPRESSION)) for n in range(IMPRESSIONS_LENGTH + 5)]
    shown = apply(EMPTY, shows, 10 * IMPRESSIONS_LENGTH).impressions
    assert [entry.at_ms for entry in shown] == [epoch_ms(r.message.occurred_at) for r in shows[5:]]


@pytest.mark.parametrize("length", [1, 3, HISTORY_LENGTH])
def test_of_too_many_events_the_oldest_by_event_time_go_first(length: int) -> None:
    entries = [HistoryEntry(at, at, "i", "view") for at in range(length + 5)]
    assert bounded(entries[::-1], length) == tuple(entries[5:])
