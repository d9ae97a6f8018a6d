"""What the door accepts, the flow accepts: a 202 is no dead letter later for what the door could see."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from app.main import create_app
from app.settings import AppSettings, ServeSettings
from ingest.settings import IngestSettings
from ingest.stream.flow import Batch, decode_batch
from millirec.settings import load_settings
from recsys.messages.validation import CLOCK_SKEW, TimeSpan, span_at_door, span_on_topic
from recsys.settings import LogSettings, RegistrySettings, StoreSettings, TopicSettings
from recsys.stores.dead_letters import open_dead_letters
from recsys.stores.dead_letters.protocol import LetterQuery
from recsys.stores.event_log import open_interaction_log
from recsys.stores.topic import Delivered, TopicConsumer, open_interaction_topic
from tests.app.conftest import JSON, client_of
from tests.attacks.conftest import KEYS
from tests.environment.deployment import Deployment
from tests.environment.waiting import wait_until_sync

CLOCK_BEHIND = timedelta(seconds=CLOCK_SKEW / 2)
"""How far the consumer's clock is behind the door's."""
NOW = datetime.now(UTC)

ODD_IDS = st.one_of(
    st.text(min_size=0, max_size=8),
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=140),
    st.sampled_from(
        ["a\n", "a\r", "a\u2028", "é" * 128, "😀" * 128, "😀" * 129, "x" * 128, "x" * 129, " ", "\u200b", "../x"]
    ),
)
IDS = st.one_of(st.sampled_from(["ada", "bob"]), ODD_IDS)
TYPES = st.one_of(st.sampled_from(["view", "impression"]), st.sampled_from(["view\n", "View", "a" * 32, "a" * 33, ""]))
TIMES = st.one_of(
    st.datetimes(timezones=st.just(UTC)),
    st.integers(-400, 400).map(lambda seconds: NOW + timedelta(seconds=seconds)),
    st.sampled_from([datetime(1999, 12, 31, 23, 59, 59, 999_999, UTC), datetime(2000, 1, 1, tzinfo=UTC)]),
).map(datetime.isoformat) | st.sampled_from(
    ["2000-01-01T00:00:00+14:00", "0001-01-01T00:00:00+14:00", "2026-06-01T10:15:00"]
)
NUMBERS = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.integers(-1, 10**30),
    st.sampled_from([0, 5e-324, 1e9, 1e12, -0.0, 1.7976931348623157e308]),
)
VALUES = st.one_of(st.text(max_size=20), NUMBERS, st.booleans(), st.lists(st.text(max_size=5), max_size=3), st.none())
LONG = st.integers(0, 70_000).map(lambda length: "é" * length)
EVENTS = st.fixed_dictionaries(
    {"user_id": IDS, "item_id": IDS, "type": TYPES},
    optional={
        "event_id": IDS,
        "occurred_at": TIMES,
        "quantity": NUMBERS,
        "price": NUMBERS,
        "session_id": IDS,
        "recommendation_id": IDS,
        "extra": st.dictionaries(st.text(max_size=3), VALUES, max_size=2),
    },
)
ITEMS = st.fixed_dictionaries(
    {"item_id": IDS},
    optional={
        "updated_at": TIMES,
        "title": st.one_of(st.text(max_size=20), LONG),
        "price": NUMBERS,
        "categories": st.lists(st.one_of(st.text(max_size=5), LONG), max_size=70),
        "available": st.booleans(),
        "properties": st.dictionaries(st.text(max_size=70), st.one_of(VALUES, LONG), max_size=70),
    },
)
GENEROUS = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@dataclass
class Door:
    """The service in process on a real topic, and a reader at its other end."""

    runner: asyncio.Runner
    client: httpx.AsyncClient
    consumer: TopicConsumer

    def passes(self, method: str, path: str, body: object = None) -> Batch:
        """Return the flow's outcome of every message of this request that the door accepts."""
        return self.runner.run(self._passes(method, path, body))

    async def _passes(self, method: str, path: str, body: object) -> Batch:
        content = None if body is None else json.dumps(body).encode()
        response = await self.client.request(method, path, content=content, headers=JSON)
        assert response.status_code in {202, 404, 422}, response.text
        accepted = response.json()["accepted"] if response.status_code == 202 else 0
        delivered: list[Delivered] = []
        while len(delivered) < accepted:
            delivered += await self.consumer.poll(1000, 5.0)
        await self.consumer.commit({record.partition: record.offset for record in delivered})
        return decode_batch(delivered, datetime.now(UTC) - CLOCK_BEHIND, IngestSettings())


@pytest.fixture
def door(store_settings: StoreSettings, tmp_path: Path) -> Iterator[Door]:
    app_settings = AppSettings(
        serve=ServeSettings(max_body_bytes=64 * 1024 * 1024),
        topic=TopicSettings(partitions=1),
        store=store_settings,
        registry=RegistrySettings(url=str(tmp_path / "registry"), cache=tmp_path / "cache"),
    )
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()

        async def opened() -> Door:
            client = await stack.enter_async_context(client_of(create_app(app_settings)))
            topic = open_interaction_topic(app_settings.topic, store_settings)
            return Door(runner, client, await stack.enter_async_context(topic.consumer("reader")))

        yield runner.run(opened())
        runner.run(stack.aclose())


@GENEROUS
@given(st.lists(EVENTS, min_size=1, max_size=20))
@example([{"user_id": "ada", "item_id": "x", "type": "view", "occurred_at": "1999-12-31T23:59:59Z"}])
@example([{"user_id": "ada\n", "item_id": "x", "type": "view"}, {"user_id": "ada", "item_id": "x", "type": "view\n"}])
def test_no_event_that_was_accepted_is_refused_by_the_flow(door: Door, events: list[dict[str, Any]]) -> None:
    assert door.passes("POST", "/events", {"events": events}).rejected == []
    assert door.passes("POST", "/events", events[0]).rejected == []


@GENEROUS
@given(st.lists(ITEMS, min_size=1, max_size=5))
@example([{"item_id": "x", "updated_at": "1999-12-31T23:59:59Z"}])
@example([{"item_id": "x", "properties": {f"p{n}": "é" * 2000 for n in range(64)}}])
def test_no_item_that_was_accepted_is_refused_by_the_flow(door: Door, items: list[dict[str, Any]]) -> None:
    assert door.passes("PUT", "/items", {"items": items}).rejected == []


@GENEROUS
@given(IDS.filter(bool), IDS)
def test_no_erasure_and_no_merge_that_was_accepted_is_refused_by_the_flow(door: Door, user: str, source: str) -> None:
    path = quote(user, safe="", errors="surrogatepass")
    assert door.passes("DELETE", f"/users/{path}").rejected == []
    assert door.passes("POST", f"/users/{path}/merge", {"from": source}).rejected == []


@pytest.mark.slow
def test_a_time_that_no_event_can_have_is_named_at_the_door_and_no_dead_letter_comes_of_it(
    fortress: Deployment,
) -> None:
    fortress.environment["MILLIREC_INGEST__LOG_WAIT"] = "0.1"
    fortress.start("consume", "consume")
    fortress.serve()
    headers = {"X-API-Key": KEYS["events"]}
    view = {"user_id": "ada", "item_id": "i1", "type": "view"}
    old = {**view, "occurred_at": "1999-12-31T23:59:59Z"}
    with httpx.Client(base_url=fortress.url, headers=headers, timeout=30.0) as client:
        refused = client.post("/events", json=old)
        assert refused.status_code == 422
        assert [one["field"] for one in refused.json()["errors"]] == ["occurred_at"]
        assert "before 2000-01-01" in refused.json()["detail"]
        ahead = (datetime.now(UTC) + timedelta(minutes=6)).isoformat()
        mixed = [view, old, {**view, "occurred_at": ahead}, {**view, "occurred_at": "2000-01-01T00:00:00Z"}]
        receipts = client.post("/events", json={"events": mixed}).json()["receipts"]
        assert [one["status"] for one in receipts] == ["accepted", "rejected", "rejected", "accepted"]
        assert [receipts[n]["field"] for n in (1, 2)] == ["events.1.occurred_at", "events.2.occurred_at"]
        ancient = {"item_id": "i1", "updated_at": "1999-12-31T23:59:59Z", "title": "Lamp"}
        item = client.put("/items", json=ancient, headers={"X-API-Key": KEYS["catalogue"]})
        assert [one["field"] for one in item.json()["errors"]] == ["updated_at"]
    log = LogSettings(path=str(fortress.folder / "log"))
    wait_until_sync(lambda: open_interaction_log(log).events().collect().height == 2, 30.0)
    assert open_dead_letters(log).letters(LetterQuery(status=None)) == []


def test_the_door_goes_by_the_bounds_of_ingest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLIREC_INGEST__EARLIEST", "2020-01-01T00:00:00Z")
    monkeypatch.setenv("MILLIREC_INGEST__FUTURE_TOLERANCE", "7")
    bounds = load_settings().app().bounds
    assert span_at_door(bounds, NOW) == TimeSpan(datetime(2020, 1, 1, tzinfo=UTC), NOW + timedelta(seconds=7))
    assert span_on_topic(bounds, NOW).latest - span_at_door(bounds, NOW).latest == timedelta(seconds=CLOCK_SKEW)
