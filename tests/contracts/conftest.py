"""The online stores and the model registry on every backend, and their servers for looking behind the protocols."""

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from secrets import token_hex

import httpx
import pytest
from redis.asyncio import Redis

from recsys.clients.objects import Objects
from recsys.models.manifest import Manifest
from recsys.settings import StoreSettings
from recsys.stores.model_registry import ModelRegistry
from recsys.stores.model_registry.memory import MemoryModelRegistry
from recsys.stores.model_registry.object_store import ObjectStoreModelRegistry
from recsys.stores.online import Stores, open_stores
from recsys.stores.settings_log.object_store import ObjectStoreSettingsLog
from tests.contracts.model_registry.tiny_versions import FILES, Publish, manifest_of, write_files
from tests.environment.deployment import free_port
from tests.environment.waiting import wait_until_sync


@pytest.fixture(params=["memory", "redis"])
async def stores(request: pytest.FixtureRequest) -> AsyncIterator[Stores]:
    redis = request.param == "redis"
    settings = request.getfixturevalue("store_settings") if redis else StoreSettings(backend="memory")
    opened = open_stores(settings)
    yield opened
    await opened.aclose()


@pytest.fixture
async def redis_stores(store_settings: StoreSettings) -> AsyncIterator[Stores]:
    opened = open_stores(store_settings)
    yield opened
    await opened.aclose()


@pytest.fixture
async def server(store_settings: StoreSettings) -> AsyncIterator["Redis"]:
    """The store's server, for looking behind the protocols."""
    async with Redis.from_url(store_settings.url.get_secret_value()) as client:
        yield client


@pytest.fixture(scope="session")
def s3_endpoint(no_processes_left: None) -> Iterator[str]:
    """moto's server with one bucket, `registries`."""
    port = free_port()
    script = Path(__file__).parents[1] / "environment" / "s3_server.py"
    url = f"http://127.0.0.1:{port}"

    def made() -> bool:
        assert moto.poll() is None, "the S3 server ended"
        try:
            return httpx.put(f"{url}/registries").is_success
        except httpx.TransportError:
            return False

    with subprocess.Popen([sys.executable, script, str(port)], stderr=subprocess.DEVNULL) as moto:
        try:
            wait_until_sync(made, 60.0)
            yield url
        finally:
            moto.terminate()


@pytest.fixture
def s3_url(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A registry of one's own on S3, whose credentials are in the environment."""
    variables = {
        "AWS_ENDPOINT": s3_endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return f"s3://registries/{token_hex(6)}"


@pytest.fixture(params=["memory", "folder", "s3"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStoreModelRegistry:
    if request.param == "memory":
        return MemoryModelRegistry()
    on_s3 = request.param == "s3"
    return ObjectStoreModelRegistry(Objects(request.getfixturevalue("s3_url") if on_s3 else str(tmp_path / "registry")))


@pytest.fixture
def settings_log(registry: ObjectStoreModelRegistry) -> ObjectStoreSettingsLog:
    """The settings log beside the registry, on the same backend."""
    return ObjectStoreSettingsLog(registry._objects)


@pytest.fixture
def folder(tmp_path: Path) -> ObjectStoreModelRegistry:
    return ObjectStoreModelRegistry(Objects(str(tmp_path / "registry")))


@pytest.fixture
def publish(tmp_path: Path) -> Publish:
    def write(registry: ModelRegistry, version: str, day: int = 0, files: dict[str, bytes] = FILES) -> Manifest:
        paths = write_files(tmp_path / "built" / version, files)
        manifest = manifest_of(version, files, day)
        registry.publish(manifest, paths)
        return manifest

    return write
