"""The contract of the store of items, on every backend; and what only a server can get wrong."""

import asyncio
from datetime import timedelta

from redis.asyncio import Redis

from recsys.settings import StoreSettings
from recsys.stores.online import Stores, open_stores
from tests.contracts.items.updates import item
from tests.contracts.users.records import NOW
from tests.environment.waiting import WaitUntil


async def test_an_item_update_keeps_what_it_leaves_out(stores: Stores) -> None:
    await stores.items.put([item("a", title="Lamp", price=0.1, categories=[], properties={"colour": "red"})])
    await stores.items.put([item("a", 1, available=False, properties={"size": 3.0})])
    assert await stores.items.get(["a", "b"]) == [
        item(
            "a",
            1,
            title="Lamp",
            price=0.1,
            categories=[],
            available=False,
            properties={"colour": "red", "size": 3.0},
        ),
        None,
    ]


async def test_a_late_item_update_does_not_undo_a_newer_one(stores: Stores) -> None:
    await stores.items.put([item("a", 5, price=2.0)])
    await stores.items.put([item("a", 1, price=1.0, title="Lamp")])
    assert await stores.items.get(["a"]) == [item("a", 5, price=2.0, title="Lamp")]


async def test_changed_items_are_told_once_each_in_their_newest_state(stores: Stores) -> None:
    await stores.items.put([item("a"), item("b"), item("a", 1, price=1.0)])
    first = await stores.items.changes(0)
    assert {one.item_id for one in first.items} == {"a", "b"}
    assert (first.complete, first.revision > 0) == (True, True)
    nothing = await stores.items.changes(first.revision)
    assert (nothing.items, nothing.revision, nothing.complete) == ([], first.revision, True)
    await stores.items.put([item("b", 1, title="B")])
    await stores.items.put([item("c")])
    second = await stores.items.changes(first.revision)
    assert [one.item_id for one in second.items] == ["b", "c"]
    assert second.items[0].title == "B"


async def test_a_repeated_item_update_is_no_change(stores: Stores) -> None:
    await stores.items.put([item("a", price=1.0)])
    reached = (await stores.items.changes(0)).revision
    await stores.items.put([item("a", price=1.0)])
    assert (await stores.items.changes(reached)).items == []


async def test_a_long_feed_comes_in_pages(stores: Stores) -> None:
    await stores.items.put([item(f"i{n}") for n in range(1250)])
    seen: list[str] = []
    since, complete = 0, False
    while not complete:
        changes = await stores.items.changes(since, limit=500)
        assert len(changes.items) <= 500
        seen += [one.item_id for one in changes.items]
        since, complete = changes.revision, changes.complete
    assert seen == [f"i{n}" for n in range(1250)]


async def test_a_reader_ahead_of_a_store_that_was_lost_is_told_everything_again(stores: Stores) -> None:
    await stores.items.put([item("a")])
    reached = (await stores.items.changes(0)).revision
    again = await stores.items.changes(reached + 10**9)
    assert ([one.item_id for one in again.items], again.revision) == (["a"], reached)


async def test_an_empty_store_has_no_changes(stores: Stores) -> None:
    changes = await stores.items.changes(5)
    assert (changes.items, changes.revision, changes.complete) == ([], 0, True)


async def test_racing_item_updates_all_arrive(stores: Stores) -> None:
    await asyncio.gather(
        *(stores.items.put([item("a", n, properties={f"p{n}": float(n)}), item(f"b{n}")]) for n in range(12))
    )
    (merged,) = await stores.items.get(["a"])
    assert merged is not None
    assert merged.properties == {f"p{n}": float(n) for n in range(12)}
    assert merged.updated_at == NOW + timedelta(minutes=11)
    assert len((await stores.items.changes(0)).items) == 13


async def test_an_item_that_was_not_renewed_leaves_the_catalogue_and_its_feed(
    store_settings: StoreSettings, server: "Redis", wait_until: WaitUntil
) -> None:
    stores = open_stores(store_settings.model_copy(update={"item_ttl": 0.3}))
    await stores.items.put([item("a")])

    async def gone() -> bool:
        return (await stores.items.get(["a"])) == [None]

    await wait_until(gone)
    await stores.items.put([item("b")])
    assert [one.item_id for one in (await stores.items.changes(0)).items] == ["b"]
    assert await server.zcard(f"{store_settings.prefix}items:changed") == 1
    await stores.aclose()


async def test_a_key_of_another_type_is_replaced_by_the_next_update(
    redis_stores: Stores, server: "Redis", store_settings: StoreSettings
) -> None:
    await server.lpush(f"{store_settings.prefix}item:b", "x")
    assert await redis_stores.items.get(["b"]) == [None]
    await redis_stores.items.put([item("b", title="B")])
    assert await redis_stores.items.get(["b"]) == [item("b", title="B")]
