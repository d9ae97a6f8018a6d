"""A watcher that fails is noticed and started again, and serving goes on."""

import httpx
import pytest

from app import main
from app.main import create_app
from app.settings import AppSettings
from app.versions.index_watcher import IndexWatcher
from recsys.stores.model_registry import ModelRegistry
from recsys.stores.model_registry.aliases import promote
from tests.app.conftest import client_of
from tests.environment.waiting import WaitUntil


async def test_a_watcher_that_fails_is_counted_and_follows_the_alias_again(
    settings: AppSettings, registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch, wait_until: WaitUntil
) -> None:
    run = IndexWatcher.run
    failures = iter([RuntimeError("a bug")])

    async def fails_once(watcher: IndexWatcher) -> None:
        for failure in failures:
            raise failure
        await run(watcher)

    monkeypatch.setattr(IndexWatcher, "run", fails_once)
    monkeypatch.setattr(main, "WATCHER_PAUSE", 0.01)
    async with client_of(create_app(settings)) as client:
        promote(registry, "second", actor="somebody else", reason="better")

        async def moved() -> bool:
            body = (await client.get("/recommend", params={"user_id": "u2"})).json()
            return bool(body["index_version"] == "second")

        await wait_until(moved)
        assert 'millirec_watcher_failures_total{watcher="IndexWatcher"} 1.0' in (await metrics(client))


async def metrics(client: httpx.AsyncClient) -> str:
    return (await client.get("/metrics")).text
