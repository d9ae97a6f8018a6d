"""A journey: a shop's clock runs ahead; an operator sees what was refused and has it counted when its time has come."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from recsys.messages import wire
from recsys.messages.envelope import HEADERS
from recsys.messages.interaction import Interaction
from recsys.messages.validation import CLOCK_SKEW
from recsys.settings import LogSettings, StoreSettings, TopicSettings
from recsys.stores.dead_letters import open_dead_letters
from recsys.stores.dead_letters.protocol import LetterQuery, Status
from recsys.stores.topic import Outgoing, open_interaction_topic
from tests.environment.deployment import Deployment
from tests.environment.waiting import wait_until_sync

AHEAD = 8.0
"""Seconds beyond what readers allow for; long enough for the event to be refused, and short enough to wait for."""


def history(deployment: Deployment, user: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx.get(f"{deployment.url}/users/{user}").json()["interactions"]
    return found


def post(deployment: Deployment, **event: str) -> None:
    body = {"user_id": "ada", "type": "purchase", **event}
    assert httpx.post(f"{deployment.url}/events", json=body, timeout=30.0).status_code == 202


async def produced(deployment: Deployment, message: Interaction) -> None:
    environment = deployment.environment
    store = StoreSettings.model_validate(
        {"url": environment["MILLIREC_STORE__URL"], "prefix": environment["MILLIREC_STORE__PREFIX"]}
    )
    topic = TopicSettings(partitions=int(environment["MILLIREC_TOPIC__PARTITIONS"]))
    async with open_interaction_topic(topic, store).producer() as producer:
        outgoing = Outgoing(wire.key_of(message), wire.encode(message), HEADERS)
        assert await producer.send([outgoing]) == [None]


@pytest.mark.slow
def test_an_event_from_a_clock_ahead_is_replayed_when_its_time_has_come(deployment: Deployment) -> None:
    deployment.environment |= {"MILLIREC_INGEST__FUTURE_TOLERANCE": "0", "MILLIREC_INGEST__LOG_WAIT": "0.1"}
    letters = open_dead_letters(LogSettings(path=str(deployment.folder / "log")))
    deployment.start("consume", "consume")
    deployment.serve()
    due = datetime.now(UTC) + timedelta(seconds=AHEAD)
    at = due + timedelta(seconds=CLOCK_SKEW)
    ahead = Interaction(event_id="e1", user_id="ada", item_id="i1", type="purchase", occurred_at=at)
    # By the other door: HTTP would refuse it.
    asyncio.run(produced(deployment, ahead))
    wait_until_sync(lambda: letters.waiting() == 1, 60.0)
    listed = deployment.run("dead-letters", "list", "--json", "--field", "occurred_at", "--reason", "FUTURE")
    letter = json.loads(listed)["letter"]
    assert history(deployment, "ada") == []

    wait_until_sync(lambda: datetime.now(UTC) > due, 30.0)
    assert "1 would be sent, 0 of them" in deployment.run("dead-letters", "replay", "--all", "--dry-run")
    assert "1 replayed" in deployment.run("dead-letters", "replay", "--all")
    wait_until_sync(lambda: len(history(deployment, "ada")) == 1, 30.0)
    assert "1 replayed" in deployment.run("dead-letters", "replay", letter)
    post(deployment, event_id="e2", item_id="i3")
    wait_until_sync(lambda: len(history(deployment, "ada")) > 1, 30.0)
    assert sorted(entry["item_id"] for entry in history(deployment, "ada")) == ["i1", "i3"]
    (counted,) = letters.letters(LetterQuery(status=None))
    assert (counted.status, counted.times_seen) == (Status.REPLAYED, 1)
