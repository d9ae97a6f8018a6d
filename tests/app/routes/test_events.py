"""Answers to producers from /events and /items, and what reaches the topic."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from app.main import create_app
from app.settings import AppSettings
from recsys.messages.interaction import Erasure, Interaction, Merge
from recsys.messages.item import Item
from recsys.messages.wire import Message, decode, key_of
from recsys.settings import StoreSettings
from recsys.stores.topic import TopicConsumer, open_interaction_topic
from tests.app.conftest import client_of

EVENT = {"event_id": "e1", "user_id": "u1", "item_id": "i1", "type": "purchase", "price": 2.5, "quantity": 3}


@pytest.fixture
async def topic(settings: AppSettings) -> AsyncIterator[TopicConsumer]:
    async with open_interaction_topic(settings.topic, settings.store).consumer("test") as consumer:
        yield consumer


async def messages(topic: TopicConsumer, count: int) -> list[Message]:
    found: list[Message] = []
    while len(found) < count:
        delivered = await topic.poll(100, 5.0)
        assert delivered, f"only {len(found)} of {count} messages came"
        found += [decode(one.value) for one in delivered]
    return found


async def test_one_event_is_on_the_topic_when_accepted(client: httpx.AsyncClient, topic: TopicConsumer) -> None:
    response = await client.post("/events", json=EVENT)
    assert response.status_code == 202
    assert response.json() == {"accepted": 1, "rejected": 0, "receipts": [{"id": "e1", "status": "accepted"}]}
    (message,) = await messages(topic, 1)
    assert isinstance(message, Interaction)
    assert (message.event_id, message.user_id, message.item_id, message.quantity) == ("e1", "u1", "i1", 3.0)
    assert message.occurred_at.tzinfo is not None


@pytest.mark.parametrize("path", ["/events", "/recommend", "/recommend/batch"])
async def test_a_body_nested_beyond_all_measure_is_refused(client: httpx.AsyncClient, path: str) -> None:
    deep = '{"events": [{"user_id": ' + "[" * 20_000
    response = await client.post(path, content=deep, headers={"content-type": "application/json"})
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"


async def test_an_event_without_id_gets_one(client: httpx.AsyncClient) -> None:
    body = {"user_id": "u1", "item_id": "i1", "type": "view"}
    first, second = [(await client.post("/events", json=body)).json()["receipts"][0]["id"] for _ in range(2)]
    assert first != second


async def test_a_bad_event_in_a_batch_is_named_and_spoils_nothing(
    client: httpx.AsyncClient, topic: TopicConsumer
) -> None:
    batch = {"events": [EVENT, {**EVENT, "event_id": "e2", "quantity": -1}, {**EVENT, "event_id": "e3"}]}
    response = await client.post("/events", json=batch)
    assert response.status_code == 202
    body = response.json()
    assert (body["accepted"], body["rejected"]) == (2, 1)
    assert body["receipts"][1]["field"] == "events.1.quantity"
    assert {one.event_id for one in await messages(topic, 2) if isinstance(one, Interaction)} == {"e1", "e3"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"user_id": None}, "user_id"),
        ({"item_id": ""}, "item_id"),
        ({"type": "Not A Type"}, "type"),
        ({"quantity": 0}, "quantity"),
        ({"price": "2.5"}, "price"),
        ({"occurred_at": "2011-12-09T12:50:00"}, "occurred_at"),
        ({"occurred_at": "yesterday"}, "occurred_at"),
        ({"occurred_at": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}, "occurred_at"),
        ({"userid": "u1"}, "userid"),
    ],
)
async def test_a_bad_event_is_422_and_names_the_field(
    client: httpx.AsyncClient, change: dict[str, Any], field: str
) -> None:
    response = await client.post("/events", json={**EVENT, **change})
    assert response.status_code == 422, response.text
    assert [one["field"] for one in response.json()["errors"]] == [field]


async def test_a_missing_field_is_named(client: httpx.AsyncClient) -> None:
    response = await client.post("/events", json={"item_id": "i1", "type": "view"})
    assert [one["field"] for one in response.json()["errors"]] == ["user_id"]


@pytest.mark.parametrize("count", [0, 1001])
async def test_a_batch_of_the_wrong_size_is_refused_whole(client: httpx.AsyncClient, count: int) -> None:
    response = await client.post("/events", json={"events": [EVENT] * count})
    assert response.status_code == 422
    assert "between 1 and 1000" in response.json()["detail"]


async def test_a_topic_that_is_down_is_503_with_retry_after(settings: AppSettings, registry: object) -> None:
    nowhere = StoreSettings(url="redis://127.0.0.1:1/0")
    down = settings.model_copy(update={"store": nowhere})
    async with client_of(create_app(down)) as client:
        response = await client.post("/events", json=EVENT)
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) >= 1
        assert response.headers["content-type"] == "application/problem+json"


async def test_items_and_erasures_travel_on_the_topic(client: httpx.AsyncClient, topic: TopicConsumer) -> None:
    assert (await client.put("/items", json={"item_id": "i1", "available": False})).status_code == 202
    assert (await client.delete("/users/u1")).status_code == 202
    found = {type(one): one for one in await messages(topic, 2)}
    item, erasure = found[Item], found[Erasure]
    assert isinstance(item, Item)
    assert (item.item_id, item.available, item.title) == ("i1", False, None)
    assert isinstance(erasure, Erasure)
    assert erasure.user_id == "u1"


async def test_a_merge_is_a_message_of_the_user_that_ends(client: httpx.AsyncClient, topic: TopicConsumer) -> None:
    response = await client.post("/users/ada/merge", json={"from": "anon"})
    assert response.status_code == 202
    [merge] = await messages(topic, 1)
    assert isinstance(merge, Merge)
    assert (merge.user_id, merge.into) == ("anon", "ada")
    assert response.json()["receipts"] == [{"id": merge.event_id, "status": "accepted"}]
    assert key_of(merge) == "anon"


@pytest.mark.parametrize("body", [{"from": "ada"}, {}, {"from": ""}, {"from": "anon", "into": "bob"}])
async def test_a_merge_that_makes_no_sense_is_refused(client: httpx.AsyncClient, body: dict[str, str]) -> None:
    response = await client.post("/users/ada/merge", json=body)
    assert response.status_code == 422
    assert [one["field"] for one in response.json()["errors"]] == ["into" if "into" in body else "from"]
