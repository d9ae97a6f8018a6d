"""What can be written can be read: no sequence of accepted requests, and no damaged record, costs anybody more."""

import asyncio
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from recsys.messages.item import MAX_PROPERTIES, Item
from recsys.settings import LogSettings, StoreSettings
from recsys.stores.dead_letters import open_dead_letters
from recsys.stores.dead_letters.protocol import LetterQuery
from recsys.stores.event_log import open_interaction_log
from tests.environment.deployment import Deployment
from tests.environment.waiting import wait_until_sync

FULL = {"colour": "red", **{f"p{n}": float(n) for n in range(1, MAX_PROPERTIES)}}
"""As many as there may be, with the only one that the version knows."""
ASKED, TOGETHER = 240, 20
UNREADABLE = "stored record cannot be read"


def put(deployment: Deployment, *items: dict[str, Any]) -> httpx.Response:
    return httpx.put(f"{deployment.url}/items", json={"items": items}, timeout=10.0)


def item(deployment: Deployment, item_id: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{deployment.url}/items/{item_id}", timeout=10.0).json()
    return found


@pytest.fixture
def running(deployment: Deployment) -> Deployment:
    deployment.start("consume", "consume")
    deployment.serve()
    return deployment


def test_an_item_that_is_full_keeps_what_it_has_and_says_why_it_takes_no_more(running: Deployment) -> None:
    """Two updates that were both taken lost the item, showed it again though hidden, and poisoned the next version."""
    updates = [
        {"item_id": "i3", "available": False, "title": "Lamp", "properties": FULL},
        {"item_id": "i3", "price": 1.0, "properties": {"more": True}},
        {"item_id": "i3", "price": 2.0},
    ]
    assert put(running, *updates).status_code == 202
    log = LogSettings(path=str(running.folder / "log"))
    letters = open_dead_letters(log)
    wait_until_sync(lambda: letters.letters(LetterQuery()), 30.0)
    wait_until_sync(lambda: item(running, "i3")["properties"].get("price") == 2.0, 30.0)

    shown = item(running, "i3")
    assert shown["available"] is False
    assert shown["properties"] == {**FULL, "title": "Lamp", "price": 2.0}
    (letter,) = letters.letters(LetterQuery())
    assert (letter.key, letter.field) == ("i3", "properties")
    assert "65" in letter.reason
    (logged,) = open_interaction_log(log).items()
    assert (logged.available, logged.title, logged.price, logged.properties) == (False, "Lamp", 2.0, FULL)
    for user in range(10):
        answer = running.recommend(f"u{user}", k=40)
        assert "i3" not in [one["item_id"] for one in answer["items"]]

    refused = put(running, {"item_id": "i3", "properties": {"more": True}})
    assert (refused.status_code, "properties" in refused.text) == (422, True)


def test_a_damaged_record_costs_no_answer_and_one_line(deployment: Deployment, store_settings: StoreSettings) -> None:
    """Each request that met a record which could not be read was a 500 with a traceback, 240 of them a second."""
    with Redis.from_url(store_settings.url.get_secret_value()) as server:
        for n in range(20):
            server.set(f"{store_settings.prefix}item:i{n}", b'{"kind":"item","item_')
            server.zadd(f"{store_settings.prefix}items:changed", {f"i{n}": 1_000_000 + n})
            server.hset(f"{store_settings.prefix}user:u{n}", mapping={"r": "3", "h": b"\xc1"})
    deployment.serve()
    wait_until_sync(lambda: item(deployment, "i19")["available"] is False, 30.0)

    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=deployment.url, timeout=30.0) as client:
            asked = [{"user_id": f"u{n % 20}", "k": "20", "properties": "title"} for n in range(ASKED)]
            return [
                answer
                for start in range(0, ASKED, TOGETHER)
                for answer in await asyncio.gather(
                    *(client.get("/recommend", params=query) for query in asked[start : start + TOGETHER])
                )
            ]

    answers = asyncio.run(ask())
    assert {answer.status_code for answer in answers} == {200}
    shown = {one["item_id"] for answer in answers for one in answer.json()["items"]}
    assert shown
    assert shown.isdisjoint({f"i{n}" for n in range(20)})
    lines = [line for line in deployment.output("serve").splitlines() if UNREADABLE in line]
    assert {kind for line in lines for kind in re.findall(r'"kind": "([^"]+)"', line)} == {
        "catalogue entry",
        "user record",
    }
    assert len(lines) == 2
    metrics = httpx.get(f"{deployment.url}/metrics", timeout=10.0).text
    counted = re.findall(r'millirec_unreadable_records_total\{kind="(.+)"\} (\S+)', metrics)
    assert {kind: float(count) > 0 for kind, count in counted}["user record"]


@pytest.mark.slow
def test_a_rebuild_mends_damaged_entries(running: Deployment, store_settings: StoreSettings) -> None:
    assert put(running, {"item_id": "i3", "available": False}, {"item_id": "i4", "title": "Kettle"}).status_code == 202
    log = open_interaction_log(LogSettings(path=str(running.folder / "log")))
    wait_until_sync(lambda: len(log.items()) == 2, 30.0)
    wait_until_sync(lambda: item(running, "i4")["properties"].get("title") == "Kettle", 30.0)
    with Redis.from_url(store_settings.url.get_secret_value()) as server:
        for name in ("i3", "i4"):
            server.set(f"{store_settings.prefix}item:{name}", b"{")
        running.run("rebuild-features")
        stored = [server.get(f"{store_settings.prefix}item:{name}") for name in ("i3", "i4")]
    assert b'"available":false' in (stored[0] or b"")
    assert b'"title":"Kettle"' in (stored[1] or b"")


@pytest.mark.parametrize("shown_first", [True, False])
def test_of_two_updates_of_one_moment_the_one_that_hides_has_the_say_in_the_log(
    tmp_path: Path, shown_first: bool
) -> None:
    """The log goes by content, where `false` stands before `true`: training showed what was hidden last."""
    log, moment = open_interaction_log(LogSettings(path=str(tmp_path / "log"))), datetime(2026, 11, 1, tzinfo=UTC)
    updates = [
        Item(item_id="i3", updated_at=moment, available=available) for available in (shown_first, not shown_first)
    ]
    for update in updates:
        assert log.append_items([update]) == {}
    assert [one.available for one in log.items()] == [False]
