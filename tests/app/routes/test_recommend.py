"""Answers to a frontend from /recommend, /similar and /popular."""

from typing import Any

import httpx
import pytest

from tests.app.conftest import JSON


async def items_of(client: httpx.AsyncClient, path: str, **params: Any) -> list[dict[str, Any]]:
    response = await client.get(path, params=params)
    assert response.status_code == 200, response.text
    items: list[dict[str, Any]] = response.json()["items"]
    return items


def even(items: list[dict[str, Any]]) -> list[bool]:
    return [int(one["item_id"][1:]) % 2 == 0 for one in items]


async def test_a_user_of_the_snapshot_gets_items_of_their_taste(client: httpx.AsyncClient) -> None:
    body = (await client.get("/recommend", params={"user_id": "u2", "k": 8})).json()
    assert body["fallback_level"] == "snapshot"
    assert body["index_version"] == "first"
    assert body["degraded"] is False
    assert all(even(body["items"]))
    scores = [one["score"] for one in body["items"]]
    assert scores == sorted(scores, reverse=True)
    assert {one["source"] for one in body["items"]} == {"personal"}


async def test_an_unknown_user_gets_popular_items(client: httpx.AsyncClient) -> None:
    body = (await client.get("/recommend", params={"user_id": "nobody", "k": 3})).json()
    assert body["fallback_level"] == "popular"
    assert [one["item_id"] for one in body["items"]] == ["i0", "i1", "i2"]


async def test_a_session_gets_items_like_those_it_looked_at(client: httpx.AsyncClient) -> None:
    params = httpx.QueryParams([("session_items", "i1"), ("session_items", "i3"), ("k", "5")])
    body = (await client.get("/recommend", params=params)).json()
    assert body["fallback_level"] == "session"
    assert not any(even(body["items"]))
    assert not {"i1", "i3"} & {one["item_id"] for one in body["items"]}


async def test_asked_for_properties_come_with_each_item(client: httpx.AsyncClient) -> None:
    for one in await items_of(client, "/recommend", user_id="u2", properties="title,price,nothing"):
        number = one["item_id"][1:]
        assert one["properties"] == {"title": f"Item {number}", "price": float(number)}


async def test_excluded_and_unavailable_items_never_show(client: httpx.AsyncClient) -> None:
    shown = {one["item_id"] for one in await items_of(client, "/recommend", user_id="u1", k=500, exclude="i9")}
    assert len(shown) == 38
    assert not {"i7", "i9"} & shown


async def test_categories_limit_what_is_shown(client: httpx.AsyncClient) -> None:
    for path in ("/recommend?user_id=u1", "/popular", "/items/i1/similar", "/trending"):
        assert all(even(await items_of(client, path, filter='categories = "tea"')))


async def test_properties_filter_in_a_body(client: httpx.AsyncClient) -> None:
    asked = {"user_id": "u1", "k": 50, "filter": 'categories in ["tea"] and colour = "red"'}
    body = (await client.post("/recommend", json=asked)).json()
    assert {one["item_id"] for one in body["items"]} == {"i0", "i2", "i4", "i6", "i8"}


async def test_get_and_post_give_the_same_answer(client: httpx.AsyncClient) -> None:
    got = await items_of(client, "/recommend", user_id="u3", k=4, exclude="i5")
    posted = (await client.post("/recommend", json={"user_id": "u3", "k": 4, "exclude": ["i5"]})).json()
    assert posted["items"] == got


async def test_similar_items_share_the_taste_and_leave_out_the_item(client: httpx.AsyncClient) -> None:
    shown = await items_of(client, "/items/i4/similar", k=6)
    assert all(even(shown))
    assert "i4" not in {one["item_id"] for one in shown}


async def test_similar_to_an_unknown_item_is_404(client: httpx.AsyncClient) -> None:
    response = await client.get("/items/nothing/similar")
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert "nothing" in response.json()["detail"]


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"user_id": ""}, "user_id"),
        ({"user_id": "x" * 129}, "user_id"),
        ({"user_id": "a\x00b"}, "user_id"),
        ({"k": 0}, "k"),
        ({"k": 501}, "k"),
        ({"k": "many"}, "k"),
        ({"k": "null"}, "k"),
        ({"filter": "price <"}, "filter"),
        ({"k": ["1", "2"]}, "k"),
        ({"placement": "nowhere"}, "placement"),
        ({"colour": "red"}, "colour"),
        ({"exclude": ""}, "exclude.0"),
    ],
)
async def test_bad_parameters_are_named(client: httpx.AsyncClient, params: dict[str, Any], field: str) -> None:
    response = await client.get("/recommend", params=params)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert [one["field"] for one in response.json()["errors"]] == [field]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"{", "body"),
        (b"[]", "body"),
        (b'{"user_id": 3}', "user_id"),
        (b'{"k": "3"}', "k"),
        (b'{"nonsense": 1}', "nonsense"),
        (b'{"filter": {"colour": 1}}', "filter"),
        (b'{"filter": "price <"}', "filter"),
        (b'{"boosts": [{"when": "(", "factor": 2}]}', "boosts.0.when"),
        (b'{"cursor": "AAAA"}', "cursor"),
        (b'{"exclude": ["ok", ""]}', "exclude.1"),
        (b'{"user_id": "\xff"}', "body"),
    ],
)
async def test_bad_bodies_name_the_field(client: httpx.AsyncClient, body: bytes, field: str) -> None:
    response = await client.post("/recommend", content=body, headers=JSON)
    assert response.status_code == 422, response.text
    assert [one["field"] for one in response.json()["errors"]] == [field]


async def test_a_body_over_the_limit_is_413(client: httpx.AsyncClient) -> None:
    response = await client.post("/events", content=b"x" * 1_100_000, headers=JSON)
    assert response.status_code == 413
    assert response.headers["content-type"] == "application/problem+json"


async def test_paths_and_methods_that_do_not_exist_are_problems(client: httpx.AsyncClient) -> None:
    assert (await client.get("/nowhere")).json()["status"] == 404
    assert (await client.put("/recommend")).json()["status"] == 405
