"""An item that came after training, and that nobody has touched, finds those who like its kind."""

from datetime import UTC, datetime
from typing import Any

import httpx

from app.settings import AppSettings
from recsys.messages.item import Item
from recsys.stores.online import open_stores
from tests.environment.waiting import wait_until


async def ids(client: httpx.AsyncClient, **params: Any) -> list[str]:
    response = await client.get("/recommend", params={"placement": "new", **params})
    assert response.status_code == 200, response.text
    return [one["item_id"] for one in response.json()["items"]]


async def test_a_new_item_is_shown_first_to_those_who_like_its_kind(
    client: httpx.AsyncClient, settings: AppSettings
) -> None:
    stores = open_stores(settings.store)
    try:
        await stores.items.put(
            [
                Item(item_id="new-tea", updated_at=datetime.now(UTC), title="Item", categories=["tea"]),
                Item(item_id="new-garden", updated_at=datetime.now(UTC), title="Item", categories=["garden"]),
            ]
        )

        async def both_are_known() -> bool:
            return set(await ids(client, user_id="u0")) == {"new-tea", "new-garden"}

        await wait_until(both_are_known)
        assert await ids(client, user_id="u0") == ["new-tea", "new-garden"]
        assert await ids(client, user_id="u1") == ["new-garden", "new-tea"]
        assert await ids(client, user_id="u1", filter='categories = "tea"') == ["new-tea"]
        similar = (await client.get("/items/new-tea/similar", params={"k": 5})).json()["items"]
        assert all(int(one["item_id"][1:]) % 2 == 0 for one in similar)
        why = (await client.post("/explain", json={"item_id": "new-tea", "user_id": "u0", "placement": "new"})).json()
        assert why["rank"] == 1
        await stores.items.put([Item(item_id="new-tea", updated_at=datetime.now(UTC), available=False)])

        async def it_is_gone() -> bool:
            return await ids(client, user_id="u0") == ["new-garden"]

        await wait_until(it_is_gone)
    finally:
        await stores.aclose()
