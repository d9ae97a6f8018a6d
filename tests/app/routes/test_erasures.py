"""Receipts of erasures: proof for whoever asked, and for nobody else."""

from datetime import datetime
from pathlib import Path

import httpx

from app.settings import AppSettings
from recsys.messages.interaction import Erasure
from recsys.stores.online import open_stores
from recsys.stores.receipts import open_erasure_receipts
from recsys.users import PositionedMessage, UserFeatures, apply


async def erase(client: httpx.AsyncClient, user: str) -> str:
    response = await client.delete(f"/users/{user}")
    assert response.status_code == 202
    return str(response.json()["receipts"][0]["id"])


async def test_a_receipt_says_that_the_erasure_was_asked_for(client: httpx.AsyncClient) -> None:
    receipt = await erase(client, "ada")
    found = (await client.get(f"/users/ada/erasures/{receipt}")).json()
    assert found["receipt"] == receipt
    assert datetime.fromisoformat(found["requested_at"]).tzinfo is not None
    assert [found[name] for name in ("features_removed_at", "rows", "rows_deleted_at", "files_deleted_at")] == [
        None
    ] * 4


async def test_a_receipt_says_when_the_features_were_gone_and_goes_on_saying_it(
    client: httpx.AsyncClient, settings: AppSettings
) -> None:
    receipt = await erase(client, "ada")
    asked = (await client.get(f"/users/ada/erasures/{receipt}")).json()
    stores = open_stores(settings.store)
    message = Erasure(event_id=receipt, user_id="ada", occurred_at=datetime.fromisoformat(asked["requested_at"]))
    await stores.users.save([apply(UserFeatures("ada"), [PositionedMessage("interactions-0", 1, message)])])
    await stores.aclose()
    first = (await client.get(f"/users/ada/erasures/{receipt}")).json()
    assert first["features_removed_at"] is not None
    assert (await client.get(f"/users/ada/erasures/{receipt}")).json() == first


async def test_nobody_gets_the_receipt_of_somebody_else(client: httpx.AsyncClient) -> None:
    receipt = await erase(client, "ada")
    assert (await client.get(f"/users/bob/erasures/{receipt}")).status_code == 404
    assert (await client.get("/users/ada/erasures/never")).status_code == 404


async def test_a_receipt_is_for_administrators(guarded_client: httpx.AsyncClient) -> None:
    response = await guarded_client.get("/users/ada/erasures/x", headers={"X-API-Key": "e" * 20})
    assert response.status_code == 403


async def test_receipts_do_not_say_who_it_was_nor_that_two_are_of_one_user(
    client: httpx.AsyncClient, settings: AppSettings
) -> None:
    first, second = await erase(client, "Ada-Lovelace"), await erase(client, "Ada-Lovelace")
    written = [path.read_text() for path in Path(settings.registry.url).glob("erasures/*/*.json")]  # noqa: ASYNC240
    assert len(written) == 2
    assert not any("Lovelace" in one for one in written)
    receipts = open_erasure_receipts(settings.registry)
    hashes = {stage.user for one in (first, second) if (stage := receipts.noted("requested", one))}
    assert len(hashes) == 2
