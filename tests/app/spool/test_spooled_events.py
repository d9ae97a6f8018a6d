"""Answers to producers while the topic is down, and how a hanging topic is kept from filling the memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from app.main import create_app
from app.settings import AppSettings
from app.spool.folder import unowned
from recsys.messages.interaction import Erasure, Interaction, Merge
from recsys.messages.item import Item
from recsys.messages.wire import MAX_MESSAGE_BYTES, Message, decode
from recsys.settings import StoreSettings
from recsys.stores.model_registry import ModelRegistry
from recsys.stores.topic import open_interaction_topic
from tests.app.conftest import client_of
from tests.environment.waiting import wait_until
from tests.faults.tcp_proxy import proxying

EVENT = {"event_id": "e1", "user_id": "u1", "item_id": "i1", "type": "view"}
NOWHERE = StoreSettings(url=SecretStr("redis://127.0.0.1:1/0"))


def spooling(settings: AppSettings, folder: Path, **changes: Any) -> AppSettings:
    return settings.model_copy(update={"serve": settings.serve.model_copy(update={"spool": folder}), **changes})


@asynccontextmanager
async def serving(settings: AppSettings) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(create_app(settings)) as client:
        yield client


async def spool_health(client: httpx.AsyncClient) -> dict[str, Any]:
    found: dict[str, Any] = (await client.get("/health/ready")).json()["spool"]
    return found


async def is_empty(client: httpx.AsyncClient) -> bool:
    return await spool_health(client) == {"messages": 0, "bytes": 0, "oldest_seconds": 0.0}


async def test_all_kinds_of_messages_wait_and_reach_the_topic_in_their_order(
    settings: AppSettings, registry: ModelRegistry, tmp_path: Path
) -> None:
    folder = tmp_path / "spool"
    async with serving(spooling(settings, folder, store=NOWHERE)) as client:
        response = await client.post("/events", json={"events": [EVENT, {**EVENT, "event_id": "e2", "type": "!"}]})
        assert response.status_code == 202
        assert response.json()["receipts"][0] == {"id": "e1", "status": "accepted", "spooled": True}
        assert response.json()["receipts"][1]["status"] == "rejected"
        nameless = await client.post("/events", json={"user_id": "u1", "item_id": "i2", "type": "view"})
        assert (await client.put("/items", json={"item_id": "i1", "available": False})).status_code == 202
        assert (await client.post("/users/u2/merge", json={"from": "u1"})).status_code == 202
        assert (await client.delete("/users/u1")).status_code == 202
        assert (await spool_health(client))["messages"] == 5
        text = (await client.get("/metrics")).text
        assert "millirec_spooled_total" in text
    assert sum(unowned(folder).values()) == 5

    async with (
        open_interaction_topic(settings.topic, settings.store).consumer("test") as topic,
        serving(spooling(settings, folder)) as client,
    ):
        found: list[Message] = []
        while len(found) < 5:
            found += [decode(one.value) for one in await topic.poll(100, 5.0)]
        await wait_until(lambda: not list(folder.iterdir()))
        # The folder is empty a moment before it is counted.
        await wait_until(lambda: is_empty(client))
        assert "spooled" not in (await client.post("/events", json=EVENT)).json()["receipts"][0]
    users = [one for one in found if not isinstance(one, Item)]
    assert [type(one) for one in users] == [Interaction, Interaction, Merge, Erasure]
    assert [one.event_id for one in users[:2]] == ["e1", nameless.json()["receipts"][0]["id"]]


async def test_a_spool_that_cannot_be_written_is_503_with_retry_after(
    settings: AppSettings, registry: ModelRegistry, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")
    async with serving(spooling(settings, tmp_path / "file" / "spool", store=NOWHERE)) as client:
        for response in (await client.post("/events", json=EVENT), await client.delete("/users/u1")):
            assert response.status_code == 503
            assert int(response.headers["retry-after"]) >= 1
        assert (await client.get("/health/ready")).status_code == 200


async def test_a_topic_that_hangs_holds_only_so_many_bytes_and_refuses_the_rest_at_once(
    settings: AppSettings, registry: ModelRegistry, valkey_url: str
) -> None:
    batch = {"events": [{**EVENT, "event_id": f"e{n}"} for n in range(100)]}
    with proxying(valkey_url.removeprefix("unix://")) as proxy:
        store = settings.store.model_copy(update={"url": SecretStr(f"redis://127.0.0.1:{proxy.port}")})
        serve = settings.serve.model_copy(update={"max_unacknowledged_bytes": 50_000})
        topic = settings.topic.model_copy(update={"send_timeout": 1.5})
        bounded = settings.model_copy(update={"store": store, "serve": serve, "topic": topic})
        async with serving(bounded) as client:
            assert (await client.post("/events", json=EVENT)).status_code == 202
            proxy.swallows()
            first, *others = [asyncio.create_task(client.post("/events", json=batch)) for _ in range(20)]
            await asyncio.wait(others[10:])
            assert not first.done()
            assert {one.status_code for one in await asyncio.gather(first, *others)} == {503}
            proxy.passes()
            assert (await client.post("/events", json=batch)).status_code == 202


@pytest.mark.parametrize("spooled", [False, True])
async def test_a_message_that_no_consumer_would_read_is_refused_at_the_door(
    settings: AppSettings, registry: ModelRegistry, tmp_path: Path, spooled: bool
) -> None:
    changed = spooling(settings, tmp_path / "spool", store=NOWHERE) if spooled else settings
    large = {"item_id": "i1", "properties": {"words": ["x" * 1000] * (MAX_MESSAGE_BYTES // 1000 + 1)}}
    async with serving(changed) as client:
        response = await client.put("/items", json={"items": [large, {"item_id": "i2"}]})
        assert response.status_code == 202
        assert [one["status"] for one in response.json()["receipts"]] == ["rejected", "accepted"]
        alone = await client.put("/items", json=large)
        assert alone.status_code == 422
        assert str(MAX_MESSAGE_BYTES) in alone.json()["detail"]
