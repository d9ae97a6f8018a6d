"""The contract of the store of counters, on every backend: running counts of a shadow."""

from redis.asyncio import Redis

from recsys.settings import StoreSettings
from recsys.stores.counters import COUNTER_TTL
from recsys.stores.online import Stores


async def test_counters_add_up_under_their_name(stores: Stores) -> None:
    await stores.counters.increment("shadow", {"compared": 2, "ms:5": 1})
    await stores.counters.increment("shadow", {"compared": 3})
    assert await stores.counters.read("shadow") == {"compared": 5, "ms:5": 1}
    assert await stores.counters.read("nobody's") == {}


async def test_counters_expire(redis_stores: Stores, store_settings: StoreSettings, server: Redis) -> None:
    await redis_stores.counters.increment("shadow", {"compared": 1})
    keys = await server.keys(f"{store_settings.prefix}*")
    assert len(keys) == 1
    for key in keys:
        assert COUNTER_TTL - 60 < await server.ttl(key) <= COUNTER_TTL


async def test_a_foreign_count_costs_that_count_alone(
    redis_stores: Stores, server: "Redis", store_settings: StoreSettings
) -> None:
    await redis_stores.counters.increment("e1", {"compared": 3})
    await server.hset(f"{store_settings.prefix}counters:e1", mapping={"odd": "much", b"\xff": "1"})
    assert await redis_stores.counters.read("e1") == {"compared": 3}
