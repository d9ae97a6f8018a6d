"""Whatever comes twice, from the topic or from its producer, counts once: in the histories and in the trends."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.stream.features import FeaturesGroup
from ingest.stream.flow import Batch
from ingest.stream.versions_in_service import VersionsInService
from recsys.messages.interaction import DEFAULT_TYPE_WEIGHTS, Erasure, Interaction, epoch_ms, event_key
from recsys.recommender.trends import TREND_HOURS, TREND_UNITS, TrendCounts, hour_of
from recsys.settings import RegistrySettings
from recsys.stores.online import Stores, memory_stores
from recsys.stores.trends.memory import MemoryTrendStore
from recsys.stores.users.memory import MemoryUserStore
from recsys.users import PositionedMessage, UserFeatures
from tests.environment.waiting import WaitUntil
from tests.ingest.running import Ingest

HOMES = {"ada": "p-0", "bob": "p-0", "cyd": "p-1"}
VIEW = round(DEFAULT_TYPE_WEIGHTS["view"] * TREND_UNITS)
NOW = datetime.now(UTC)


class PowerCut(Exception):
    """The process ends here."""


class Fuse:
    """Its writer dies when it has burnt down: before a record or a count is written, or after."""

    left = 1_000_000

    def burn(self) -> None:
        if not self.left:
            raise PowerCut
        self.left -= 1


class FailingUsers(MemoryUserStore):
    def __init__(self, fuse: Fuse) -> None:
        super().__init__()
        self._fuse = fuse

    async def save(self, features: Sequence[UserFeatures]) -> list[bool]:
        written = []
        for one in features:
            self._fuse.burn()
            written += await super().save([one])
        return written


class FailingTrends(MemoryTrendStore):
    def __init__(self, fuse: Fuse) -> None:
        super().__init__()
        self._fuse = fuse

    async def count(self, counts: Sequence[TrendCounts]) -> list[int]:
        found = []
        for one in counts:
            self._fuse.burn()
            found += await super().count([one])
            self._fuse.burn()
        return found


def viewed(event: int, user: str, item: str, minutes: int = 0) -> Interaction:
    at = NOW - timedelta(minutes=minutes)
    return Interaction(event_id=f"e{event}", user_id=user, item_id=item, type="view", occurred_at=at)


@st.composite
def topics(draw: st.DrawFn) -> list[PositionedMessage]:
    """A few events of three users, told again and again, by other items and times too; now and then an erasure."""
    users = st.sampled_from(sorted(HOMES))
    events = st.builds(viewed, st.integers(0, 3), users, st.sampled_from("xyz"), st.integers(0, 200))
    erasures = st.builds(Erasure, event_id=st.just("gone"), user_id=users, occurred_at=st.just(NOW))
    messages = draw(st.lists(st.one_of(events, events, events, erasures), min_size=1, max_size=16))
    return [PositionedMessage(HOMES[one.user_id], offset, one) for offset, one in enumerate(messages)]


def batch_of(records: Sequence[PositionedMessage]) -> Batch:
    batch = Batch()
    for record in records:
        batch.offsets[record.partition] = record.offset
        (batch.erasures if isinstance(record.message, Erasure) else batch.interactions).append(record)
    return batch


def group_on(stores: Stores) -> FeaturesGroup:
    return FeaturesGroup(stores, VersionsInService(RegistrySettings(backend="memory"), stores.notifications, 60), 100)


def first_tellings(records: Sequence[PositionedMessage]) -> list[Interaction]:
    """What counts: an event id of a user the first time, and anew once the user was erased."""
    told: defaultdict[str, set[str]] = defaultdict(set)
    found = []
    for record in records:
        if isinstance(record.message, Erasure):
            told[record.message.user_id].clear()
        elif isinstance(record.message, Interaction) and record.message.event_id not in told[record.message.user_id]:
            told[record.message.user_id].add(record.message.event_id)
            found.append(record.message)
    return found


async def trends(stores: Stores) -> Counter[str]:
    last = hour_of(epoch_ms(NOW)) + 1
    hours = await stores.trends.read(range(last - TREND_HOURS, last + 1))
    return sum((Counter(weights) for weights in hours.values()), Counter[str]())


@given(topics(), st.lists(st.integers(0, 12), max_size=6), st.data())
def test_members_that_die_and_members_that_should_have_count_every_event_once(
    records: list[PositionedMessage], cuts: list[int], data: st.DataObject
) -> None:
    """A member goes on from what was committed; one that lost its partitions may still do what it has in hand."""

    async def consumed() -> Stores:
        fuse, members, committed = Fuse(), list[FeaturesGroup](), 0
        stores = replace(memory_stores(), users=FailingUsers(fuse), trends=FailingTrends(fuse))
        while committed < len(records):
            fuse.left = cuts.pop() if cuts else 1_000_000
            if not members or data.draw(st.booleans()):
                members.append(group_on(stores))
            begin = data.draw(st.integers(0, committed))
            end = data.draw(st.integers(committed + 1, len(records)))
            try:
                await data.draw(st.sampled_from(members)).apply(batch_of(records[begin:end]))
            except PowerCut:
                members.clear()
            else:
                committed = end if data.draw(st.booleans()) or not cuts else committed
        return stores

    async def check() -> None:
        stores, once = await consumed(), first_tellings(records)
        assert await trends(stores) == sum((Counter({one.item_id: VIEW}) for one in once), Counter())
        last: defaultdict[str, set[int]] = defaultdict(set)
        for record in records:
            if isinstance(record.message, Erasure):
                last[record.message.user_id].clear()
            else:
                last[record.message.user_id].add(event_key(record.message.event_id))
        for features in await stores.users.load(list(HOMES)):
            assert sorted(entry.event for entry in features.history) == sorted(last[features.user_id])

    asyncio.run(check())


async def test_what_a_producer_sends_again_counts_once_on_a_real_topic(ingest: Ingest, wait_until: WaitUntil) -> None:
    from recsys.stores.online import open_stores

    stores = open_stores(ingest.store)
    sent = [viewed(n, f"user {n % 3}", "x", n) for n in range(30)]
    async with ingest.consuming("features"):
        await ingest.send(sent)
        await ingest.send([viewed(n, f"user {n % 3}", "y") for n in range(30)])
        await ingest.send([viewed(99, "user 0", "z"), viewed(99, "user 1", "z"), viewed(99, "user 2", "z")])

        async def arrived() -> bool:
            return (await trends(stores))["z"] == 3 * VIEW

        await wait_until(arrived)
        assert await trends(stores) == {"x": 30 * VIEW, "z": 3 * VIEW}
        users = await stores.users.load([f"user {n}" for n in range(3)])
        assert [len(user.history) for user in users] == [11, 11, 11]
    await stores.aclose()


@pytest.mark.parametrize("minutes", [0, 3, 50])
async def test_an_event_that_comes_late_takes_its_place_by_event_time(minutes: int) -> None:
    stores = memory_stores()
    events = [viewed(n, "ada", "x", 2 * n) for n in range(20)]
    late = viewed(99, "ada", "late", minutes)
    records = [PositionedMessage("p-0", offset, event) for offset, event in enumerate([*events, late])]
    await group_on(stores).apply(batch_of(records))
    (ada,) = await stores.users.load(["ada"])
    assert [entry.at_ms for entry in ada.history] == sorted(epoch_ms(event.occurred_at) for event in [*events, late])
