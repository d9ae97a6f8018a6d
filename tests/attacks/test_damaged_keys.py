"""Garbage in the store's shared keys: it costs itself, and neither stops who writes nor blinds who reads for ever."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from math import inf
from typing import Any

import pytest
from redis import Redis

from recsys.experiments.rollout import Outcome
from recsys.messages.item import Item
from recsys.observability.unreadable import unreadable_met
from recsys.recommender.trends import TrendCounts
from recsys.settings import StoreSettings
from recsys.stores.heartbeats import Heartbeat
from recsys.stores.online import Stores, open_stores
from recsys.stores.topic.protocol import MAX_OFFSET

HOUR = 498_853
OTHER_KINDS: dict[str, Callable[[Any, str], object]] = {
    "string": lambda server, key: server.set(key, b"\xff\x00"),
    "list": lambda server, key: server.rpush(key, "x"),
    "set": lambda server, key: server.sadd(key, b"\xff"),
    "sorted set": lambda server, key: server.zadd(key, {"i1": 7.0}),
    "hash": lambda server, key: server.hset(key, mapping={b"\xff": b"\xff", "interactions-0": "zz"}),
    "stream": lambda server, key: server.xadd(key, {"a": "b"}),
}


@pytest.fixture
async def stores(store_settings: StoreSettings) -> AsyncIterator[Stores]:
    opened = open_stores(store_settings)
    yield opened
    await opened.aclose()


@pytest.fixture
def damage(store_settings: StoreSettings) -> Callable[[str, str], None]:
    """`damage("trends", "list")`: that key becomes a list."""

    def write(key: str, kind: str) -> None:
        with Redis.from_url(store_settings.url.get_secret_value()) as server:
            OTHER_KINDS[kind](server, store_settings.prefix + key)

    return write


def update(item_id: str) -> Item:
    return Item(item_id=item_id, updated_at=datetime.now(UTC), available=False)


async def changed(stores: Stores, since: int) -> tuple[list[str], int]:
    found = await stores.items.changes(since)
    return [item.item_id for item in found.items], found.revision


@pytest.mark.parametrize("kind", OTHER_KINDS)
async def test_a_feed_of_another_kind_is_begun_anew_with_the_next_change(
    stores: Stores, damage: Callable[[str, str], None], kind: str
) -> None:
    damage("items:changed", kind)
    assert (await changed(stores, 0))[0] == []
    assert await stores.items.put([update("i1"), update("i2")]) == {}
    found, revision = await changed(stores, 0)
    assert found == ["i1", "i2"]
    assert (await changed(stores, revision))[0] == []


@pytest.mark.parametrize("score", [inf, -inf, 1e300, 2.0**53, -5.5])
async def test_a_revision_that_is_none_hides_no_change(
    stores: Stores, store_settings: StoreSettings, score: float
) -> None:
    """Infinity stopped each replica's reader, and gave every later change the same revision."""
    await stores.items.put([update("i1"), update("i2")])
    with Redis.from_url(store_settings.url.get_secret_value()) as server:
        server.zadd(f"{store_settings.prefix}items:changed", {"i1": score, b"\xff": 5.0})
    found, revision = await changed(stores, 0)
    assert sorted(found) == ["i1", "i2"]
    await stores.items.put([update("i3")])
    found, reached = await changed(stores, revision)
    assert set(found) <= {"i1", "i3"}
    assert "i3" in found
    assert (await changed(stores, reached))[0] == []


@pytest.mark.parametrize("kind", OTHER_KINDS)
async def test_trends_are_counted_on(stores: Stores, damage: Callable[[str, str], None], kind: str) -> None:
    """The features group tried the same batch for ever: nobody's events were learned."""
    damage("trends", kind)
    damage(f"trend:interactions-0:{HOUR}", kind)
    assert await stores.trends.read([HOUR]) in ({HOUR: {}}, {HOUR: {"i1": 7}})
    assert await stores.trends.count([TrendCounts("interactions-0", -1, 7, {HOUR: {"i2": 5}})]) == [-1]
    assert (await stores.trends.read([HOUR]))[HOUR]["i2"] == 5


@pytest.mark.parametrize("offset", [2**63 - 1, 2**62, 2**64, 10**30, -5, "zz"])
async def test_an_offset_that_no_topic_reaches_stops_no_count(
    stores: Stores, store_settings: StoreSettings, offset: object
) -> None:
    """Every later record lay below it: the partition's trends stood still."""
    with Redis.from_url(store_settings.url.get_secret_value()) as server:
        server.hset(f"{store_settings.prefix}trends", "interactions-0", str(offset))
    met = unreadable_met()
    assert await stores.trends.count([TrendCounts("interactions-0", -1, 7, {HOUR: {"i2": 5}})]) == [-1]
    assert unreadable_met() == met + 1
    assert await stores.trends.count([TrendCounts("interactions-0", 7, MAX_OFFSET, {HOUR: {"i2": 5}})]) == [7]
    assert await stores.trends.count([TrendCounts("interactions-0", -1, 7, {HOUR: {"i2": 5}})]) == [MAX_OFFSET]
    assert unreadable_met() == met + 1
    assert await stores.trends.read([HOUR]) == {HOUR: {"i2": 10}}


@pytest.mark.parametrize("weight", [inf, -inf, 1e300, 2.0**60, -5.0])
async def test_a_weight_that_is_none_is_left_out_and_begun_anew(
    stores: Stores, store_settings: StoreSettings, weight: float
) -> None:
    await stores.trends.count([TrendCounts("interactions-0", -1, 7, {HOUR: {"i2": 5}})])
    with Redis.from_url(store_settings.url.get_secret_value()) as server:
        server.zadd(f"{store_settings.prefix}trend:interactions-0:{HOUR}", {"i1": weight})
    assert await stores.trends.read([HOUR]) == {HOUR: {"i2": 5}}
    met = unreadable_met()
    await stores.trends.count([TrendCounts("interactions-0", 7, 8, {HOUR: {"i1": 6}})])
    assert unreadable_met() == met + 1
    assert await stores.trends.read([HOUR]) == {HOUR: {"i1": 6, "i2": 5}}


@pytest.mark.parametrize("kind", sorted({*OTHER_KINDS} - {"string"}))
async def test_outcomes_are_noted_on(stores: Stores, damage: Callable[[str, str], None], kind: str) -> None:
    """Of a canary; the features group, which notes conversions, would wait for them for ever."""
    outcome = next(iter(Outcome))
    damage(f"outcome:e:{outcome}", kind)
    assert await stores.outcomes.read("e") == {}
    await stores.outcomes.record("e", {outcome: [0]})
    assert await stores.outcomes.read("e") == {outcome: b"\x80"}


@pytest.mark.parametrize("kind", sorted({*OTHER_KINDS} - {"hash"}))
async def test_heartbeats_and_counters_are_reported_on(
    stores: Stores, damage: Callable[[str, str], None], kind: str
) -> None:
    damage("heartbeats", kind)
    damage("counters:e", kind)
    assert await stores.heartbeats.instances() == []
    assert await stores.counters.read("e") == {}
    await stores.heartbeats.report(Heartbeat("p", "serve", "live", "first", ("first",)))
    assert [one.heartbeat.process for one in await stores.heartbeats.instances()] == ["p"]
    await stores.counters.increment("e", {"compared": 1})
    await stores.counters.increment("e", {"compared": 2})
    assert await stores.counters.read("e") == {"compared": 3}


@pytest.mark.parametrize("count", ["much", "1.5", "", "9" * 400, str(2**63 - 1), str(-(2**63)), "-1"])
async def test_a_count_that_is_none_is_told_and_begun_anew(
    stores: Stores, store_settings: StoreSettings, count: str
) -> None:
    """Each later count of the shadow was refused, for the 60 days that the key stays."""
    await stores.counters.increment("e", {"compared": 5, "failed": 1})
    with Redis.from_url(store_settings.url.get_secret_value()) as server:
        server.hset(f"{store_settings.prefix}counters:e", "compared", count)
    assert await stores.counters.read("e") == {"failed": 1}
    met = unreadable_met()
    await stores.counters.increment("e", {"compared": 2, "failed": 1})
    assert unreadable_met() == met + 1
    await stores.counters.increment("e", {"compared": 2, "failed": 1})
    assert unreadable_met() == met + 1
    assert await stores.counters.read("e") == {"compared": 4, "failed": 3}
