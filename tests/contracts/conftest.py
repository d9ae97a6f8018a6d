"""The feature store on every backend, and its server for looking behind the seam."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from recsys.feature_store import FeatureStore, open_feature_store
from recsys.feature_store.redis import RedisFeatureStore
from recsys.settings import StoreSettings


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[FeatureStore]:
    redis = request.param == "redis"
    settings = request.getfixturevalue("store_settings") if redis else StoreSettings(backend="memory")
    opened = open_feature_store(settings)
    yield opened
    await opened.aclose()


@pytest.fixture
async def redis_store(store_settings: StoreSettings) -> AsyncIterator[RedisFeatureStore]:
    opened = RedisFeatureStore(store_settings)
    yield opened
    await opened.aclose()


@pytest.fixture
async def server(store_settings: StoreSettings) -> AsyncIterator["Redis"]:
    """The store's server, for looking behind the seam."""
    async with Redis.from_url(store_settings.url.get_secret_value()) as client:
        yield client
