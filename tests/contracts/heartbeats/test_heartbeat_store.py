"""The contract of the store of heartbeats, on every backend: what processes say of themselves."""

from redis.asyncio import Redis

from recsys.settings import StoreSettings
from recsys.stores.heartbeats import FORGOTTEN_SECONDS, SILENT_SECONDS, Heartbeat
from recsys.stores.online import Stores


async def test_a_process_is_seen_as_it_reported_last_until_it_leaves(stores: Stores) -> None:
    await stores.heartbeats.report(Heartbeat("b:2", "serve", "live", "first", ("first",)))
    await stores.heartbeats.report(Heartbeat("a:1:features", "consume features", versions=("first", "second"), lag=7))
    again = Heartbeat("b:2", "serve", "live", "second", ("second", "first"))
    await stores.heartbeats.report(again)
    consumer, replica = await stores.heartbeats.instances()
    assert (consumer.heartbeat.process, consumer.heartbeat.lag) == ("a:1:features", 7)
    assert replica.heartbeat == again
    assert 0.0 <= replica.age < SILENT_SECONDS
    await stores.heartbeats.leave("b:2")
    assert [one.heartbeat.process for one in await stores.heartbeats.instances()] == ["a:1:features"]


async def test_reports_expire_by_themselves_and_every_report_removes_what_is_too_old(
    redis_stores: Stores, server: "Redis", store_settings: StoreSettings
) -> None:
    await redis_stores.heartbeats.report(Heartbeat("a:1", "serve"))
    key = f"{store_settings.prefix}heartbeats"

    assert 0 < await server.pttl(key) <= 1000 * FORGOTTEN_SECONDS
    ((_, told),) = (await server.hgetall(key)).items()
    assert isinstance(told, bytes)
    await server.hset(key, "gone:1", b"1 " + told.partition(b" ")[2])
    assert [one.heartbeat.process for one in await redis_stores.heartbeats.instances()] == ["a:1"], (
        "what is too old is not seen"
    )
    await redis_stores.heartbeats.report(Heartbeat("a:1", "serve"))
    assert await server.hlen(key) == 1


async def test_a_heartbeat_is_read_as_it_was_reported(stores: Stores) -> None:
    heartbeat = Heartbeat("häst:1 2", "serve", "live", "v" * 64, tuple("abc"), lag=2**60, unreadable=7)
    await stores.heartbeats.report(heartbeat)
    assert [one.heartbeat for one in await stores.heartbeats.instances()] == [heartbeat]
