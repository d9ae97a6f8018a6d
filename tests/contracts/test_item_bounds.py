"""What was accepted of an item leaves an item that can be read, the same in store, log and artefact."""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from secrets import token_hex
from typing import Any

import faiss
import msgspec
import numpy as np
import polars as pl
import pytest
from deltalake import write_deltalake
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from recsys.errors import InvalidInput
from recsys.index.artefact import IndexContents, without_unreadable, write_artefact
from recsys.messages.item import MAX_PROPERTIES, Item, merged, readable
from recsys.settings import StoreSettings
from recsys.stores.event_log import InteractionLog
from recsys.stores.event_log.delta import DeltaInteractionLog
from recsys.stores.event_log.memory import MemoryInteractionLog
from recsys.stores.online import Stores, open_stores

NOW = datetime(2026, 3, 1, tzinfo=UTC)
FULL = {f"p{n}": float(n) for n in range(MAX_PROPERTIES)}

values = st.floats(0, 1e9) | st.booleans() | st.text(max_size=9) | st.lists(st.text(max_size=5), max_size=3)
names = st.integers(0, 90).map("p{}".format)
fields = st.fixed_dictionaries(
    {},
    optional={
        "title": st.text(max_size=9),
        "price": st.floats(0, 1e9),
        "available": st.booleans(),
        "categories": st.lists(st.text(max_size=5), max_size=3),
        "properties": st.dictionaries(names, values, max_size=40),
    },
)
sequences = st.lists(st.tuples(st.sampled_from(["a", "b"]), fields), min_size=1, max_size=10)


def update(minutes: int, item_id: str = "a", **given: Any) -> Item:
    return Item(item_id=item_id, updated_at=NOW + timedelta(minutes=minutes), **given)


def fold(updates: Sequence[Item]) -> tuple[dict[str, Item], set[int]]:
    """Return the items after the updates, and the positions of the updates that have no room."""
    items, refused = dict[str, Item](), set[int]()
    for place, change in enumerate(updates):
        try:
            items[change.item_id] = merged(items.get(change.item_id), change)
        except InvalidInput:
            refused.add(place)
    return items, refused


@pytest.fixture(params=["memory", "redis"])
def any_store(request: pytest.FixtureRequest) -> StoreSettings:
    redis = request.param == "redis"
    chosen: StoreSettings = request.getfixturevalue("store_settings") if redis else StoreSettings(backend="memory")
    return chosen


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequence=sequences, cut=st.integers(0, 10))
def test_a_store_has_the_fold_of_the_updates_it_accepted(
    any_store: StoreSettings, sequence: list[tuple[str, dict[str, Any]]], cut: int
) -> None:
    updates = [update(n, item_id, **given) for n, (item_id, given) in enumerate(sequence)]
    items, refused = fold(updates)

    async def put() -> None:
        stores = open_stores(any_store.model_copy(update={"prefix": f"test-{token_hex(6)}:"}))
        first = await stores.items.put(updates[:cut])
        rest = await stores.items.put(updates[cut:])
        assert {*first, *(cut + place for place in rest)} == refused
        assert {error.field for error in (*first.values(), *rest.values())} <= {"properties"}
        stored = await stores.items.get(sorted(items))
        await stores.aclose()
        assert stored == [items[item_id] for item_id in sorted(items)]

    asyncio.run(put())


@pytest.fixture(params=["memory", "delta"])
def logs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[InteractionLog]:
    """Logs without end, each of them new."""
    if request.param == "memory":
        return (MemoryInteractionLog() for _ in iter(int, 1))
    return (DeltaInteractionLog(str(tmp_path / token_hex(6))) for _ in iter(int, 1))


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequence=sequences, cut=st.integers(0, 10))
def test_a_log_refuses_what_the_store_refuses_and_has_the_same_items(
    logs: Iterator[InteractionLog], sequence: list[tuple[str, dict[str, Any]]], cut: int
) -> None:
    updates = [update(n, item_id, **given) for n, (item_id, given) in enumerate(sequence)]
    items, refused = fold(updates)
    log = next(logs)
    first, rest = log.append_items(updates[:cut]), log.append_items(updates[cut:])
    assert {*first, *(cut + place for place in rest)} == refused
    assert log.items() == [items[item_id] for item_id in sorted(items)]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(fields, min_size=1, max_size=8), order=st.randoms(use_true_random=False))
def test_in_whatever_order_updates_arrive_every_item_can_be_read(
    logs: Iterator[InteractionLog], changes: list[dict[str, Any]], order: Any
) -> None:
    updates = [update(n, **given) for n, given in enumerate(changes)]
    order.shuffle(updates)
    log = next(logs)
    refused = log.append_items(updates)
    accepted = sorted((one for n, one in enumerate(updates) if n not in refused), key=lambda one: one.updated_at)
    assert all(map(readable, log.items()))
    assert log.items() == list(fold(accepted)[0].values())
    assert log.append_items(updates).keys() == refused.keys()
    assert log.items() == list(fold(accepted)[0].values())


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequence=sequences)
def test_an_artefact_gives_back_every_item_it_was_made_of(
    tmp_path: Path, sequence: list[tuple[str, dict[str, Any]]]
) -> None:
    items = list(fold([update(n, one, **given) for n, (one, given) in enumerate(sequence)])[0].values())
    assert without_unreadable(items) == (items, [])
    factors = np.ones((len(items), 2), np.float32)
    search_index = faiss.IndexFlatIP(2)
    search_index.add(factors)
    contents = IndexContents(
        item_ids=[one.item_id for one in items],
        item_factors=factors,
        popularity=np.ones(len(items), np.float32),
        user_ids=[],
        user_factors=np.empty((0, 2), np.float32),
        items=items,
    )
    files = write_artefact(tmp_path / token_hex(6), contents, search_index)
    blob, offsets = np.load(files["items.blob.npy"]), np.load(files["items.offsets.npy"])
    raws = [blob[start:end].tobytes() for start, end in pairwise(offsets)]
    assert [msgspec.json.decode(raw, type=Item) for raw in raws] == items


async def test_an_update_without_room_is_refused_whole_and_the_rest_is_kept(stores: Stores) -> None:
    await stores.items.put([update(0, available=False, title="Lamp", properties=FULL)])
    refused = await stores.items.put([update(1, price=1.0, properties={"more": True}), update(2, price=2.0)])
    assert refused.keys() == {0}
    assert "65" in refused[0].reason
    assert await stores.items.get(["a"]) == [update(2, available=False, title="Lamp", price=2.0, properties=FULL)]


async def test_a_damaged_entry_is_hidden_until_somebody_says_otherwise(
    redis_stores: Stores, server: "Redis", store_settings: StoreSettings
) -> None:
    await redis_stores.items.put([update(0, available=False, title="Lamp"), update(0, "b")])
    await server.set(f"{store_settings.prefix}item:a", b'{"kind":"item","item_')
    assert await redis_stores.items.put([update(1, price=2.0)]) == {}
    for _ in range(2):
        (found,) = await redis_stores.items.get(["a"])
        assert found is not None
        assert (found.available, found.price) == (False, None)
    assert {one.item_id: one.available for one in (await redis_stores.items.changes(0)).items} == {
        "a": False,
        "b": None,
    }
    await redis_stores.items.put([update(2, price=3.0), update(3, available=True, title="New"), update(4, price=4.0)])
    assert await redis_stores.items.get(["a"]) == [update(4, available=True, title="New", price=4.0)]


async def test_a_whole_item_takes_the_place_of_a_damaged_entry(
    redis_stores: Stores, server: "Redis", store_settings: StoreSettings
) -> None:
    await server.set(f"{store_settings.prefix}item:a", b"\xff")
    await redis_stores.items.put([update(1, price=2.0)], whole=True)
    assert await redis_stores.items.get(["a"]) == [update(1, price=2.0)]


async def test_an_entry_of_wider_bounds_stays_hidden_and_keeps_its_properties(
    redis_stores: Stores, server: "Redis", store_settings: StoreSettings
) -> None:
    wide = msgspec.json.encode(update(0, available=False, title="Lamp", properties={**FULL, "more": 1.0}))
    await server.set(f"{store_settings.prefix}item:a", wide)
    await redis_stores.items.put([update(1, price=2.0)])
    (found,) = await redis_stores.items.get(["a"])
    assert found == update(1, available=False, title="Lamp", price=2.0, properties=FULL)


def test_a_log_written_under_wider_bounds_is_read_and_its_items_fit_the_bounds(tmp_path: Path) -> None:
    log = DeltaInteractionLog(str(tmp_path))
    log.append_items([update(0, available=False, properties=FULL)])
    wide = [update(1, properties={"more": 1.0}), update(2, title="x" * 5000, properties={"p0": "y" * 70_000})]
    damaged = [("b", NOW, "{"), ("c", NOW, msgspec.json.encode({"item_id": "c", "kind": "gone"}).decode())]
    rows = [(one.item_id, one.updated_at, msgspec.json.encode(one).decode()) for one in wide] + damaged
    stored = pl.DataFrame(
        rows, schema={"item_id": pl.String, "updated_at": pl.Datetime("us", "UTC"), "update": pl.String}, orient="row"
    )
    write_deltalake(str(tmp_path / "items"), stored, mode="append")
    found = {one.item_id: one for one in log.items()}
    assert (found["a"].available, found["a"].title) == (False, "x" * 5000)
    assert len(found["a"].properties or {}) <= MAX_PROPERTIES
    assert (found["b"].available, found["c"].available) == (False, False)
    bare, without = without_unreadable([found["a"]])
    assert (without, bare) == (["a"], [Item(item_id="a", updated_at=NOW + timedelta(minutes=2), available=False)])
    assert log.append_items([update(3, "b", available=True)]) == {}
    assert {one.item_id: one.available for one in log.items()}["b"] is True
