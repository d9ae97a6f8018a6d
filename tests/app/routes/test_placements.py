"""Placements over the admin API: who may, what answers next, and what happens when the registry is away."""

import shutil
from pathlib import Path

import httpx
import pytest

from app.main import create_app
from app.settings import AppSettings
from recsys.recommender.placement import READY_MADE, Placement
from recsys.stores.model_registry import ModelRegistry
from tests.app.conftest import KEYS, client_of
from tests.environment.waiting import WaitUntil

FEW = {"k": 3}


async def shown(client: httpx.AsyncClient, placement: str) -> int:
    response = await client.get("/recommend", params={"user_id": "u2", "placement": placement})
    return len(response.json()["items"]) if response.status_code == 200 else -response.status_code


@pytest.fixture
def configured(settings: AppSettings) -> AppSettings:
    """`home` and `own` come from the settings."""
    placements = {"home": Placement(k=5), "own": Placement(k=4)}
    return settings.model_copy(update={"serve": settings.serve.model_copy(update={"placements": placements})})


async def test_a_placement_that_was_set_answers_at_once_and_everywhere_soon(
    settings: AppSettings, registry: ModelRegistry, wait_until: WaitUntil
) -> None:
    async with client_of(create_app(settings)) as one, client_of(create_app(settings)) as other:
        assert await shown(one, "banner") == -422
        response = await one.put("/placements/banner", json=FEW)
        assert response.status_code == 200
        assert response.json()["sequence"] == 1
        assert await shown(one, "banner") == 3

        async def arrived() -> bool:
            return await shown(other, "banner") == 3

        await wait_until(arrived)


async def test_operators_stand_over_settings_and_settings_over_what_is_ready_made(
    configured: AppSettings, registry: ModelRegistry
) -> None:
    async with client_of(create_app(configured)) as client:
        assert await shown(client, "home") == 5
        await client.put("/placements/home", json=FEW)
        assert await shown(client, "home") == 3
        body = (await client.get("/placements")).json()
        origins = {one["name"]: one["origin"] for one in body["placements"]}
        assert origins == dict.fromkeys(READY_MADE, "ready-made") | {"own": "settings", "home": "operator"}
        home = (await client.get("/placements/home")).json()
        assert (home["placement"]["k"], home["actor"]) == (3, "anonymous")
        assert (await client.delete("/placements/home")).json()["placement"] is None
        assert await shown(client, "home") == 5
        assert (await client.get("/placements/home")).json()["origin"] == "settings"


async def test_every_change_is_kept_with_who_made_it(guarded_client: httpx.AsyncClient) -> None:
    guarded_client.headers["X-API-Key"] = KEYS["admin"]
    await guarded_client.put("/placements/banner", json=FEW)
    await guarded_client.put("/placements/banner", json={"k": 7})
    await guarded_client.delete("/placements/banner")
    body = (await guarded_client.get("/placements/banner/history")).json()
    assert [(one["sequence"], one["actor"]) for one in body["changes"]] == [(1, "admin"), (2, "admin"), (3, "admin")]
    assert [one["placement"] and one["placement"]["k"] for one in body["changes"]] == [3, 7, None]
    assert (await guarded_client.get("/placements/banner")).status_code == 404
    assert (await guarded_client.get("/placements/home/history")).json() == {"name": "home", "changes": []}


@pytest.mark.parametrize("scope", ["recommend", "users", None])
async def test_only_admin_keys_may_look_and_change(guarded_client: httpx.AsyncClient, scope: str | None) -> None:
    if scope:
        guarded_client.headers["X-API-Key"] = KEYS[scope]
    refused = 403 if scope else 401
    assert (await guarded_client.put("/placements/home", json=FEW)).status_code == refused
    assert (await guarded_client.delete("/placements/home")).status_code == refused
    assert (await guarded_client.get("/placements")).status_code == refused
    assert (await guarded_client.get("/placements/home/history")).status_code == refused


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"k": 0}, "k"),
        ({"diversity": 2}, "diversity"),
        ({"boosts": [{"when": "available", "factor": 0}]}, "boosts.0.factor"),
        ({"sources": [{"source": "stars"}]}, "sources.0.source"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_a_placement_that_makes_no_sense_is_refused_by_field(
    client: httpx.AsyncClient, body: dict[str, object], field: str
) -> None:
    response = await client.put("/placements/banner", json=body)
    assert response.status_code == 422
    assert [error["field"] for error in response.json()["errors"]] == [field]


async def test_what_is_not_there_is_404_and_what_is_no_name_is_422(client: httpx.AsyncClient) -> None:
    assert (await client.get("/placements/banner")).status_code == 404
    assert (await client.get("/placements/banner/history")).status_code == 404
    assert (await client.delete("/placements/home")).status_code == 404
    assert (await client.put("/placements/Home", json=FEW)).status_code == 422


async def test_the_last_known_placements_hold_while_the_registry_is_away(
    settings: AppSettings, registry: ModelRegistry, tmp_path: Path
) -> None:
    async with client_of(create_app(settings)) as client:
        await client.put("/placements/banner", json=FEW)
        shutil.move(tmp_path / "registry", tmp_path / "away")
        (tmp_path / "registry").write_text("a file where a folder should be")
        response = await client.put("/placements/other", json=FEW)
        assert response.status_code == 503
        assert await shown(client, "banner") == 3
    async with client_of(create_app(settings)) as client:
        assert await shown(client, "banner") == 3, "a replica that starts now has them too"
        assert (await client.get("/placements/banner")).json()["origin"] == "operator"
