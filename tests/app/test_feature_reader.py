"""What a request learns of a user: one shared round trip, and `None` where the store cannot say."""

import asyncio
from collections.abc import Sequence

import pytest
from redis.asyncio import Redis

from app.feature_reader import FeatureReader
from recsys.errors import StoreUnavailable
from recsys.feature_store import open_feature_store
from recsys.feature_store.memory import MemoryFeatureStore
from recsys.settings import StoreSettings
from recsys.user_features import HistoryEntry, UserFeatures


class CountingStore(MemoryFeatureStore):
    """A memory store that counts its reads, and fails with `failure` where one is given."""

    def __init__(self, failure: Exception | None = None) -> None:
        super().__init__(StoreSettings(backend="memory"))
        self.reads: list[int] = []
        self.failure = failure

    async def read(
        self, user_ids: Sequence[str], version: str | None = None, *, shown: bool = False
    ) -> list[UserFeatures]:
        self.reads.append(len(user_ids))
        if self.failure is not None:
            raise self.failure
        return await super().read(user_ids, version, shown=shown)


async def test_requests_of_one_turn_share_one_round_trip() -> None:
    store = CountingStore()
    history = (HistoryEntry(1, 1, "i1", "view"),)
    await store.save([UserFeatures("u1", history)])
    reader = FeatureReader(store)
    answers = await asyncio.gather(*(reader.read(f"u{n % 3}", "v1") for n in range(30)))
    await reader.aclose()
    assert store.reads == [30]
    assert [answer.history for answer in answers if answer and answer.user_id == "u1"] == [history] * 10


async def test_a_store_that_is_down_is_none_for_everybody() -> None:
    reader = FeatureReader(CountingStore(StoreUnavailable("down")))
    assert set(await asyncio.gather(reader.read("u1", "v1"), reader.read("u2", "v2"))) == {None}
    await reader.aclose()


async def test_a_bug_in_the_store_leaves_nobody_waiting() -> None:
    reader = FeatureReader(CountingStore(TypeError("a bug")))
    assert await asyncio.wait_for(reader.read("u1", "v1"), 5.0) is None
    await reader.aclose()


@pytest.mark.parametrize("poison", [b"poison", None])
async def test_a_record_that_cannot_be_read_is_none(store_settings: StoreSettings, poison: bytes | None) -> None:
    key = f"{store_settings.prefix}user:u1"
    async with Redis.from_url(store_settings.url.get_secret_value()) as server:
        await (server.set(key, poison) if poison else server.hset(key, mapping={"h": b"\xff", "r": b"x"}))
    store = open_feature_store(store_settings)
    reader = FeatureReader(store)
    try:
        assert await reader.read("u1", "v1") is None
    finally:
        await reader.aclose()
        await store.aclose()
