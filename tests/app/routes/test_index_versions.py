"""Promote, roll back, refuse: what operators do over HTTP and what the watcher does alone."""

from datetime import UTC, datetime
from pathlib import Path

import httpx

from app.main import create_app
from app.settings import AppSettings
from recsys.messages.item import Item
from recsys.stores.model_registry import ModelRegistry
from recsys.stores.model_registry.aliases import promote
from recsys.stores.online import open_stores
from tests.app.conftest import KEYS, client_of
from tests.environment.versions import publish_small_version
from tests.environment.waiting import WaitUntil

ASKED: dict[str, str | int] = {"user_id": "u2", "k": 10, "properties": "title"}


async def answer(client: httpx.AsyncClient) -> tuple[str, object]:
    body = (await client.get("/recommend", params=ASKED)).json()
    return body["index_version"], body["items"]


async def test_promote_takes_effect_before_its_answer_and_rollback_restores_it(client: httpx.AsyncClient) -> None:
    before = await answer(client)
    promoted = await client.post("/versions/second/promote", json={"reason": "better"})
    assert promoted.status_code == 200
    assert (await answer(client))[0] == "second"
    rolled_back = await client.post("/versions/rollback", json={"reason": "worse"})
    assert rolled_back.json()["version"] == "first"
    assert rolled_back.json()["reason"] == "rollback: worse"
    assert await answer(client) == before


async def test_versions_are_listed_with_their_aliases(client: httpx.AsyncClient) -> None:
    body = (await client.get("/versions")).json()
    assert body["serving"] == "first"
    assert {one["version"]: one["aliases"] for one in body["versions"]} == {"first": ["live"], "second": []}


async def test_the_first_version_cannot_be_rolled_back(client: httpx.AsyncClient) -> None:
    response = await client.post("/versions/rollback", json={"reason": "why not"})
    assert response.status_code == 409


async def test_promoting_what_does_not_exist_is_404(client: httpx.AsyncClient) -> None:
    response = await client.post("/versions/third/promote", json={"reason": "hope"})
    assert response.status_code == 404


async def test_a_move_needs_a_reason(client: httpx.AsyncClient) -> None:
    response = await client.post("/versions/second/promote", json={})
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "reason"


async def test_every_move_is_told_newest_first_with_who_and_why(guarded_client: httpx.AsyncClient) -> None:
    guarded_client.headers["X-API-Key"] = KEYS["admin"]
    await guarded_client.post("/versions/second/promote", json={"reason": "better"})
    await guarded_client.post("/versions/rollback", json={"reason": "worse"})
    moves = (await guarded_client.get("/versions/history")).json()["moves"]
    assert [(one["alias"], one["version"], one["actor"], one["reason"]) for one in moves] == [
        ("live", "first", "admin", "rollback: worse"),
        ("live", "second", "admin", "better"),
        ("live", "first", "test", "start"),
    ]
    assert (await guarded_client.get("/versions/history", params={"limit": 1})).json()["moves"] == moves[:1]
    assert (await guarded_client.get("/versions/history", params={"limit": 0})).status_code == 422


async def test_a_pinned_version_is_listed_as_such_until_the_pin_is_taken_back(client: httpx.AsyncClient) -> None:
    async def aliases() -> list[str]:
        listed: list[str] = (await client.get("/versions")).json()["versions"][1]["aliases"]
        return listed

    assert (await client.post("/versions/second/pin", json={"reason": "the audit's"})).status_code == 200
    assert await aliases() == ["pin:second"]
    taken = await client.post("/versions/second/unpin", json={"reason": "audited"})
    assert (taken.status_code, taken.json()["cleared"]) == (200, True)
    assert await aliases() == []
    assert (await client.post("/versions/second/unpin", json={"reason": "again"})).status_code == 404
    assert (await client.post("/versions/third/pin", json={"reason": "hope"})).status_code == 404


async def test_a_replica_follows_an_alias_that_somebody_else_moved(
    client: httpx.AsyncClient, registry: ModelRegistry, wait_until: WaitUntil
) -> None:
    promote(registry, "second", actor="somebody else", reason="better")

    async def moved() -> bool:
        return (await answer(client))[0] == "second"

    await wait_until(moved)


async def test_a_corrupt_version_is_refused_and_serving_goes_on(
    client: httpx.AsyncClient, registry: ModelRegistry, settings: AppSettings, tmp_path: Path
) -> None:
    publish_small_version(registry, tmp_path / "built", "broken", seed=3)
    factors = Path(settings.registry.url) / "models" / "recommender" / "versions" / "broken" / "item_factors.npy"
    content = bytearray(factors.read_bytes())
    content[-1] ^= 0xFF
    factors.write_bytes(content)
    before = await answer(client)
    await client.post("/versions/broken/promote", json={"reason": "nobody looked"})
    assert await answer(client) == before
    metrics = (await client.get("/metrics")).text
    assert 'millirec_index_load_failures_total{reason="corrupt"}' in metrics


async def test_without_a_version_requests_are_503_and_readiness_is_off(settings: AppSettings) -> None:
    async with client_of(create_app(settings)) as client:
        assert (await client.get("/health/live")).status_code == 200
        assert (await client.get("/health/ready")).status_code == 503
        response = await client.get("/recommend", params={"user_id": "u1"})
        assert response.status_code == 503
        assert "train" in response.json()["detail"]


async def test_an_item_hidden_in_the_store_leaves_every_answer(
    client: httpx.AsyncClient, settings: AppSettings, wait_until: WaitUntil
) -> None:
    stores = open_stores(settings.store)
    try:
        await stores.items.put([Item(item_id="i0", updated_at=datetime.now(UTC), available=False, title="Gone")])
    finally:
        await stores.aclose()

    async def hidden() -> bool:
        first: str = (await client.get("/popular", params={"k": 1})).json()["items"][0]["item_id"]
        return first == "i1"

    await wait_until(hidden)
