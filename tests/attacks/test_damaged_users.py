"""Damage in a user's record costs what is damaged: no other user's events, no answer, and nothing of an erasure."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from msgspec import msgpack
from redis import Redis

from recsys.messages.interaction import Erasure, Interaction, epoch_ms
from recsys.settings import StoreSettings
from recsys.stores.online import Stores, open_stores
from recsys.stores.users.record import HISTORY, IDENTITY_CHANGES, OFFSETS, PAST, SHOWN
from recsys.users import (
    HISTORY_LENGTH,
    HistoryEntry,
    IdentityChange,
    PositionedMessage,
    UserFeatures,
    apply,
    left_since,
)

ERASED_AT = datetime(2026, 11, 1, tzinfo=UTC)
OUT_OF_BOUNDS = (2**62, 2**64 - 1, -(2**63))
RECORDS: dict[str, dict[bytes, bytes]] = {
    "no history": {HISTORY: b"\xc1"},
    "a history without end": {HISTORY: b"\x91" * 100_000},
    "times that are none": {HISTORY: msgpack.encode([[at_ms, 5, "i1", "view"] for at_ms in OUT_OF_BOUNDS])},
    "events that are none": {HISTORY: msgpack.encode([[1_700_000_000_000, 2**64 - 1, "i1", "view"]])},
    "offsets that are none": {OFFSETS: msgpack.encode({"interactions-0": 2**64 - 1})},
    "an offset that no topic reaches": {OFFSETS: msgpack.encode({"interactions-0": 2**63 - 1})},
    "a past that is cut": {PAST: b"x" * 17},
    "impressions that are none": {SHOWN: b"\xc1"},
    "identity changes that are none": {IDENTITY_CHANGES: msgpack.encode([["x"]])},
    "a vector of another length": {b"e:first": b"\x00\x00\x80?"},
    "a version that has no name": {b"e:\xff": b"\x00\x00\x80?"},
    "a revision without end": {b"r": b"9" * 5000},
    "a revision that is no number": {b"r": "²".encode()},
}


@pytest.fixture
async def stores(store_settings: StoreSettings) -> AsyncIterator[Stores]:
    opened = open_stores(store_settings)
    yield opened
    await opened.aclose()


def damage(settings: StoreSettings, fields: dict[bytes, bytes], user: str = "ann") -> None:
    with Redis.from_url(settings.url.get_secret_value()) as server:
        server.hset(f"{settings.prefix}user:{user}", mapping={b"r": b"1", **fields})


def events(count: int) -> list[PositionedMessage]:
    return [
        PositionedMessage(
            "interactions-0",
            number,
            Interaction(
                event_id=f"e{number}",
                user_id="ann",
                item_id=f"i{number % 40}",
                type="view",
                occurred_at=ERASED_AT + timedelta(minutes=number + 1),
            ),
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("record", RECORDS)
async def test_later_events_are_learned_whatever_is_damaged(
    stores: Stores, store_settings: StoreSettings, record: str
) -> None:
    """A number that numpy has no room for ended the consumer each time it came by: nobody's events were learned."""
    damage(store_settings, RECORDS[record])
    for end in (1, HISTORY_LENGTH + 50, 3 * HISTORY_LENGTH):
        (loaded,) = await stores.users.load(["ann"])
        assert await stores.users.save([apply(loaded, events(end))]) == [True]
    (features,) = await stores.users.read(["ann"])
    assert [entry.item_id for entry in features.history[-2:]] == ["i38", "i39"]


@pytest.mark.parametrize("record", RECORDS)
async def test_no_route_fails_for_it(client: httpx.AsyncClient, store_settings: StoreSettings, record: str) -> None:
    damage(store_settings, RECORDS[record])
    asked: list[tuple[str, str, Any]] = [
        ("GET", "/users/ann", None),
        ("GET", "/recommend?user_id=ann&placement=home", None),
        ("POST", "/explain", {"user_id": "ann", "item_id": "i2"}),
        ("POST", "/recommend/batch", {"user_ids": ["ann"]}),
        ("POST", "/versions/second/recommend", {"user_id": "ann"}),
        ("POST", "/recommend/preview", {"user_id": "ann", "placement": {"exclude_seen": {"view": 3}}}),
        ("DELETE", "/users/ann", None),
    ]
    for method, path, body in asked:
        answer = await client.request(method, path, json=body)
        assert answer.status_code < 500, f"{method} {path}: {answer.text}"


async def test_who_was_erased_stays_so_when_the_rest_of_the_record_is_damaged(
    stores: Stores, store_settings: StoreSettings
) -> None:
    """The next event replaced the record whole, and what a merge brought late from before the erasure came back."""
    erasure = Erasure(event_id="x", user_id="ann", occurred_at=ERASED_AT)
    erased = apply(UserFeatures("ann"), [PositionedMessage("interactions-0", 0, erasure)])
    assert await stores.users.save([erased]) == [True]
    damage(store_settings, {HISTORY: b"\xc1", PAST: b"x"})

    (loaded,) = await stores.users.load(["ann"])
    assert await stores.users.save([apply(loaded, events(2))]) == [True]
    (features,) = await stores.users.load(["ann"])
    assert features.identity_changes == (IdentityChange(epoch_ms(ERASED_AT)),)
    assert left_since(features, epoch_ms(ERASED_AT) - 1000) == features.identity_changes[0]


async def test_each_part_that_can_be_read_is_kept(stores: Stores, store_settings: StoreSettings) -> None:
    whole = UserFeatures(
        "ann",
        history=(HistoryEntry(5, 1, "i1", "view"),),
        offsets={"interactions-0": 3},
        identity_changes=(IdentityChange(4),),
        impressions=(HistoryEntry(6, 2, "i2", "impression"),),
        dedup_window=bytes(16),
    )
    names = {
        HISTORY: "history",
        OFFSETS: "offsets",
        IDENTITY_CHANGES: "identity_changes",
        SHOWN: "impressions",
        PAST: "dedup_window",
    }
    for field, name in names.items():
        (before,) = await stores.users.load(["ann"])
        assert await stores.users.save([UserFeatures("ann", **_parts(whole), revision=before.revision)]) == [True]
        with Redis.from_url(store_settings.url.get_secret_value()) as server:
            server.hset(f"{store_settings.prefix}user:ann", field, b"\xc1")
        (features,) = await stores.users.load(["ann"])
        lost = {name, "offsets"} if name == "history" else {name}
        for part, value in _parts(whole).items():
            assert (getattr(features, part) == value) is (part not in lost), (name, part)


def _parts(features: UserFeatures) -> dict[str, Any]:
    return {
        part: getattr(features, part)
        for part in ("history", "offsets", "identity_changes", "impressions", "dedup_window")
    }
