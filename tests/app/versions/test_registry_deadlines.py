"""Administrators get an answer while the registry hangs, and what was taken back while it was loading never serves."""

import threading
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from app.main import create_app
from app.settings import AppSettings
from app.versions import index_watcher
from app.versions.live_index import LiveIndex, LoadedVersion
from recsys.clients.objects import Objects
from recsys.models.manifest import Manifest
from recsys.recommender.placement import Placement, PlacementChange
from recsys.stores.model_registry import ModelRegistry
from recsys.stores.model_registry.aliases import promote
from recsys.stores.model_registry.object_store import ObjectStoreModelRegistry
from recsys.stores.settings_log.object_store import ObjectStoreSettingsLog
from tests.app.conftest import client_of
from tests.environment.waiting import WaitUntil


class HangingRegistry(ObjectStoreModelRegistry):
    """A registry whose calls for administrators hang until they are released."""

    def __init__(self, url: str) -> None:
        super().__init__(Objects(url))
        self.let_go = threading.Event()

    def versions(self) -> list[Manifest]:
        self.let_go.wait(30)
        return super().versions()


class HangingLog(ObjectStoreSettingsLog):
    """A settings log whose calls for administrators hang until the registry's are released."""

    def __init__(self, hanging: HangingRegistry, url: str) -> None:
        super().__init__(Objects(url))
        self._hanging = hanging

    def history(self, name: str) -> list[PlacementChange]:
        self._hanging.let_go.wait(30)
        return super().history(name)

    def change(self, name: str, placement: Placement | None, *, actor: str) -> PlacementChange:
        self._hanging.let_go.wait(30)
        return super().change(name, placement, actor=actor)


@pytest.fixture
def hanging(settings: AppSettings, registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch) -> HangingRegistry:
    made = HangingRegistry(settings.registry.url)
    monkeypatch.setattr(index_watcher, "READ_DEADLINE", 0.5)
    monkeypatch.setattr("app.main.open_model_registry", lambda *_, **__: made)
    monkeypatch.setattr("app.main.open_settings_log", lambda _: HangingLog(made, settings.registry.url))
    return made


@pytest.fixture
async def client(settings: AppSettings, hanging: HangingRegistry) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(create_app(settings)) as opened:
        yield opened
        hanging.let_go.set()


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/versions", None),
        ("POST", "/versions/rollback", {"reason": "worse"}),
        ("GET", "/placements/default/history", None),
        ("PUT", "/placements/home", {}),
    ],
)
async def test_a_registry_that_hangs_is_503_for_administrators_and_nothing_for_others(
    client: httpx.AsyncClient, hanging: HangingRegistry, wait_until: WaitUntil, method: str, path: str, body: object
) -> None:
    response = await client.request(method, path, json=body)
    assert response.status_code == 503
    assert "did not answer" in response.json()["detail"]
    assert (await client.get("/recommend", params={"user_id": "u2"})).status_code == 200
    hanging.let_go.set()

    async def lists_again() -> bool:
        return (await client.get("/versions")).status_code == 200

    await wait_until(lists_again)


class SecondThoughts(ObjectStoreModelRegistry):
    """A registry whose alias moves back to `first` while `second` is fetched."""

    def fetch(self, version: str, into: Path) -> Path:
        directory = super().fetch(version, into)
        if version == "second" and len(self.history("live")) == 2:
            promote(self, "first", actor="somebody", reason="on second thoughts")
        return directory


async def test_a_version_taken_back_while_it_was_loading_never_serves(
    settings: AppSettings, registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.main.open_model_registry", lambda *_, **__: SecondThoughts(Objects(settings.registry.url)))
    swapped: list[str] = []
    swap = LiveIndex.swap

    def noted(live: LiveIndex, loaded: LoadedVersion) -> None:
        swapped.append(loaded.index.version)
        swap(live, loaded)

    monkeypatch.setattr(LiveIndex, "swap", noted)
    async with client_of(create_app(settings)) as client:
        assert (await client.post("/versions/second/promote", json={"reason": "better"})).status_code == 200
        assert (await client.get("/health/ready")).json()["index_version"] == "first"
    assert swapped == ["first"]
