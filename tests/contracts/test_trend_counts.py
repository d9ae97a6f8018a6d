"""The contract of trend counts in the feature store, on every backend: each record once, within bounds."""

import asyncio
import time

import pytest

from recsys.recommender.trend import TrendCounts, hour_of
from recsys.stores.feature_store import FeatureStore
from recsys.stores.feature_store.protocol import KEPT_ITEMS

HOUR = hour_of(time.time() * 1000)


def counted(partition: str = "p-0", after: int = -1, reached: int = 5, hour: int = HOUR, **weights: int) -> TrendCounts:
    return TrendCounts(partition, after, reached, {hour: weights})


async def test_trend_counts_add_up_over_batches_and_partitions(store: FeatureStore) -> None:
    assert await store.count_trends([counted(a=200, b=1000), counted("p-1", a=300)]) == [-1, -1]
    assert await store.count_trends([counted(after=5, reached=9, a=1), counted("p-1", 5, 6, HOUR - 1, c=600)]) == [5, 5]
    assert await store.trends([HOUR - 2, HOUR - 1, HOUR]) == {
        HOUR - 2: {},
        HOUR - 1: {"c": 600},
        HOUR: {"a": 501, "b": 1000},
    }


async def test_an_empty_store_has_no_trends(store: FeatureStore) -> None:
    assert await store.count_trends([]) == []
    assert await store.trends([HOUR]) == {HOUR: {}}
    assert await store.trends([]) == {}


@pytest.mark.parametrize("reached", [5, 2**60 + 1])
async def test_what_was_counted_is_not_counted_again(store: FeatureStore, reached: int) -> None:
    await store.count_trends([counted(reached=reached, a=200)])
    assert await store.count_trends([counted(reached=reached, a=200)]) == [reached]
    assert await store.count_trends([counted(after=reached - 1, reached=reached + 1, a=200)]) == [reached]
    assert await store.trends([HOUR]) == {HOUR: {"a": 200}}


async def test_of_two_that_count_the_same_one_does(store: FeatureStore) -> None:
    found = await asyncio.gather(*(store.count_trends([counted(a=200)]) for _ in range(5)))
    assert sorted(found) == [[-1], [5], [5], [5], [5]]
    assert await store.trends([HOUR]) == {HOUR: {"a": 200}}


async def test_of_too_many_items_of_an_hour_the_heaviest_stay(store: FeatureStore) -> None:
    weights = {f"i{n}": n + 1 for n in range(KEPT_ITEMS + 1)}
    await store.count_trends([TrendCounts("p-0", -1, 1, {HOUR: weights})])
    kept = (await store.trends([HOUR]))[HOUR]
    assert len(kept) <= KEPT_ITEMS // 2
    assert min(kept.values()) > KEPT_ITEMS + 1 - KEPT_ITEMS // 2


async def test_items_of_any_name_are_counted(store: FeatureStore) -> None:
    names = {"käse 🧀": 1, "a:b{c}*": 2, "12": 3, "x" * 5000: 4}
    await store.count_trends([TrendCounts("interactions-0", -1, 1, {HOUR: names})])
    assert await store.trends([HOUR]) == {HOUR: names}
