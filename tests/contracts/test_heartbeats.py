"""What processes say of themselves, on every backend of the feature store."""

from redis.asyncio import Redis

from recsys.settings import StoreSettings
from recsys.stores.feature_store import FeatureStore
from recsys.stores.feature_store.redis import RedisFeatureStore
from recsys.stores.heartbeat import FORGOTTEN_SECONDS, SILENT_SECONDS, Heartbeat


async def test_a_process_is_seen_as_it_reported_last_until_it_leaves(store: FeatureStore) -> None:
    await store.report(Heartbeat("b:2", "serve", "live", "first", ("first",)))
    await store.report(Heartbeat("a:1:features", "consume features", versions=("first", "second"), lag=7))
    again = Heartbeat("b:2", "serve", "live", "second", ("second", "first"))
    await store.report(again)
    consumer, replica = await store.instances()
    assert (consumer.heartbeat.process, consumer.heartbeat.lag) == ("a:1:features", 7)
    assert replica.heartbeat == again
    assert 0.0 <= replica.age < SILENT_SECONDS
    await store.leave("b:2")
    assert [one.heartbeat.process for one in await store.instances()] == ["a:1:features"]


async def test_reports_expire_by_themselves_and_every_report_removes_what_is_too_old(
    redis_store: RedisFeatureStore, server: "Redis", store_settings: StoreSettings
) -> None:
    await redis_store.report(Heartbeat("a:1", "serve"))
    key = f"{store_settings.prefix}heartbeats"

    assert 0 < await server.pttl(key) <= 1000 * FORGOTTEN_SECONDS
    ((_, told),) = (await server.hgetall(key)).items()
    assert isinstance(told, bytes)
    await server.hset(key, "gone:1", b"1 " + told.partition(b" ")[2])
    assert [one.heartbeat.process for one in await redis_store.instances()] == ["a:1"], "what is too old is not seen"
    await redis_store.report(Heartbeat("a:1", "serve"))
    assert await server.hlen(key) == 1
