"""GET /asyncapi.json: what a service tells producers of its topic."""

import httpx
import msgspec

from app.main import create_app
from app.settings import AppSettings
from recsys.messages.schemas import asyncapi
from recsys.settings import TopicSettings
from recsys.stores.model_registry import ModelRegistry
from tests.app.conftest import client_of


async def test_the_asyncapi_document_names_the_topic_in_use(guarded: AppSettings, registry: ModelRegistry) -> None:
    topic = TopicSettings(name="shop.events", partitions=2)
    async with client_of(create_app(guarded.model_copy(update={"topic": topic}))) as client:
        response: httpx.Response = await client.get("/asyncapi.json")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert msgspec.json.decode(response.content) == asyncapi("shop.events")
