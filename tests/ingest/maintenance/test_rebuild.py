"""Rebuilding: the feature store ends up knowing what the log knows, and forgets nothing it knew better."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ingest.maintenance.rebuild import rebuild_features
from recsys.errors import Conflict
from recsys.messages.interaction import Erasure, Interaction
from recsys.messages.item import Item
from recsys.stores.event_log import InteractionLog, interaction_rows
from recsys.stores.event_log.memory import MemoryInteractionLog
from recsys.stores.online import Stores, memory_stores
from recsys.stores.users.memory import MemoryUserStore
from recsys.users import PositionedMessage, UserFeatures, apply

START = datetime(2026, 1, 1, tzinfo=UTC)


def bought(offset: int, user: str, partition: str = "p-0", minute: float | None = None) -> PositionedMessage:
    at = START + timedelta(minutes=offset if minute is None else minute, microseconds=1600)
    interaction = Interaction(
        event_id=f"{partition}-{offset}", user_id=user, item_id=f"item-{offset}", type="view", occurred_at=at
    )
    return PositionedMessage(partition, offset, interaction)


def log_of(records: Sequence[PositionedMessage]) -> InteractionLog:
    log = MemoryInteractionLog()
    watermarks: dict[str, int] = {}
    for record in records:
        watermarks[record.partition] = max(record.offset, watermarks.get(record.partition, -1))
    log.append(interaction_rows(records), watermarks)
    return log


def empty_store() -> Stores:
    return memory_stores()


async def test_an_empty_store_learns_users_and_items() -> None:
    records = [bought(offset, f"user-{offset % 3}") for offset in range(1500)]
    log = log_of(records)
    log.append_items([Item(item_id="a", updated_at=START, title="Lamp")])
    stores, told = empty_store(), list[tuple[int, int]]()
    await rebuild_features(log, stores.users, stores.items, 50, lambda done, total: told.append((done, total)))
    [one] = await stores.users.load(["user-1"])
    mine = [record for record in records if record.message.user_id == "user-1"]
    assert one == replace(apply(UserFeatures("user-1"), mine, 50), revision=1)
    assert [item and item.title for item in await stores.items.get(["a"])] == ["Lamp"]
    assert told == [(3, 3)]


async def test_more_users_than_fit_one_round_all_arrive() -> None:
    log, stores = log_of([bought(offset, f"user-{offset}") for offset in range(1203)]), empty_store()
    await rebuild_features(log, stores.users, stores.items)
    assert all(features.history for features in await stores.users.read([f"user-{n}" for n in range(1203)]))


async def test_rebuilding_twice_writes_nothing_more() -> None:
    log, stores = log_of([bought(offset, "ada") for offset in range(5)]), empty_store()
    await rebuild_features(log, stores.users, stores.items)
    await rebuild_features(log, stores.users, stores.items)
    assert [features.revision for features in await stores.users.load(["ada"])] == [1]


async def test_what_consumers_applied_and_the_log_imported_meet() -> None:
    live = [bought(offset, "ada", minute=100 + offset) for offset in range(3)]
    imported = [bought(offset, "ada", "import:x") for offset in range(3)]
    stores = empty_store()
    await stores.users.save([apply(UserFeatures("ada"), live)])
    await rebuild_features(log_of([*imported, *live[:2]]), stores.users, stores.items)
    [ada] = await stores.users.load(["ada"])
    assert [entry.item_id for entry in ada.history] == ["item-0", "item-1", "item-2"] * 2
    assert ada.offsets == {"p-0": 2}


async def test_a_log_that_lags_does_not_bring_back_what_was_erased() -> None:
    records = [bought(offset, "ada") for offset in range(3)]
    erasure = PositionedMessage("p-0", 3, Erasure(event_id="x", user_id="ada", occurred_at=START + timedelta(hours=1)))
    stores = empty_store()
    await stores.users.save([apply(UserFeatures("ada"), [*records, erasure])])
    await rebuild_features(log_of(records), stores.users, stores.items)
    [ada] = await stores.users.load(["ada"])
    assert ada.history == ()


async def test_an_import_does_not_come_back_after_an_erasure_that_the_log_has_yet_to_learn_of() -> None:
    imported = [bought(offset, "ada", "import:x") for offset in range(3)]
    erasure = PositionedMessage("p-0", 0, Erasure(event_id="x", user_id="ada", occurred_at=START + timedelta(hours=1)))
    later = bought(7, "ada", "import:x", minute=90)
    stores = empty_store()
    await rebuild_features(log_of(imported), stores.users, stores.items)
    await stores.users.save([apply(features, [erasure]) for features in await stores.users.load(["ada"])])
    await rebuild_features(log_of([*imported, later]), stores.users, stores.items)
    [ada] = await stores.users.load(["ada"])
    assert [entry.item_id for entry in ada.history] == ["item-7"]


class OvertakingStore(MemoryUserStore):
    """Another writer is faster, `times` times."""

    times = 0

    async def save(self, features: Sequence[UserFeatures]) -> list[bool]:
        if self.times:
            self.times -= 1
            [ada] = await self.load(["ada"])
            await super().save([apply(ada, [bought(100 + self.times, "ada", "p-9", 50 + self.times)])])
        return await super().save(features)


@pytest.mark.parametrize("times", [1, 3])
async def test_a_user_who_changes_meanwhile_is_joined_again(times: int) -> None:
    users = OvertakingStore()
    users.times = times
    await rebuild_features(log_of([bought(0, "ada"), bought(1, "bob")]), users, memory_stores().items)
    ada, bob = await users.load(["ada", "bob"])
    assert "item-0" in {entry.item_id for entry in ada.history}
    assert len(bob.history) == 1


async def test_a_user_who_never_holds_still_is_given_up_loudly() -> None:
    users = OvertakingStore()
    users.times = 1000
    with pytest.raises(Conflict, match="do it again"):
        await rebuild_features(log_of([bought(0, "ada")]), users, memory_stores().items)
