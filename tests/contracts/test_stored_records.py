"""Users, heartbeats, outcomes and decisions on letters: whatever is written of them is read as it was."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from time import time

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from app.versions.placement_watcher import RECORD, PlacementWatcher
from recsys.errors import InvalidInput
from recsys.experiments.canary import counts_of
from recsys.experiments.rollout import UNITS, Outcome
from recsys.messages import avro, envelope, protobuf, wire
from recsys.messages.envelope import AVRO, CONTENT_TYPE, HEADERS, PROTOBUF
from recsys.messages.item import Item
from recsys.recommender.placement import Placement, PlacementChange
from recsys.recommender.trend import TrendCounts, hour_of
from recsys.settings import LogSettings, StoreSettings
from recsys.stores.dead_letters import open_dead_letters
from recsys.stores.dead_letters.protocol import LetterQuery, Refusal
from recsys.stores.feature_store import FeatureStore, open_feature_store
from recsys.stores.feature_store.redis import RedisFeatureStore
from recsys.stores.heartbeat import Heartbeat
from recsys.stores.model_registry.object_store import ObjectStoreModelRegistry
from recsys.users import HistoryEntry, IdentityChange, UserFeatures

HOUR = hour_of(1000 * time())
AT = datetime(2026, 3, 1, tzinfo=UTC)

int64 = st.integers(-(2**63), 2**63 - 1)
ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=128)
entries = st.builds(HistoryEntry, int64, int64, ids, ids, int64)
records = st.builds(
    UserFeatures,
    user_id=ids,
    history=st.lists(entries, max_size=4).map(tuple),
    offsets=st.dictionaries(ids, int64, max_size=4),
    identity_changes=st.lists(st.builds(IdentityChange, int64, st.just("") | ids), max_size=3).map(tuple),
    shown=st.lists(entries, max_size=3).map(tuple),
    dedup_window=st.lists(int64, max_size=4).map(lambda numbers: np.array(numbers * 2, "<i8").tobytes()),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(record=records)
@pytest.mark.parametrize("backend", ["memory", "redis"])
def test_a_user_is_loaded_as_saved(store_settings: StoreSettings, backend: str, record: UserFeatures) -> None:
    changed = {"backend": backend, "prefix": f"test-{token_hex(6)}:"}

    async def save_and_load() -> UserFeatures:
        store = open_feature_store(store_settings.model_copy(update=changed))
        assert await store.save([record]) == [True]
        (found,) = await store.load([record.user_id])
        await store.aclose()
        return found

    found = asyncio.run(save_and_load())
    assert (found.history, found.shown, found.identity_changes) == (
        record.history,
        record.shown,
        record.identity_changes,
    )
    assert (dict(found.offsets), found.dedup_window, found.revision) == (record.offsets, record.dedup_window, 1)


async def test_a_heartbeat_is_read_as_it_was_reported(store: FeatureStore) -> None:
    heartbeat = Heartbeat("häst:1 2", "serve", "live", "v" * 64, tuple("abc"), lag=2**60, unreadable=7)
    await store.report(heartbeat)
    assert [one.heartbeat for one in await store.instances()] == [heartbeat]


async def test_a_foreign_count_costs_that_count_alone(
    redis_store: RedisFeatureStore, server: "Redis", store_settings: StoreSettings
) -> None:
    await redis_store.increment("e1", {"compared": 3})
    await server.hset(f"{store_settings.prefix}tally:e1", mapping={"odd": "much", b"\xff": "1"})
    assert await redis_store.counters("e1") == {"compared": 3}


async def test_a_trend_of_foreign_members_keeps_those_that_are_ours(
    redis_store: RedisFeatureStore, server: "Redis", store_settings: StoreSettings
) -> None:
    await redis_store.count_trends([TrendCounts("p-0", -1, 5, {HOUR: {"a": 1000}})])
    await server.zadd(f"{store_settings.prefix}trend:p-0:{HOUR}", {b"\xff": 2, b"huge": 1e18})
    counted = (await redis_store.trends([HOUR]))[HOUR]
    assert (counted["a"], counted["huge"]) == (1000, 10**18)


def test_a_bitmap_of_another_length_counts_what_it_has() -> None:
    whole = np.packbits(np.ones(UNITS, np.uint8)).tobytes()
    for exposed in (whole, whole + b"\xff" * 9):
        counts = counts_of({Outcome.EXPOSED: exposed, Outcome.SLOW: b"\x80"}, 10)
        assert counts[Outcome.EXPOSED] == (UNITS - 10, 10)


@pytest.mark.parametrize("backend", ["memory", "delta"])
def test_a_decision_on_a_letter_is_kept_whatever_its_words(tmp_path: Path, backend: str) -> None:
    letters = open_dead_letters(LogSettings.model_validate({"backend": backend, "path": str(tmp_path)}))
    letters.dead_letter([Refusal("r" * 9000, "f" * 9000, "p-0", 1, b"\xff", AT, key="\udcff", headers={"a": b"\xff"})])
    letters.discard(letters.letters(LetterQuery()), "o\udcffperator", "because \udcff" * 200, AT)
    (found,) = letters.letters(LetterQuery(status=None))
    assert (found.by, (found.why or "")[:9]) == ("o?perator", "because ?")


@pytest.mark.parametrize(("kind", "module"), [(AVRO, avro), (PROTOBUF, protobuf)])
def test_a_binary_message_is_measured_as_the_json_that_is_kept_of_it(kind: str, module: object) -> None:
    encode = avro.encode if module is avro else protobuf.encode
    headers = {**HEADERS, CONTENT_TYPE: kind.encode()}
    fits = Item(item_id="a", updated_at=AT, categories=["\x00" * 2000] * 5)
    assert envelope.decode(encode(fits), headers) == fits
    large = encode(msgspec.structs.replace(fits, categories=["\x00" * 2000] * 6))
    assert len(large) < wire.MAX_MESSAGE_BYTES
    with pytest.raises(InvalidInput, match=r"message: \d+ bytes are more than"):
        envelope.decode(large, headers)


async def test_placements_that_a_replica_remembers_do_not_go_with_one_of_them(
    tmp_path: Path, store: FeatureStore
) -> None:
    change = PlacementChange(name="cart", sequence=1, changed_at=AT, actor="ada", placement=Placement(k=3))
    newer = {**msgspec.to_builtins(change), "placement": {"of": "another release"}}
    (tmp_path / RECORD).write_bytes(msgspec.json.encode({"home": newer, "cart": change}))
    nowhere = ObjectStoreModelRegistry(str(tmp_path / "file"))
    (tmp_path / "file").write_text("in the way of the registry's folder")
    watcher = PlacementWatcher(nowhere, tmp_path, store, configured={}, poll_interval=1.0)
    await watcher.check()
    assert watcher.current["cart"] == Placement(k=3)
    assert watcher.current["home"] == watcher.base["home"]
