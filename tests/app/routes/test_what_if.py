"""Answers of another version or an unsaved placement, for operators."""

from typing import Any

import httpx
import pytest

from tests.app.conftest import KEYS

ASKED = {"user_id": "u2", "k": 5}


async def answered(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    response = await client.post(path, json=body)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def without_id(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != "recommendation_id"}


async def recommended(client: httpx.AsyncClient) -> list[str]:
    lines = (await client.get("/metrics")).text.splitlines()
    return [line for line in lines if line.startswith("millirec_recommendations_total")]


async def test_a_version_in_memory_answers_as_it_would_if_it_were_live(client: httpx.AsyncClient) -> None:
    first = await answered(client, "/recommend", ASKED)
    await client.post("/versions/second/promote", json={"reason": "better"})
    second = await answered(client, "/recommend", ASKED)
    counted = await recommended(client)
    assert without_id(await answered(client, "/versions/first/recommend", ASKED)) == without_id(first)
    assert without_id(await answered(client, "/versions/second/recommend", ASKED)) == without_id(second)
    assert await recommended(client) == counted, "an operator's question is no traffic"
    assert (await client.get("/versions")).json()["loaded"] == ["second", "first"]


async def test_a_version_that_is_not_in_memory_is_404_and_those_that_are_get_named(client: httpx.AsyncClient) -> None:
    response = await client.post("/versions/second/recommend", json=ASKED)
    assert response.status_code == 404
    assert response.json()["detail"].endswith("those of this replica are first")


async def test_a_version_on_trial_explains_itself_and_has_no_pages(client: httpx.AsyncClient) -> None:
    body = await answered(client, "/versions/first/recommend", {**ASKED, "explain": True})
    assert all("why" in item for item in body["items"])
    response = await client.post("/versions/first/recommend", json={**ASKED, "pages": True})
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "pages"


async def test_a_preview_answers_as_the_placement_would_once_it_is_saved(client: httpx.AsyncClient) -> None:
    placement = {"k": 4, "filter": 'categories = "garden"', "diversity": 0.6, "properties": ["title"]}
    preview = await answered(client, "/recommend/preview", {"placement": placement, "user_id": "u2"})
    assert (await client.get("/placements/trial")).status_code == 404, "nothing is saved"
    await client.put("/placements/trial", json=placement)
    saved = await answered(client, "/recommend", {"user_id": "u2", "placement": "trial"})
    assert without_id(preview) == without_id(saved)
    assert len(preview["items"]) == 4


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "placement"),
        ({"placement": {"k": 0}}, "placement.k"),
        ({"placement": {"filter": "price <"}}, "placement.filter"),
        ({"placement": {}, "cursor": "x"}, "cursor"),
    ],
)
async def test_a_preview_names_the_field_that_is_wrong(
    client: httpx.AsyncClient, body: dict[str, object], field: str
) -> None:
    response = await client.post("/recommend/preview", json=body)
    assert response.status_code == 422
    assert [error["field"] for error in response.json()["errors"]] == [field]


async def test_an_item_is_shown_with_all_that_is_known_of_it(client: httpx.AsyncClient) -> None:
    body = (await client.get("/items/i7")).json()
    assert body == {
        "item_id": "i7",
        "index_version": "first",
        "trained": True,
        "available": False,
        "properties": {"title": "Item 7", "price": 7.0, "categories": ["garden"], "colour": "red"},
    }
    assert (await client.get("/items/nothing")).status_code == 404
    several = await client.get("/items", params={"item_id": ["i7", "nothing", "i1"]})
    assert [one["item_id"] for one in several.json()["items"]] == ["i7", "i1"]
    assert several.json()["items"][0] == body
    assert (await client.get("/items")).status_code == 422


@pytest.mark.parametrize("scope", ["recommend", "events", None])
async def test_only_admin_keys_may_try_things_out(guarded_client: httpx.AsyncClient, scope: str | None) -> None:
    if scope:
        guarded_client.headers["X-API-Key"] = KEYS[scope]
    refused = 403 if scope else 401
    assert (await guarded_client.post("/versions/first/recommend", json=ASKED)).status_code == refused
    assert (await guarded_client.post("/recommend/preview", json={"placement": {}})).status_code == refused
    assert (await guarded_client.get("/items/i7")).status_code == refused
    assert (await guarded_client.get("/versions/history")).status_code == refused
    assert (await guarded_client.post("/versions/first/pin", json={"reason": "why not"})).status_code == refused
