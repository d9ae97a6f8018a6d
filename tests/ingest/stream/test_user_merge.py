"""Merges of users: whatever order partitions come in, wherever the power fails, one user is left who has it all."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.maintenance.rebuild import rebuild_features
from ingest.stream.features import FeaturesGroup
from ingest.stream.flow import Batch
from ingest.stream.versions_in_service import VersionsInService
from recsys.messages.interaction import Erasure, Interaction, Merge
from recsys.settings import RegistrySettings, StoreSettings
from recsys.stores.event_log import InteractionLog, interaction_rows
from recsys.stores.event_log.memory import MemoryInteractionLog
from recsys.stores.online import Stores, memory_stores, open_stores
from recsys.stores.users import UserStore
from recsys.stores.users.memory import MemoryUserStore
from recsys.users import PositionedMessage, UserFeatures

START = datetime(2026, 3, 1, tzinfo=UTC)
USERS = "abcd"
MEMORY = StoreSettings(backend="memory")
Record = PositionedMessage


class PowerCut(Exception):
    """The process ends here."""


class FailingStore(MemoryUserStore):
    """Its writer dies before its `writes_left`th record from now."""

    writes_left = 1_000_000

    async def save(self, features: Sequence[UserFeatures]) -> list[bool]:
        written = []
        for one in features:
            if not self.writes_left:
                raise PowerCut
            self.writes_left -= 1
            written += await super().save([one])
        return written


def viewed(number: int, user: str, event: str | None = None) -> Interaction:
    return Interaction(
        event_id=event or f"e{number}", user_id=user, item_id=f"i{number}", type="view", occurred_at=at(number)
    )


def at(number: int) -> datetime:
    return START + timedelta(seconds=number)


@st.composite
def topics(draw: st.DrawFn) -> list[Record]:
    """What happened, in the order it did: every user on a partition, merges and erasures among the events."""
    home = {user: f"p-{draw(st.integers(0, 2))}" for user in USERS}
    steps = st.tuples(st.sampled_from("vvvvmmmx"), st.sampled_from(USERS), st.sampled_from(USERS))
    offsets: defaultdict[str, int] = defaultdict(int)
    records = []
    for number, (kind, user, other) in enumerate(draw(st.lists(steps, min_size=2, max_size=24))):
        partition = home[user]
        offsets[partition] += 1
        message: Interaction | Erasure | Merge = viewed(number, user)
        if kind == "x":
            message = Erasure(event_id=f"x{number}", user_id=user, occurred_at=at(number))
        elif kind == "m" and other != user:
            message = Merge(event_id=f"m{number}", user_id=user, into=other, occurred_at=at(number))
        records.append(PositionedMessage(partition, offsets[partition], message))
    return records


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[Record], list[list[Record]]]:
    """What happened, and batches of it: partitions each in order, one ahead of the other by any distance."""
    records = draw(topics())
    waiting: defaultdict[str, list[Record]] = defaultdict(list)
    for record in reversed(records):
        waiting[record.partition].append(record)
    batches: list[list[Record]] = [[]]
    while waiting:
        partition = draw(st.sampled_from(sorted(waiting)))
        batches[-1].append(waiting[partition].pop())
        if not waiting[partition]:
            del waiting[partition]
        if draw(st.booleans()):
            batches.append([])
    return records, batches


def expected(records: Sequence[Record]) -> dict[str, list[str]]:
    """Item ids per user, were it all done one after the other in one place."""
    users: dict[str, list[str]] = {user: [] for user in USERS}
    for record in records:
        match record.message:
            case Interaction() as one:
                users[one.user_id].append(one.item_id)
            case Erasure() as erasure:
                users[erasure.user_id] = []
            case Merge() as merge:
                users[merge.into] += users[merge.user_id]
                users[merge.user_id] = []
    return {user: sorted(items) for user, items in users.items()}


def batch_of(records: Sequence[Record]) -> Batch:
    batch = Batch()
    for record in records:
        batch.offsets[record.partition] = record.offset
        match record.message:
            case Interaction():
                batch.interactions.append(record)
            case Erasure():
                batch.erasures.append(record)
            case Merge():
                batch.merges.append(record)
    return batch


def group_on(stores: Stores) -> FeaturesGroup:
    return FeaturesGroup(stores, VersionsInService(RegistrySettings(backend="memory"), stores.notifications, 60), 100)


def log_of(batches: Sequence[Sequence[Record]]) -> InteractionLog:
    log = MemoryInteractionLog()
    append_to(log, batches)
    return log


def append_to(log: InteractionLog, batches: Sequence[Sequence[Record]]) -> None:
    for batch in map(batch_of, batches):
        log.merge(batch.merges)
        log.erase(batch.erasures)
        log.append(interaction_rows(batch.interactions), batch.offsets)


async def histories(stores: Stores) -> dict[str, list[str]]:
    users = await stores.users.load(list(USERS))
    return {features.user_id: sorted(entry.item_id for entry in features.history) for features in users}


@given(deliveries())
def test_live_features_are_those_of_one_place_and_one_order(given: tuple[list[Record], list[list[Record]]]) -> None:
    records, batches = given

    async def live() -> dict[str, list[str]]:
        stores = memory_stores()
        for batch in batches:
            await group_on(stores).apply(batch_of(batch))
        return await histories(stores)

    assert asyncio.run(live()) == expected(records)


@given(deliveries(), st.lists(st.integers(0, 6), max_size=6))
def test_a_power_cut_between_any_two_writes_changes_nothing(
    given: tuple[list[Record], list[list[Record]]], cuts: list[int]
) -> None:
    records, batches = given

    async def live() -> dict[str, list[str]]:
        users, left = FailingStore(), iter(cuts)
        stores = replace(memory_stores(), users=users)
        for batch in batches:
            users.writes_left = next(left, 1_000_000)
            try:
                await group_on(stores).apply(batch_of(batch))
            except PowerCut:
                users.writes_left = 1_000_000
                for part in _torn(batch):
                    await group_on(stores).apply(batch_of(part))
        for batch in batches:
            await group_on(stores).apply(batch_of(batch))
        return await histories(stores)

    assert asyncio.run(live()) == expected(records)


def _torn(batch: Sequence[Record]) -> Iterator[Sequence[Record]]:
    """The same again in other batches: whoever takes over polls as much as it likes."""
    middle = len(batch) // 2
    yield from (batch[:middle], batch[middle:])


@given(deliveries())
def test_the_log_says_the_same_and_a_store_made_of_it_too(given: tuple[list[Record], list[list[Record]]]) -> None:
    records, batches = given
    log = log_of([*batches, *batches])
    rows = log.read().select("user_id", "item_id").collect()
    assert {user: sorted(rows.filter(user_id=user)["item_id"]) for user in USERS} == expected(records)

    async def rebuilt() -> dict[str, list[str]]:
        stores = memory_stores()
        await rebuild_features(log, stores.users, stores.items)
        return await histories(stores)

    assert asyncio.run(rebuilt()) == expected(records)


@given(deliveries(), st.integers(0, 24), st.integers(0, 24))
def test_rebuilding_at_any_moment_changes_nothing_in_the_end(
    given: tuple[list[Record], list[list[Record]]], applied: int, logged: int
) -> None:
    records, batches = given

    async def live() -> dict[str, list[str]]:
        stores = memory_stores()
        for batch in batches[:applied]:
            await group_on(stores).apply(batch_of(batch))
        await rebuild_features(log_of(batches[:logged]), stores.users, stores.items)
        for batch in batches[applied:]:
            await group_on(stores).apply(batch_of(batch))
        return await histories(stores)

    assert asyncio.run(live()) == expected(records)


class CutOnce:
    """A store of users that dies before the `cut`th call of `save`, once."""

    cut = 0

    def __init__(self, users: UserStore) -> None:
        self._users = users
        self.read, self.load = users.read, users.load

    async def save(self, features: Sequence[UserFeatures]) -> list[bool]:
        self.cut -= 1
        if self.cut == 0:
            raise PowerCut
        return await self._users.save(features)


@pytest.fixture
async def stores(store_settings: StoreSettings) -> AsyncIterator[Stores]:
    opened = open_stores(store_settings)
    yield opened
    await opened.aclose()


@pytest.mark.parametrize("cut", [1, 2, 3])
async def test_on_a_server_too_a_merge_that_was_cut_is_finished_by_whoever_comes_next(stores: Stores, cut: int) -> None:
    merge = Merge(event_id="m", user_id="a", into="b", occurred_at=at(2))
    messages: list[Interaction | Merge] = [viewed(0, "a"), viewed(1, "b"), merge]
    batch = batch_of([PositionedMessage("p-0", offset, message) for offset, message in enumerate(messages)])
    users = CutOnce(stores.users)
    users.cut = cut
    with pytest.raises(PowerCut):
        await group_on(replace(stores, users=users)).apply(batch)
    await group_on(stores).apply(batch)
    before = await stores.users.load(list(USERS))
    assert await histories(stores) == {"a": [], "b": ["i0", "i1"], "c": [], "d": []}
    await group_on(stores).apply(batch)
    assert [one.revision for one in await stores.users.load(list(USERS))] == [one.revision for one in before]


async def test_merges_into_one_user_from_several_partitions_at_once_lose_nothing(stores: Stores) -> None:
    def visits(partition: str) -> Batch:
        messages: list[Interaction | Merge] = []
        for number in range(12):
            visitor = f"{partition}-{number}"
            messages.append(viewed(number, visitor, f"e-{visitor}"))
            messages.append(Merge(event_id=visitor, user_id=visitor, into="a", occurred_at=at(100)))
        return batch_of([PositionedMessage(partition, offset, message) for offset, message in enumerate(messages)])

    partitions = [f"p-{number}" for number in range(3)]
    async with asyncio.TaskGroup() as tasks:
        for partition in partitions:
            tasks.create_task(group_on(stores).apply(visits(partition)))
    [customer, *visitors] = await stores.users.load(
        ["a", *(f"{one}-{number}" for one in partitions for number in range(12))]
    )
    assert len(customer.history) == 36
    assert all(visitor.history == () for visitor in visitors)
