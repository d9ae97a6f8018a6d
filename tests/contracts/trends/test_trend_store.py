"""The contract of the store of trends, on every backend: each record once, within bounds."""

import asyncio

import pytest
from redis.asyncio import Redis

from recsys.recommender.trends import TrendCounts
from recsys.settings import StoreSettings
from recsys.stores.online import Stores
from recsys.stores.trends import KEPT_ITEMS
from tests.contracts.trends.counts import HOUR, counted


async def test_trend_counts_add_up_over_batches_and_partitions(stores: Stores) -> None:
    assert await stores.trends.count([counted(a=200, b=1000), counted("p-1", a=300)]) == [-1, -1]
    assert await stores.trends.count([counted(after=5, reached=9, a=1), counted("p-1", 5, 6, HOUR - 1, c=600)]) == [
        5,
        5,
    ]
    assert await stores.trends.read([HOUR - 2, HOUR - 1, HOUR]) == {
        HOUR - 2: {},
        HOUR - 1: {"c": 600},
        HOUR: {"a": 501, "b": 1000},
    }


async def test_an_empty_store_has_no_trends(stores: Stores) -> None:
    assert await stores.trends.count([]) == []
    assert await stores.trends.read([HOUR]) == {HOUR: {}}
    assert await stores.trends.read([]) == {}


@pytest.mark.parametrize("reached", [5, 2**60 + 1])
async def test_what_was_counted_is_not_counted_again(stores: Stores, reached: int) -> None:
    await stores.trends.count([counted(reached=reached, a=200)])
    assert await stores.trends.count([counted(reached=reached, a=200)]) == [reached]
    assert await stores.trends.count([counted(after=reached - 1, reached=reached + 1, a=200)]) == [reached]
    assert await stores.trends.read([HOUR]) == {HOUR: {"a": 200}}


async def test_of_two_that_count_the_same_one_does(stores: Stores) -> None:
    found = await asyncio.gather(*(stores.trends.count([counted(a=200)]) for _ in range(5)))
    assert sorted(found) == [[-1], [5], [5], [5], [5]]
    assert await stores.trends.read([HOUR]) == {HOUR: {"a": 200}}


async def test_of_too_many_items_of_an_hour_the_heaviest_stay(stores: Stores) -> None:
    weights = {f"i{n}": n + 1 for n in range(KEPT_ITEMS + 1)}
    await stores.trends.count([TrendCounts("p-0", -1, 1, {HOUR: weights})])
    kept = (await stores.trends.read([HOUR]))[HOUR]
    assert len(kept) <= KEPT_ITEMS // 2
    assert min(kept.values()) > KEPT_ITEMS + 1 - KEPT_ITEMS // 2


async def test_items_of_any_name_are_counted(stores: Stores) -> None:
    names = {"käse 🧀": 1, "a:b{c}*": 2, "12": 3, "x" * 5000: 4}
    await stores.trends.count([TrendCounts("interactions-0", -1, 1, {HOUR: names})])
    assert await stores.trends.read([HOUR]) == {HOUR: names}


async def test_a_trend_of_foreign_members_keeps_those_that_are_ours(
    redis_stores: Stores, server: "Redis", store_settings: StoreSettings
) -> None:
    await redis_stores.trends.count([TrendCounts("p-0", -1, 5, {HOUR: {"a": 1000}})])
    await server.zadd(f"{store_settings.prefix}trend:p-0:{HOUR}", {b"\xff": 2})
    assert (await redis_stores.trends.read([HOUR]))[HOUR] == {"a": 1000, "\ufffd": 2}
