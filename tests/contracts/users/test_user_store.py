"""The contract of the store of users, on every backend."""

import asyncio
from dataclasses import replace
from secrets import token_hex

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys.messages.interaction import Interaction
from recsys.settings import StoreSettings
from recsys.stores.online import Stores, open_stores
from recsys.stores.topic.protocol import MAX_OFFSET
from recsys.users import HistoryEntry, IdentityChange, PositionedMessage, UserFeatures, apply
from tests.contracts.users.records import NOW, record, same


async def test_an_unknown_user_is_empty_with_revision_0(stores: Stores) -> None:
    assert await stores.users.read(["nobody"], "v1") == [UserFeatures("nobody")]
    assert await stores.users.load(["nobody", "no one"]) == [UserFeatures("nobody"), UserFeatures("no one")]
    assert await stores.users.read([]) == await stores.users.load([]) == []
    assert await stores.users.save([]) == []


async def test_what_was_saved_is_loaded_whole_with_the_next_revision(stores: Stores) -> None:
    assert await stores.users.save([record()]) == [True]
    (loaded,) = await stores.users.load(["ada"])
    assert same(loaded, record(revision=1))


async def test_a_read_brings_the_embedding_of_the_asked_version_only(stores: Stores) -> None:
    await stores.users.save([record("ada"), record("bob", events=1)])
    ada, nobody, bob = await stores.users.read(["ada", "nobody", "bob"], "v2")
    assert list(ada.embeddings) == ["v2"]
    assert ada.embeddings["v2"].dtype == np.float32
    assert ada.embeddings["v2"].tolist() == [0.5] * 8
    assert (ada.history, ada.revision, ada.offsets) == (record().history, 1, {})
    assert (nobody.revision, len(bob.history)) == (0, 1)
    assert (await stores.users.read(["ada"], "v3"))[0].embeddings == {}
    assert (await stores.users.read(["ada"]))[0].embeddings == {}


async def test_impressions_are_read_when_asked_for_and_go_with_the_record(stores: Stores) -> None:
    shown = (HistoryEntry(1000, 1, "a", "impression"), HistoryEntry(1001, 2, "b", "impression"))
    await stores.users.save([replace(record(), impressions=shown), record("bob")])
    assert [one.impressions for one in await stores.users.read(["ada", "bob"], "v1")] == [(), ()]
    ada, bob = await stores.users.read(["ada", "bob"], "v1", shown=True)
    assert (ada.impressions, ada.history, list(ada.embeddings), bob.impressions) == (
        shown,
        record().history,
        ["v1"],
        (),
    )
    assert (await stores.users.load(["ada"]))[0].impressions == shown
    await stores.users.save([record(revision=1)])
    assert (await stores.users.load(["ada"]))[0].impressions == ()


async def test_a_save_replaces_the_record_whole(stores: Stores) -> None:
    await stores.users.save([record()])
    assert await stores.users.save([UserFeatures("ada", offsets={"interactions-0": 6}, revision=1)]) == [True]
    (loaded,) = await stores.users.load(["ada"])
    assert same(loaded, UserFeatures("ada", offsets={"interactions-0": 6}, revision=2))


@pytest.mark.parametrize("stale", [0, 2, 7])
async def test_a_save_of_a_stale_record_writes_nothing(stores: Stores, stale: int) -> None:
    await stores.users.save([record()])
    assert await stores.users.save([record(revision=stale, events=9), record("bob")]) == [False, True]
    (loaded,) = await stores.users.load(["ada"])
    assert same(loaded, record(revision=1))


async def test_of_two_first_saves_one_wins(stores: Stores) -> None:
    outcomes = await asyncio.gather(*(stores.users.save([record(events=n)]) for n in range(5)))
    assert sorted(outcomes) == [[False]] * 4 + [[True]]


async def test_writers_that_race_and_reduce_again_lose_nothing(stores: Stores) -> None:
    async def write(partition: str) -> None:
        for offset in range(20):
            event = Interaction(
                event_id=f"{partition}-{offset}", user_id="ada", item_id="i", type="view", occurred_at=NOW
            )
            while True:
                (features,) = await stores.users.load(["ada"])
                await asyncio.sleep(0)
                if await stores.users.save([apply(features, [PositionedMessage(partition, offset, event)])]) == [True]:
                    break

    await asyncio.gather(*(write(f"p-{n}") for n in range(3)))
    (features,) = await stores.users.load(["ada"])
    assert len(features.history) == 60
    assert features.offsets == {"p-0": 19, "p-1": 19, "p-2": 19}
    assert features.revision == 60


async def test_ids_may_be_any_text(stores: Stores) -> None:
    ids = ["", "käse 🧀", "a:b{c}*", "x" * 5000, "\ud800", "line\nbreak"]
    assert await stores.users.save([record(user_id) for user_id in ids]) == [True] * len(ids)
    assert [features.revision for features in await stores.users.read(ids)] == [1] * len(ids)


async def test_more_users_than_fit_one_round_trip_come_back_in_order(stores: Stores) -> None:
    ids = [f"user {n}" for n in range(1203)]
    assert all(await stores.users.save([record(user_id, events=1) for user_id in ids]))
    assert [features.user_id for features in await stores.users.load(ids) if features.revision == 1] == ids


int64 = st.integers(-(2**63), 2**63 - 1)


ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=128)


entries = st.builds(HistoryEntry, int64, int64, ids, ids, int64)


records = st.builds(
    UserFeatures,
    user_id=ids,
    history=st.lists(entries, max_size=4).map(tuple),
    offsets=st.dictionaries(ids, st.integers(-(2**63), MAX_OFFSET), max_size=4),
    identity_changes=st.lists(st.builds(IdentityChange, int64, st.just("") | ids), max_size=3).map(tuple),
    impressions=st.lists(entries, max_size=3).map(tuple),
    dedup_window=st.lists(int64, max_size=4).map(lambda numbers: np.array(numbers * 2, "<i8").tobytes()),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(record=records)
@pytest.mark.parametrize("backend", ["memory", "redis"])
def test_a_user_is_loaded_as_saved(store_settings: StoreSettings, backend: str, record: UserFeatures) -> None:
    changed = {"backend": backend, "prefix": f"test-{token_hex(6)}:"}

    async def save_and_load() -> UserFeatures:
        stores = open_stores(store_settings.model_copy(update=changed))
        assert await stores.users.save([record]) == [True]
        (found,) = await stores.users.load([record.user_id])
        await stores.aclose()
        return found

    found = asyncio.run(save_and_load())
    assert (found.history, found.impressions, found.identity_changes) == (
        record.history,
        record.impressions,
        record.identity_changes,
    )
    assert (dict(found.offsets), found.dedup_window, found.revision) == (record.offsets, record.dedup_window, 1)
