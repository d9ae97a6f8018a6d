"""The service in process, on a real Valkey and a real registry folder with one live version."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from app.main import create_app
from app.settings import ApiKey, AppSettings, Scope, ServeSettings
from recsys.settings import RegistrySettings, StoreSettings, TopicSettings
from recsys.stores.model_registry import ModelRegistry, open_model_registry
from recsys.stores.model_registry.aliases import promote
from tests.environment.versions import publish_small_version

JSON = {"Content-Type": "application/json"}
KEYS = {"recommend": "r" * 20, "events": "e" * 20, "catalogue": "c" * 20, "users": "u" * 20, "admin": "a" * 20}


@pytest.fixture
def settings(store_settings: StoreSettings, tmp_path: Path) -> AppSettings:
    return AppSettings(
        # A busy machine may take long for an answer, and the impersonal one of the deadline is not what is tried here.
        serve=ServeSettings(poll_interval=0.1, deadline=10.0, metrics_interval=0.001),
        topic=TopicSettings(partitions=2),
        store=store_settings,
        registry=RegistrySettings(url=str(tmp_path / "registry"), cache=tmp_path / "cache"),
    )


@pytest.fixture
def guarded(settings: AppSettings) -> AppSettings:
    """The same with one key per scope."""
    keys = tuple(
        ApiKey(name=name, sha256=sha256(key.encode()).hexdigest(), scopes=frozenset({Scope(name)}))
        for name, key in KEYS.items()
    )
    return settings.model_copy(update={"serve": settings.serve.model_copy(update={"keys": keys})})


@pytest.fixture
def registry(settings: AppSettings, tmp_path: Path) -> ModelRegistry:
    """Versions `first` (live) and `second`."""
    opened = open_model_registry(settings.registry)
    publish_small_version(opened, tmp_path / "built", "first", seed=1)
    publish_small_version(opened, tmp_path / "built", "second", seed=2)
    promote(opened, "first", actor="test", reason="start")
    return opened


@asynccontextmanager
async def client_of(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the running app; a bug in a route shows as the 500 a user would get."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        yield client


@pytest.fixture
async def client(settings: AppSettings, registry: ModelRegistry) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(create_app(settings)) as opened:
        yield opened


@pytest.fixture
async def guarded_client(guarded: AppSettings, registry: ModelRegistry) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(create_app(guarded)) as opened:
        yield opened
