"""An event that is sent again counts once, whatever its time says: everywhere, and for whoever reads the files."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest
from deltalake import DeltaTable, QueryBuilder
from hypothesis import given
from hypothesis import strategies as st

from app.main import create_app
from app.settings import AppSettings
from ingest.batch.file_import import import_files
from ingest.batch.mapping import read_mapping
from ingest.maintenance.rebuild import rebuild_features, rebuild_trends
from ingest.settings import IngestSettings
from recsys.messages.interaction import Interaction, event_key
from recsys.messages.item import Item
from recsys.recommender.trends import hour_of
from recsys.settings import LogSettings, RegistrySettings, StoreSettings, TopicSettings
from recsys.stores.event_log import InteractionLog, interaction_rows, open_interaction_log
from recsys.stores.event_log.memory import MemoryInteractionLog
from recsys.stores.online import memory_stores, open_stores
from recsys.users import PositionedMessage
from tests.app.conftest import client_of
from tests.environment.waiting import WaitUntil
from tests.ingest.maintenance.test_rebuild_equality import records_in
from tests.ingest.running import Ingest
from tests.ingest.stream.test_user_merge import append_to, batch_of, group_on
from training.recommender import dataset
from training.settings import TrainSettings

EVENTS_PAGE = Path(__file__).parents[2] / "docs/events.md"
NOW = datetime.now(UTC).replace(microsecond=0)
MIDNIGHT = NOW.replace(hour=0, minute=0, second=0)
VIEW: dict[str, Any] = {"user_id": "ada", "item_id": "lamp", "type": "view"}


def viewed(number: int, at: datetime, user: str = "ada") -> Interaction:
    return Interaction(event_id=f"e{number}", user_id=user, item_id=f"i{number}", type="view", occurred_at=at)


def event_ids(log: InteractionLog) -> list[str]:
    found: list[str] = log.read().collect().get_column("event_id").to_list()
    return sorted(found)


@pytest.fixture
def ingest(store_settings: StoreSettings, tmp_path: Path) -> Ingest:
    return Ingest(
        topic=TopicSettings(partitions=2, lease=1.0),
        store=store_settings,
        log=LogSettings(path=str(tmp_path / "log")),
        registry=RegistrySettings(url=str(tmp_path / "registry"), cache=tmp_path / "cache"),
        ingest=IngestSettings(log_wait=0.1, refresh=0.5, rejected=tmp_path / "rejected"),
    )


@pytest.fixture
async def client(ingest: Ingest) -> AsyncIterator[httpx.AsyncClient]:
    app_settings = AppSettings(topic=ingest.topic, store=ingest.store, registry=ingest.registry)
    async with client_of(create_app(app_settings)) as opened:
        yield opened


async def post(client: httpx.AsyncClient, *events: dict[str, Any], **headers: str) -> list[str]:
    """The ids in the receipts."""
    response = await client.post("/events", json={"events": events}, headers=headers)
    assert response.status_code == 202, response.text
    return [one["id"] for one in response.json()["receipts"]]


# Whatever the time says


async def test_an_event_sent_again_after_midnight_counts_once_everywhere(
    client: httpx.AsyncClient, ingest: Ingest, wait_until: WaitUntil
) -> None:
    log, stores = open_interaction_log(ingest.log), open_stores(ingest.store)
    rebuilt = memory_stores()
    tries = [MIDNIGHT - timedelta(seconds=1), MIDNIGHT, MIDNIGHT - timedelta(days=40)]
    async with ingest.consuming():
        for at in tries:
            await post(client, {**VIEW, "event_id": "order-1", "occurred_at": at.isoformat()})
        await post(client, {**VIEW, "event_id": "last", "user_id": "bob", "item_id": "desk"})

        async def arrived() -> bool:
            known = (await stores.users.load(["bob"]))[0].history
            return bool(known) and log.events().collect().height == 4

        await wait_until(arrived, 30)
    assert event_ids(log) == ["last", "order-1"]
    learned = dataset.load(log, None, TrainSettings(min_interactions=2)).interactions
    assert learned.get_column("event_id").sort().to_list() == ["last", "order-1"]
    now_ms = NOW.timestamp() * 1000
    last = hour_of(now_ms) + 1
    hours = range(last - 48, last + 1)
    (ada,) = await stores.users.load(["ada"])
    assert [entry.event for entry in ada.history] == [event_key("order-1")]
    counted = sum(weights.get("lamp", 0) for weights in (await stores.trends.read(hours)).values())
    await rebuild_features(log, rebuilt.users, rebuilt.items, 100)
    assert await records_in(rebuilt, ["ada"]) == await records_in(stores, ["ada"])
    await rebuild_trends(log, rebuilt.trends, now_ms)
    again = sum(weights.get("lamp", 0) for weights in (await rebuilt.trends.read(hours)).values())
    assert counted == again > 0
    await stores.aclose()


@st.composite
def tellings(draw: st.DrawFn) -> list[list[PositionedMessage]]:
    """Events of two users, each told once or more, by any times, in batches."""
    places = draw(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2000)), min_size=1, max_size=20, unique=True))
    records = [
        PositionedMessage("p-0", offset, viewed(number, NOW - timedelta(hours=hours), "ada" if number % 2 else "bob"))
        for offset, (number, hours) in enumerate(places)
    ]
    size = draw(st.integers(1, len(records)))
    return [records[first : first + size] for first in range(0, len(records), size)]


@given(tellings())
def test_records_made_of_the_log_are_those_of_the_stream_whatever_times_repeats_carry(
    batches: list[list[PositionedMessage]],
) -> None:
    async def same() -> None:
        live, log = memory_stores(), MemoryInteractionLog()
        append_to(log, batches)
        for batch in batches:
            await group_on(live).apply(batch_of(batch))
        for _ in range(2):
            made = memory_stores()
            await rebuild_features(log, made.users, made.items, 100)
            assert await records_in(made, ["ada", "bob"]) == await records_in(live, ["ada", "bob"])
            log.purge(log.purge_plan())

    asyncio.run(same())


@pytest.mark.parametrize("backend", ["memory", "delta"])
def test_an_import_knows_what_the_stream_brought_on_another_day(backend: Any, tmp_path: Path) -> None:
    log = open_interaction_log(LogSettings(backend=backend, path=str(tmp_path / "log")))
    log.append(interaction_rows([PositionedMessage("interactions-0", 7, viewed(1, NOW))]), {"interactions-0": 7})
    file = tmp_path / "events.jsonl"
    rows = [
        {"event_id": f"e{n}", "user_id": "ada", "item_id": "x", "type": "view", "occurred_at": at.isoformat()}
        for n, at in ((1, NOW - timedelta(days=3)), (2, NOW), (2, NOW - timedelta(days=9)))
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (report,) = import_files([file], None, log, IngestSettings(rejected=tmp_path / "rejected")).files
    assert (report.counts.accepted, report.counts.known, report.counts.repeats) == (1, 1, 1)
    assert event_ids(log) == ["e1", "e2"]


# Whoever reads the files


def query_of_the_page() -> str:
    queries: list[str] = re.findall(r"```sql\n(.+?)```", EVENTS_PAGE.read_text("utf-8"), re.DOTALL)
    return queries[0]


def read_directly(path: Path, query: str) -> list[tuple[str, str]]:
    table = DeltaTable(str(path / "interactions"))
    rows = pl.DataFrame(QueryBuilder().register("interactions", table).execute(query).read_all())
    return sorted(rows.select("user_id", "event_id").rows())


def test_the_query_of_the_page_reads_each_event_once_and_after_tidying_any_query_does(tmp_path: Path) -> None:
    log = open_interaction_log(LogSettings(path=str(tmp_path)))
    users = ["ada", "bob"]
    told = [viewed(n % 4, NOW - timedelta(days=3 * n % 7, minutes=n), users[n % 2]) for n in range(12)]
    for offset, event in enumerate([*told, viewed(9, NOW, "ada"), viewed(9, NOW, "bob")]):
        log.append(interaction_rows([PositionedMessage("p-0", offset, event)]), {"p-0": offset})
    once = sorted(log.read().select("user_id", "event_id").collect().rows())
    assert len(once) == 6
    assert read_directly(tmp_path, query_of_the_page()) == once
    assert len(read_directly(tmp_path, "SELECT * FROM interactions")) == 14
    log.purge(log.purge_plan())
    assert read_directly(tmp_path, "SELECT * FROM interactions") == once


# Events without an id


async def test_an_event_that_says_when_it_occurred_has_the_same_id_each_time(client: httpx.AsyncClient) -> None:
    timed = {**VIEW, "occurred_at": NOW.isoformat()}
    elsewhere = {**VIEW, "occurred_at": NOW.astimezone(tz=None).isoformat(), "quantity": 1}
    first = await post(client, timed)
    assert await post(client, timed) == await post(client, elsewhere) == first
    assert await post(client, {**timed, "quantity": 2}) != first


async def test_a_file_has_no_event_over_again_that_was_posted_without_an_id(
    client: httpx.AsyncClient, ingest: Ingest, wait_until: WaitUntil, tmp_path: Path
) -> None:
    log = open_interaction_log(ingest.log)
    events = [
        {**VIEW, "occurred_at": NOW.isoformat()},
        {**VIEW, "occurred_at": NOW.isoformat(), "price": 2.55, "quantity": 3, "session_id": "s"},
    ]
    async with ingest.consuming("log"):
        await post(client, *events)
        await wait_until(lambda: log.events().collect().height == 2, 30)
    file, mapping = tmp_path / "events.jsonl", tmp_path / "mapping.yaml"
    file.write_text("".join(json.dumps(one) + "\n" for one in events), "utf-8")
    columns = ("user_id", "item_id", "type", "occurred_at", "quantity", "price", "session_id")
    mapping.write_text("interaction:\n" + "".join(f"  {name}: {{column: {name}}}\n" for name in columns), "utf-8")
    (report,) = import_files([file], read_mapping(mapping), log, ingest.ingest).files
    assert (report.counts.accepted, report.counts.known) == (0, 2)


async def test_a_request_with_a_key_is_the_same_events_each_time(client: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": '"8e03978e-40d5-43dd-bc93-6894a57f9324"'}
    first = await post(client, VIEW, VIEW, **key)
    assert len(set(first)) == 2, "two views in one request are two"
    assert await post(client, VIEW, VIEW, **key) == first
    assert await post(client, VIEW, VIEW, **{"Idempotency-Key": "another"}) != first
    other = await post(client, {**VIEW, "item_id": "desk"}, **key)
    assert not set(other) & set(first), "the same key with other events hides none of them"
    assert await post(client, {**VIEW, "event_id": "mine"}, **key) == ["mine"]


@pytest.mark.parametrize("key", ["", " ", "k" * 256, "é", "tab\there"])
async def test_a_key_that_is_none_is_named(client: httpx.AsyncClient, key: str) -> None:
    headers = {b"Idempotency-Key": key.encode()}
    response = await client.post("/events", json=VIEW, headers=headers)
    assert response.status_code == 422
    assert [one["field"] for one in response.json()["errors"]] == ["Idempotency-Key"]
    twice = await client.post("/events", json=VIEW, headers=[("Idempotency-Key", "a"), ("Idempotency-Key", "b")])
    assert twice.status_code == 422


async def test_without_an_id_a_time_and_a_key_two_requests_are_two_events_and_receipts_have_the_ids(
    client: httpx.AsyncClient,
) -> None:
    first, second = await post(client, VIEW), await post(client, VIEW)
    assert first != second
    assert await post(client, {**VIEW, "event_id": first[0]}) == first


async def test_a_503_has_receipts_too(ingest: Ingest) -> None:
    down = AppSettings(store=StoreSettings(url="redis://127.0.0.1:1/0"), registry=ingest.registry)
    async with client_of(create_app(down)) as client:
        response = await client.post("/events", json={"events": [VIEW, {**VIEW, "event_id": "mine", "quantity": -1}]})
    assert response.status_code == 503
    assert [one["status"] for one in response.json()["receipts"]] == ["unavailable", "rejected"]
    assert response.json()["receipts"][0]["id"]


# Items


async def test_an_item_sent_again_with_its_time_does_not_undo_what_came_in_between(
    client: httpx.AsyncClient, ingest: Ingest, wait_until: WaitUntil
) -> None:
    stores = open_stores(ingest.store)
    hidden = {"item_id": "lamp", "available": False, "updated_at": (NOW - timedelta(seconds=2)).isoformat()}
    shown = {"item_id": "lamp", "available": True, "updated_at": (NOW - timedelta(seconds=1)).isoformat()}
    async with ingest.consuming("log"):
        for body in (hidden, shown, hidden, {"item_id": "last", "title": "Last"}):
            assert (await client.put("/items", json=body)).status_code == 202
        log = open_interaction_log(ingest.log)
        await wait_until(lambda: "last" in [one.item_id for one in log.items()], 30)
    (lamp,) = [one for one in log.items() if one.item_id == "lamp"]
    assert lamp == Item(item_id="lamp", updated_at=NOW - timedelta(seconds=1), available=True)
    await stores.aclose()
