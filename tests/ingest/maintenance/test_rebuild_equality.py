"""A store made of the log is the store that the stream made, whatever happened and however far each has come."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.maintenance.rebuild import rebuild_features, rebuild_trends
from ingest.stream.features import FeaturesGroup
from ingest.stream.versions_in_service import VersionsInService
from recsys.messages.interaction import Erasure, Interaction, Merge
from recsys.messages.item import Item
from recsys.recommender.trends import hour_of
from recsys.settings import LogSettings, RegistrySettings, StoreSettings
from recsys.stores.event_log import InteractionLog, interaction_rows, open_interaction_log
from recsys.stores.model_registry import open_model_registry
from recsys.stores.model_registry.aliases import promote
from recsys.stores.online import Stores, memory_stores, open_stores
from recsys.users import PositionedMessage, UserFeatures
from tests.environment.versions import publish_small_version
from tests.ingest.stream.test_user_merge import (
    USERS,
    Record,
    append_to,
    batch_of,
    deliveries,
    expected,
    group_on,
    histories,
    log_of,
)

Topic = tuple[list[Record], list[list[Record]]]
NOW = datetime.now(UTC)
SHOPPERS = ["ada", "bob", "carl", "eve"]


async def records_in(stores: Stores, users: Sequence[str] = USERS) -> list[UserFeatures]:
    """All but how often each was written, and its vectors."""
    return [replace(one, revision=0, embeddings={}) for one in await stores.users.load(list(users))]


@given(deliveries())
def test_a_record_made_of_the_log_equals_the_one_the_stream_made_tidied_or_not(given: Topic) -> None:
    _, batches = given

    async def same() -> None:
        live, log = memory_stores(), log_of(batches)
        for batch in batches:
            await group_on(live).apply(batch_of(batch))
        for _ in range(2):
            made = memory_stores()
            await rebuild_features(log, made.users, made.items, 100)
            assert await records_in(made) == await records_in(live)
            log.purge(log.purge_plan())

    asyncio.run(same())


@given(deliveries(), st.integers(0, 12), st.integers(0, 12), st.integers(0, 12), st.booleans(), st.booleans())
def test_a_store_that_was_lost_is_made_good_while_consumers_go_on(
    given: Topic, lost: int, before: int, logged: int, tidied: bool, anew: bool
) -> None:
    records, batches = given

    async def mended() -> None:
        live, log = memory_stores(), log_of(batches[: lost + logged])
        for batch in batches[lost : lost + before]:
            await group_on(live).apply(batch_of(batch))
        if tidied:
            log.purge(log.purge_plan())
        done = await rebuild_features(log, live.users, live.items, 100, anew=anew)
        for batch in batches[lost + before :]:
            await group_on(live).apply(batch_of(batch))
        if done.ahead:
            append_to(log, batches[lost + logged :])
            await rebuild_features(log, live.users, live.items, 100, since=done.watermarks)
        assert await histories(live) == expected(records)

    asyncio.run(mended())


def viewed(offset: int, user: str, item: str, kind: str = "view") -> PositionedMessage:
    at = NOW - timedelta(hours=30) + timedelta(minutes=offset)
    interaction = Interaction(event_id=f"e{offset}", user_id=user, item_id=item, type=kind, occurred_at=at)
    return PositionedMessage(f"t-{len(user) % 2}", offset, interaction)


def history_of_a_shop() -> list[list[PositionedMessage]]:
    """Views, impressions, repeats, more of them than a history holds, a merge and an erasure, in batches."""
    kinds = ["view", "purchase", "impression"]
    # Trends made of the log are without what was erased: so nothing of hers weighs anything.
    records = [
        viewed(n, SHOPPERS[n % 4], f"i{n % 5}", "impression" if n % 4 == 3 else kinds[n % 3]) for n in range(120)
    ]
    records += [replace(records[n], offset=120 + n) for n in range(0, 20, 3)]
    at = NOW - timedelta(hours=1)
    records.append(PositionedMessage("t-1", 150, Merge(event_id="m", user_id="bob", into="carl", occurred_at=at)))
    records.append(PositionedMessage("t-1", 151, Erasure(event_id="x", user_id="eve", occurred_at=at)))
    records += [viewed(160 + n, "eve", f"i{n}") for n in range(3)]
    return [records[start : start + 30] for start in range(0, len(records), 30)]


async def applied(
    stores: Stores, log: InteractionLog, batches: Sequence[Sequence[PositionedMessage]], versions: VersionsInService
) -> None:
    group = FeaturesGroup(stores, versions, 20)
    for batch in map(batch_of, batches):
        await group.apply(batch)
        log.merge(batch.merges)
        log.erase(batch.erasures)
        log.append(interaction_rows(batch.interactions), batch.offsets)


@pytest.fixture
def log(tmp_path: Path) -> InteractionLog:
    return open_interaction_log(LogSettings(path=str(tmp_path / "log")))


async def test_on_servers_too_histories_windows_offsets_identity_changes_embeddings_and_trends_are_equal(
    log: InteractionLog, store_settings: StoreSettings, tmp_path: Path
) -> None:
    registry = RegistrySettings(url=str(tmp_path / "registry"), cache=tmp_path / "cache")
    publish_small_version(open_model_registry(registry), tmp_path / "built", "first", seed=1)
    promote(open_model_registry(registry), "first", actor="test", reason="start")
    live, made = (
        open_stores(store_settings.model_copy(update={"prefix": store_settings.prefix + name}))
        for name in ("live:", "made:")
    )
    versions = VersionsInService(registry, live.notifications, 60)
    await versions.refresh()
    await applied(live, log, history_of_a_shop(), versions)
    log.append_items([Item(item_id="lamp", updated_at=NOW, title="Lamp")])
    await rebuild_features(log, made.users, made.items, 20, indexes=versions.indexes)
    await rebuild_trends(log, made.trends, NOW.timestamp() * 1000)
    assert await records_in(made, SHOPPERS) == await records_in(live, SHOPPERS)
    embedded = set()
    for one, other in zip(await made.users.load(SHOPPERS), await live.users.load(SHOPPERS), strict=True):
        assert one.embeddings.keys() == other.embeddings.keys()
        for version, vector in one.embeddings.items():
            embedded.add(one.user_id)
            np.testing.assert_allclose(vector, other.embeddings[version], atol=1e-5)
    assert embedded == {"ada", "carl", "eve"}
    hours = [hour_of(NOW.timestamp() * 1000) - back for back in range(40)]
    counted = await live.trends.read(hours)
    assert any(counted.values())
    assert await made.trends.read(hours) == counted
    assert [item and item.title for item in await made.items.get(["lamp"])] == ["Lamp"]
    await live.aclose()
    await made.aclose()


async def test_only_users_of_whom_the_log_has_something_since_are_made(log: InteractionLog) -> None:
    log.append(interaction_rows([viewed(0, "ada", "i0"), viewed(1, "bob", "i1")]), {"t-1": 1})
    before = log.watermarks()
    log.append(interaction_rows([viewed(2, "bob", "i2")]), {"t-1": 2})
    stores = memory_stores()
    assert (await rebuild_features(log, stores.users, stores.items, since=before)).users == 1
    ada, bob = await stores.users.load(["ada", "bob"])
    assert ada.revision == 0
    assert [entry.item_id for entry in bob.history] == ["i1", "i2"]


async def test_whoever_receives_by_a_merge_since_is_made_too(log: InteractionLog) -> None:
    log.append(interaction_rows([viewed(0, "ada", "i0"), viewed(1, "bob", "i1")]), {"t-1": 1})
    before = log.watermarks()
    log.merge([PositionedMessage("t-1", 2, Merge(event_id="m", user_id="bob", into="ada", occurred_at=NOW))])
    log.append(interaction_rows([]), {"t-1": 2})
    stores = memory_stores()
    await rebuild_features(log, stores.users, stores.items, since=before)
    ada, bob = await stores.users.load(["ada", "bob"])
    assert [entry.item_id for entry in ada.history] == ["i0", "i1"]
    assert bob.history == ()


async def test_made_anew_a_record_forgets_what_the_log_does_not_have(log: InteractionLog) -> None:
    log.append(interaction_rows([viewed(0, "ada", "i0")]), {"t-1": 0})
    stores = memory_stores()
    nobody = viewed(0, "ada", "nobody-knows-why")
    await group_on(stores).apply(batch_of([replace(nobody, message=replace_event(nobody))]))
    await rebuild_features(log, stores.users, stores.items)
    [joined] = await stores.users.load(["ada"])
    assert len(joined.history) == 2
    await rebuild_features(log, stores.users, stores.items, anew=True)
    [ada] = await stores.users.load(["ada"])
    assert [entry.item_id for entry in ada.history] == ["i0"]
    assert ada.revision == joined.revision + 1


async def test_trends_that_somebody_counts_already_are_left_alone(log: InteractionLog) -> None:
    log.append(interaction_rows([viewed(0, "ada", "i0"), viewed(1, "bob", "i1")]), {"t-1": 1})
    stores = memory_stores()
    now_ms = NOW.timestamp() * 1000
    assert await rebuild_trends(log, stores.trends, now_ms) == []
    hour = hour_of(now_ms) - 30
    counted = await stores.trends.read([hour, hour + 1])
    assert await rebuild_trends(log, stores.trends, now_ms) == ["t-1"]
    assert await stores.trends.read([hour, hour + 1]) == counted != {}


def replace_event(record: PositionedMessage) -> Interaction:
    assert isinstance(record.message, Interaction)
    return msgspec.structs.replace(record.message, event_id="another")
