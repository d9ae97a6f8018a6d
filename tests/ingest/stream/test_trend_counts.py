"""Trend counts: what was wanted, by hour and item, each record once, whoever counts it and how often."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.stream.trend_counts import TrendCounter
from recsys.errors import StoreUnavailable
from recsys.messages.interaction import Interaction, epoch_ms
from recsys.recommender.trends import TREND_HOURS, TrendCounts, hour_of
from recsys.settings import StoreSettings
from recsys.stores.online import Stores, open_stores
from recsys.stores.trends.memory import MemoryTrendStore
from recsys.users import PositionedMessage
from tests.environment.waiting import WaitUntil
from tests.ingest.running import Ingest

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
NOW_MS = epoch_ms(NOW)
HOUR = hour_of(NOW_MS)


def event(
    offset: int,
    item: str = "a",
    kind: str = "view",
    at: datetime = NOW,
    event_id: str | None = None,
    partition: str = "p-0",
) -> PositionedMessage:
    name = event_id or f"{partition}-{offset}"
    interaction = Interaction(event_id=name, user_id="ada", item_id=item, type=kind, occurred_at=at)
    return PositionedMessage(partition, offset, interaction)


def memory() -> Stores:
    return open_stores(StoreSettings(backend="memory"))


async def count(counter: TrendCounter, records: Sequence[PositionedMessage], now_ms: float = NOW_MS) -> None:
    reached: dict[str, int] = {}
    for record in records:
        reached[record.partition] = record.offset
    await counter.count(records, reached, now_ms)


async def counted(records: Sequence[PositionedMessage]) -> dict[int, dict[str, int]]:
    """The hours that hold anything after `records` were counted."""
    stores = memory()
    await count(TrendCounter(stores.trends), records)
    hours = await stores.trends.read(range(HOUR - TREND_HOURS - 1, HOUR + 3))
    return {hour: weights for hour, weights in hours.items() if weights}


async def test_records_weigh_what_their_type_says_in_the_hour_they_happened() -> None:
    records = [
        event(0),
        event(1, kind="purchase"),
        event(2, "b", "add_to_cart"),
        event(3, "b", "waved_at"),
        event(4, "b", at=NOW - timedelta(hours=5)),
        event(5, "c", "impression"),
    ]
    assert await counted(records) == {HOUR: {"a": 1200, "b": 800}, HOUR - 5: {"b": 200}}


async def test_what_is_too_old_or_yet_to_come_is_not_counted() -> None:
    oldest = NOW.replace(minute=0) - timedelta(hours=TREND_HOURS - 1)
    records = [
        event(0, at=oldest),
        event(1, at=oldest - timedelta(seconds=1)),
        event(2, at=NOW + timedelta(minutes=4)),
        event(3, at=NOW + timedelta(hours=1)),
    ]
    assert await counted(records) == {HOUR - TREND_HOURS + 1: {"a": 200}, HOUR: {"a": 200}}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["p-0", "p-1"]), st.integers(1, 3))), st.data())
def test_members_that_die_lag_and_overlap_count_each_record_once(
    deliveries: list[tuple[str, str, int]], data: st.DataObject
) -> None:
    """Each of three members, one after the other or in turns, begins anywhere in what may come again."""
    offsets: dict[str, int] = {}
    records = []
    for item, partition, step in deliveries:
        offsets[partition] = offsets.get(partition, -1) + step
        records.append(event(offsets[partition], item, partition=partition))

    async def counted_by_members() -> dict[int, dict[str, int]]:
        stores = memory()
        members = [TrendCounter(stores.trends) for _ in range(3)]
        at = 0
        for _ in range(data.draw(st.integers(0, 6))):
            begin = data.draw(st.integers(0, at))
            end = data.draw(st.integers(begin, len(records)))
            await count(data.draw(st.sampled_from(members)), records[begin:end])
            at = max(at, end)
        await count(data.draw(st.sampled_from(members)), records)
        return await stores.trends.read([HOUR])

    once = {item: 200 * sum(one[0] == item for one in deliveries) for item, _, _ in deliveries}
    assert asyncio.run(counted_by_members()) == {HOUR: once}


async def test_a_member_that_lost_its_partition_counts_on_from_where_another_is(store_settings: StoreSettings) -> None:
    stores = open_stores(store_settings)
    first, second = TrendCounter(stores.trends), TrendCounter(stores.trends)
    now = datetime.now(UTC)
    records = [event(offset, at=now) for offset in range(3)]
    await count(first, records[:1], epoch_ms(now))
    await count(second, records[:2], epoch_ms(now))
    await count(first, records[1:], epoch_ms(now))
    assert await stores.trends.read([hour_of(epoch_ms(now))]) == {hour_of(epoch_ms(now)): {"a": 600}}
    await stores.aclose()


class ContestedStore(MemoryTrendStore):
    """A store in which somebody else always comes first."""

    rival = -1

    async def count(self, counts: Sequence[TrendCounts]) -> list[int]:
        for one in counts:
            await super().count([TrendCounts(one.partition, self.rival, self.rival + 1, {})])
            self.rival += 1
        return await super().count(counts)


async def test_a_partition_that_others_keep_counting_is_tried_again_later() -> None:
    with pytest.raises(StoreUnavailable, match="somebody else"):
        await count(TrendCounter(ContestedStore()), [event(100)])


async def test_what_consumers_take_from_the_topic_is_counted(ingest: Ingest, wait_until: WaitUntil) -> None:
    now = datetime.now(UTC)
    hour = hour_of(epoch_ms(now))
    stores = open_stores(ingest.store)
    sent = [
        Interaction(event_id=f"e{n}", user_id=f"u{n % 7}", item_id="a", type="view", occurred_at=now) for n in range(50)
    ]
    async with ingest.consuming("features"):
        await ingest.send(sent)

        async def arrived() -> bool:
            return (await stores.trends.read([hour]))[hour] == {"a": 10_000}

        await wait_until(arrived)
    await stores.aclose()
