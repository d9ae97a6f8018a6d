"""A journey: a shop's clock runs ahead; an operator sees what was refused and has it counted when its time has come."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from tests.deployment import Deployment
from tests.waiting import wait_until_sync

AHEAD = 8.0
"""Seconds; long enough for the event to be refused, and short enough to wait for."""


def letters(deployment: Deployment, *arguments: str) -> list[dict[str, Any]]:
    listed = deployment.run("dead-letters", "list", "--json", *arguments)
    return [json.loads(line) for line in listed.splitlines()]


def history(deployment: Deployment, user: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx.get(f"{deployment.url}/users/{user}").json()["interactions"]
    return found


def test_an_event_from_a_clock_ahead_is_replayed_when_its_time_has_come(any_topic: Deployment) -> None:
    any_topic.environment["MILLIREC_INGEST__FUTURE_TOLERANCE"] = "0"
    any_topic.environment["MILLIREC_INGEST__LOG_WAIT"] = "0.1"
    any_topic.serve()
    any_topic.start("consume", "consume")
    at = datetime.now(UTC) + timedelta(seconds=AHEAD)
    event = {"event_id": "e1", "user_id": "ada", "item_id": "i1", "type": "purchase", "occurred_at": at.isoformat()}
    assert httpx.post(f"{any_topic.url}/events", json=event, timeout=30.0).status_code == 202
    wait_until_sync((any_topic.folder / "log" / "dead_letters").exists, 60.0)
    wait_until_sync(lambda: len(letters(any_topic, "--field", "occurred_at", "--reason", "FUTURE")) == 1, 60.0)
    (letter,) = letters(any_topic, "--since", "1h", "--limit", "5")
    assert '"event_id":"e1"' in any_topic.run("dead-letters", "show", letter["letter"][:8]).replace("\n", "")
    assert "1 wait" in any_topic.run("doctor")
    assert history(any_topic, "ada") == []

    wait_until_sync(lambda: datetime.now(UTC) > at, 30.0)
    assert "1 would be sent, 0 of them" in any_topic.run("dead-letters", "replay", "--all", "--dry-run")
    assert "1 replayed" in any_topic.run("dead-letters", "replay", "--all")
    wait_until_sync(lambda: len(history(any_topic, "ada")) == 1, 30.0)
    assert "1 replayed" in any_topic.run("dead-letters", "replay", letter["letter"])
    behind = {"event_id": "e2", "user_id": "ada", "item_id": "i3", "type": "purchase"}
    assert httpx.post(f"{any_topic.url}/events", json=behind, timeout=30.0).status_code == 202
    wait_until_sync(lambda: len(history(any_topic, "ada")) > 1, 30.0)
    assert sorted(entry["item_id"] for entry in history(any_topic, "ada")) == ["i1", "i3"]
    assert letters(any_topic) == []
    (counted,) = letters(any_topic, "--status", "all")
    assert (counted["status"], counted["times_seen"]) == ("replayed", 1)
