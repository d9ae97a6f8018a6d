"""What a batch of requests learns of its users: one round trip, and `None` where the store cannot say."""

from collections.abc import Sequence

import pytest
from redis.asyncio import Redis

from app.serving.circuit_breaker import BreakerPolicy, CircuitBreaker
from app.serving.feature_reader import FeatureReader
from recsys.errors import StoreUnavailable
from recsys.settings import StoreSettings
from recsys.stores.online import open_stores
from recsys.stores.users.memory import MemoryUserStore
from recsys.users import UserFeatures


class FailingStore(MemoryUserStore):
    """A memory store that counts its reads, and fails as long as `failure` is set."""

    def __init__(self, failure: Exception | None) -> None:
        super().__init__()
        self.reads = 0
        self.failure = failure

    async def read(
        self, user_ids: Sequence[str], version: str | None = None, *, shown: bool = False, batch: bool = False
    ) -> list[UserFeatures]:
        self.reads += 1
        if self.failure is not None:
            raise self.failure
        return await super().read(user_ids, version, shown=shown, batch=batch)


async def test_a_store_that_is_down_is_none_for_everybody() -> None:
    reader = FeatureReader(FailingStore(StoreUnavailable("down")), CircuitBreaker())
    assert await reader.read(["u1", "u2"], "v1", shown=False) == [None, None]


async def test_a_store_that_keeps_failing_is_left_alone_until_a_probe_succeeds() -> None:
    now = 0.0
    users = FailingStore(StoreUnavailable("down"))
    reader = FeatureReader(users, CircuitBreaker(BreakerPolicy(consecutive=3), clock=lambda: now))
    for _ in range(10):
        assert await reader.read(["u1"], "v1", shown=False) == [None]
    assert users.reads == 3
    users.failure = None
    assert await reader.read(["u1"], "v1", shown=False) == [None], "its time is not over"
    now = 10.0
    assert await reader.read(["u1"], "v1", shown=False) == [UserFeatures("u1")]
    assert await reader.read(["u1"], "v1", shown=False) == [UserFeatures("u1")]


async def test_nobody_to_read_asks_nothing() -> None:
    users = FailingStore(None)
    assert await FeatureReader(users, CircuitBreaker()).read([], "v1", shown=False) == []
    assert users.reads == 0


@pytest.mark.parametrize("poison", [b"poison", None])
async def test_a_record_that_cannot_be_read_is_none(store_settings: StoreSettings, poison: bytes | None) -> None:
    key = f"{store_settings.prefix}user:u1"
    async with Redis.from_url(store_settings.url.get_secret_value()) as server:
        await (server.set(key, poison) if poison else server.hset(key, mapping={"h": b"\xff", "r": b"x"}))
    stores = open_stores(store_settings)
    try:
        found = await FeatureReader(stores.users, CircuitBreaker()).read(["u1", "u2"], "v1", shown=False)
        assert found == [None, UserFeatures("u2")]
    finally:
        await stores.aclose()
