"""The demo's check in a folder that somebody has played with: it says what differs and what to do."""

from functools import partial

import httpx
import pytest

from millirec.demo.check import CheckFailed, as_made
from millirec.demo.output import CUSTOMERS
from recsys.stores.model_registry.aliases import promote
from tests.environment.deployment import Deployment
from tests.environment.waiting import wait_until_sync


def knows(client: httpx.Client, customer: str) -> bool:
    return bool(client.get(f"/users/{customer}").json()["known"])


def test_a_folder_that_was_rolled_back_or_lost_a_customer_is_named_with_the_way_out(deployment: Deployment) -> None:
    deployment.serve()
    deployment.start("features", "consume", "features")
    with httpx.Client(base_url=deployment.url, timeout=10.0) as client:
        with pytest.raises(CheckFailed, match=r"first is live and not second.*versions promote second.*--fresh"):
            as_made(client)
        promote(deployment.registry, "second", actor="test", reason="as made")
        wait_until_sync(lambda: client.get("/versions").json()["serving"] == "second", 30.0)
        for customer in CUSTOMERS:
            with pytest.raises(CheckFailed, match=rf"customer {customer} has no history.*--fresh"):
                as_made(client)
            event = {"user_id": customer, "item_id": "i1", "type": "view", "event_id": customer}
            assert client.post("/events", json=event).status_code == 202
            wait_until_sync(partial(knows, client, customer), 60.0)
        as_made(client)
