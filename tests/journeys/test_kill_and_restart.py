"""Journey (d): consumers killed in the middle of a batch, seen from outside, on Streams and on Kafka."""

import random
from typing import Any

import httpx
import polars as pl
import pytest

from recsys.settings import LogSettings
from recsys.stores.event_log import open_interaction_log
from tests.environment.deployment import Deployment
from tests.environment.waiting import wait_until_sync

EVENTS = 3000
USERS = 60
KILLS = 3


def post(deployment: Deployment, batch: list[dict[str, Any]]) -> None:
    response = httpx.post(f"{deployment.url}/events", json={"events": batch}, timeout=30.0)
    assert response.status_code == 202, response.text
    assert response.json()["accepted"] == len(batch)


@pytest.mark.timeout(240)
def test_every_event_counts_once_through_kill_9(topic_that_evicts: Deployment) -> None:
    topic_that_evicts.serve()
    chance = random.Random(20111209)
    expected: dict[str, set[tuple[str, int]]] = {}
    events = []
    for number in range(EVENTS):
        user, item = f"k{number % USERS}", f"i{chance.randrange(40)}"
        second = f"2011-12-01T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}Z"
        event = {"event_id": f"e{number}", "user_id": user, "item_id": item, "type": "view", "occurred_at": second}
        events.append(event)
        expected.setdefault(user, set()).add((item, number))
    batches = [events[start : start + 100] for start in range(0, EVENTS, 100)]
    for place, batch in enumerate(batches):
        if place % (len(batches) // KILLS) == 0:
            for group in ("features", "log"):
                if group in topic_that_evicts.processes:
                    topic_that_evicts.kill(group)
                topic_that_evicts.start(group, "consume", group)
        post(topic_that_evicts, batch)
        if place % 7 == 0:
            post(topic_that_evicts, batch)  # a producer that did not see the answer

    def all_known() -> bool:
        return all(len(interactions(topic_that_evicts, user)) == EVENTS // USERS for user in expected)

    wait_until_sync(all_known, 120.0)
    for user, wanted in expected.items():
        assert {one["item_id"] for one in interactions(topic_that_evicts, user)} == {item for item, _ in wanted}
    log = open_interaction_log(LogSettings(path=str(topic_that_evicts.folder / "log")))

    def logged() -> int:
        count: int = log.read().select(pl.len()).collect().item()
        return count

    wait_until_sync(lambda: logged() >= EVENTS, 60.0)
    ids = log.read().select("event_id").collect()["event_id"].to_list()
    assert sorted(ids) == sorted(event["event_id"] for event in events), "each event once, none missing"


def interactions(deployment: Deployment, user: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx.get(f"{deployment.url}/users/{user}", timeout=10.0).json()["interactions"]
    return found
