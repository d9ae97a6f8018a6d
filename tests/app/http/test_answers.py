"""Pages, batches, explanations and placements, as a frontend asks for them; and every body fits its schema."""

from time import time
from typing import Any
from uuid import RFC_4122, UUID

import httpx
import jsonschema_rs
import pytest

from app.http.answers import recommendation_id
from app.settings import ServeSettings


async def posted(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    response = await client.post(path, json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def ids(body: dict[str, Any]) -> list[str]:
    return [one["item_id"] for one in body["items"]]


async def test_pages_go_on_where_the_last_one_ended(client: httpx.AsyncClient) -> None:
    asked = {"user_id": "u2", "k": 6, "pages": True}
    page = await posted(client, "/recommend", asked)
    whole, first = ids(page), page["recommendation_id"]
    while "cursor" in page:
        page = await posted(client, "/recommend", {**asked, "cursor": page["cursor"]})
        assert page["recommendation_id"] == first
        whole += ids(page)
    assert whole == ids(await posted(client, "/recommend", {"user_id": "u2", "k": 60}))
    assert len(whole) == len(set(whole)) == 39


async def test_a_page_outlives_a_swap_and_leaves_out_what_is_gone(client: httpx.AsyncClient) -> None:
    asked = {"user_id": "u2", "k": 4, "pages": True}
    first = await posted(client, "/recommend", asked)
    second = await posted(client, "/recommend", {**asked, "cursor": first["cursor"]})
    gone = ids(second)[0]
    assert (await client.post("/versions/second/promote", json={"reason": "swap"})).status_code == 200
    again = await posted(client, "/recommend", {**asked, "cursor": first["cursor"], "exclude": [gone]})
    assert again["index_version"] == "first"
    assert ids(again)[:3] == ids(second)[1:]


async def test_a_batch_answers_each_user_as_a_single_call_would(client: httpx.AsyncClient) -> None:
    users = [f"u{n}" for n in range(20)] + ["nobody"]
    body = await posted(client, "/recommend/batch", {"users": users, "k": 5, "properties": ["title"]})
    assert [one["user_id"] for one in body["answers"]] == users
    for one in body["answers"]:
        alone = await posted(client, "/recommend", {"user_id": one["user_id"], "k": 5, "properties": ["title"]})
        assert (one["fallback_level"], [item["item_id"] for item in one["items"]]) == (
            alone["fallback_level"],
            ids(alone),
        )


async def test_explain_says_where_an_item_came_from(client: httpx.AsyncClient) -> None:
    body = await posted(client, "/recommend", {"session_items": ["i4"], "k": 3, "explain": True})
    for rank, one in enumerate(body["items"], 1):
        assert one["why"]["ranks"]["answer"] == rank
        (part,) = one["why"]["contributions"]
        assert part["item_id"] == "i4"
        assert part["score"] == pytest.approx(one["score"], abs=1e-4)


@pytest.mark.parametrize(
    ("asked", "stage"),
    [
        ({"item_id": "i7"}, "available"),
        ({"item_id": "i4", "filter": 'categories = "garden"'}, "filter"),
        ({"item_id": "i4", "exclude": ["i4"]}, "exclude"),
        ({"item_id": "i39", "k": 1}, "candidates"),
    ],
)
async def test_explain_says_what_removed_an_item(client: httpx.AsyncClient, asked: dict[str, Any], stage: str) -> None:
    body = await posted(client, "/explain", {"user_id": "u2", **asked})
    assert body["removed"]["stage"] == stage
    assert "rank" not in body


async def test_explain_of_an_item_that_is_shown_gives_its_rank(client: httpx.AsyncClient) -> None:
    shown = ids(await posted(client, "/recommend", {"user_id": "u2", "k": 5}))
    body = await posted(client, "/explain", {"user_id": "u2", "k": 5, "item_id": shown[2]})
    assert body["rank"] == 3
    assert "removed" not in body


async def test_explain_of_an_unknown_item_is_404(client: httpx.AsyncClient) -> None:
    assert (await client.post("/explain", json={"item_id": "unheard-of"})).status_code == 404


async def test_boosts_may_depend_on_the_context(client: httpx.AsyncClient) -> None:
    boosts = [{"when": 'colour = "red"', "factor": 50, "context": {"device": "phone"}}]
    asked = {"user_id": "u2", "k": 3, "boosts": boosts}
    plain = await posted(client, "/recommend", {"user_id": "u2", "k": 3})
    assert ids(await posted(client, "/recommend", {**asked, "context": {"device": "desk"}})) == ids(plain)
    phone = ids(await posted(client, "/recommend", {**asked, "context": {"device": "phone", "hour": "9"}}))
    assert {int(one[1:]) < 10 for one in phone} == {True}


async def test_why_there_are_fewer_than_asked_for_is_said(client: httpx.AsyncClient) -> None:
    body = await posted(client, "/recommend", {"user_id": "u2", "k": 500})
    assert len(body["items"]) == 39
    assert "39 of 500" in body["short"]


@pytest.mark.parametrize("placement", ["default", "discover", "home", "product", "cart", "trending", "new"])
async def test_every_ready_made_placement_answers(client: httpx.AsyncClient, placement: str) -> None:
    body = await posted(client, "/recommend", {"user_id": "u2", "cart_items": ["i4"], "placement": placement})
    assert len(body["items"]) == 10 or "short" in body


@pytest.mark.parametrize(
    ("placement", "said"),
    [
        ({"sources": [{"source": "telepathy"}]}, "telepathy"),
        ({"filter": "price <"}, "filter"),
        ({"boosts": [{"when": "((", "factor": 2}]}, "boosts.0.when"),
        ({"exclude_seen": {"purchase": 0}}, "exclude_seen"),
        ({"colour": 1}, "colour"),
    ],
)
def test_a_placement_that_is_wrong_is_named_at_the_start(placement: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ServeSettings.model_validate({"placements": {"mine": placement}})


async def test_real_answers_fit_the_published_schema(client: httpx.AsyncClient) -> None:
    """Held with a validator of its own, so that a route that encodes by hand cannot drift from the document."""
    document = (await client.get("/openapi.json")).json()

    def check(body: Any, name: str) -> None:
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        jsonschema_rs.Draft202012Validator(schema).validate(body)

    asked = {"user_id": "u2", "k": 3, "properties": ["title", "price", "categories"], "pages": True}
    check(await posted(client, "/recommend", asked), "Answer")
    check(await posted(client, "/recommend", {**asked, "explain": True}), "Answer")
    check(await posted(client, "/recommend/batch", {"users": ["u1", "u2"]}), "BatchAnswer")
    check(await posted(client, "/explain", {"user_id": "u1", "item_id": "i7"}), "ExplainAnswer")
    check(await posted(client, "/explain", {"user_id": "u1", "item_id": "i1", "k": 40}), "ExplainAnswer")
    described = document["paths"]["/recommend"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert described == {"$ref": "#/components/schemas/Answer"}
    named = {one["name"] for one in document["paths"]["/recommend"]["get"]["parameters"]}
    assert {"user_id", "k", "placement", "session_items", "cart_items", "filter", "explain", "cursor"} <= named


def test_the_id_of_an_answer_is_a_uuid_that_sorts_by_time() -> None:
    began = time() * 1000
    ids = [recommendation_id() for _ in range(1000)]
    versions = {(UUID(name).version, UUID(name).variant, str(UUID(name)) == name) for name in ids}
    assert versions == {(7, RFC_4122, True)}
    assert len(set(ids)) == len(ids)
    moments = [UUID(name).int >> 64 for name in ids]
    assert moments == sorted(moments)
    assert int(began) <= UUID(ids[0]).int >> 80 <= UUID(ids[-1]).int >> 80 <= time() * 1000
