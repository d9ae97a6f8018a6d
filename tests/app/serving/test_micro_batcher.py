"""Requests of one turn share their work, and nobody is left waiting or answered by two versions."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from app.serving.answerer import Answerer
from app.serving.circuit_breaker import CircuitBreaker
from app.serving.feature_reader import FeatureReader
from app.serving.micro_batcher import MicroBatcher
from app.serving.shadow import Shadow
from app.versions.canary_guard import CanaryGuard
from app.versions.live_index import LiveIndex, LoadedVersion
from app.versions.rollouts import LiveRollouts
from app.versions.trend_watcher import LiveTrends
from recsys.catalogue.catalogue import Catalogue
from recsys.errors import Unavailable
from recsys.index.index import Index
from recsys.recommender.candidates.source import Sources
from recsys.recommender.draft import Draft
from recsys.recommender.pipeline import PIPELINE, Pipeline
from recsys.recommender.query import Query
from recsys.recommender.stages.stage import Stage
from recsys.stores.model_registry.memory import MemoryModelRegistry
from recsys.stores.online import memory_stores
from recsys.stores.users import UserStore
from recsys.stores.users.memory import MemoryUserStore
from recsys.users import HistoryEntry, UserFeatures
from tests.environment.versions import publish_small_version
from tests.environment.waiting import wait_until

PATIENT = 30.0
"""A deadline that a busy machine keeps."""


class CountingStore(MemoryUserStore):
    """Counts users per read; waits for `gate` and fails with `failure` where they are set."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[int] = []
        self.gate: asyncio.Event | None = None
        self.failure: Exception | None = None

    async def read(
        self, user_ids: Sequence[str], version: str | None = None, *, shown: bool = False, batch: bool = False
    ) -> list[UserFeatures]:
        self.reads.append(len(user_ids))
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return await super().read(user_ids, version, shown=shown, batch=batch)


def version(tmp_path: Path, name: str, seed: int = 0) -> LoadedVersion:
    manifest = publish_small_version(MemoryModelRegistry(), tmp_path, name, seed)
    index = Index.open(tmp_path / name, manifest)
    return LoadedVersion(index, Catalogue.of(index))


@pytest.fixture
def live_index(tmp_path: Path) -> LiveIndex:
    live = LiveIndex()
    live.swap(version(tmp_path, "first"))
    return live


def batcher_of(
    live_index: LiveIndex, users: UserStore, deadline: float = PATIENT, rollouts: LiveRollouts | None = None
) -> MicroBatcher:
    stores = memory_stores()
    features, trends, rollouts = FeatureReader(users, CircuitBreaker()), LiveTrends(), rollouts or LiveRollouts()
    guard = CanaryGuard(
        MemoryModelRegistry(), stores.outcomes, stores.notifications, live_index, rollouts, interval=1.0
    )
    answerer = Answerer(live_index, features, trends, rollouts)
    shadow = Shadow(rollouts, live_index, answerer, stores.counters)
    return MicroBatcher(answerer, rollouts, guard, shadow, deadline)


async def test_requests_of_one_turn_share_one_round_trip(live_index: LiveIndex) -> None:
    users = CountingStore()
    await users.save([UserFeatures("u1", (HistoryEntry(1, 1, "i1", "view"),))])
    batcher = batcher_of(live_index, users)
    replies = await asyncio.gather(*(batcher.recommend(Query(user_id=f"u{n % 3}", k=3)) for n in range(30)))
    assert users.reads == [30]
    assert {one.result.fallback_level.value for one in replies[1::3]} == {"folded"}
    assert {one.result.fallback_level.value for one in replies[0::3]} == {"snapshot"}


async def test_a_slow_store_is_asked_for_many_at_once(live_index: LiveIndex) -> None:
    users = CountingStore()
    users.gate = asyncio.Event()
    batcher = batcher_of(live_index, users)
    asked = []
    for n in range(20):
        asked.append(asyncio.create_task(batcher.recommend(Query(user_id=f"u{n}", k=3))))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    users.gate.set()
    await asyncio.gather(*asked)
    assert sum(users.reads) == 20
    assert len(users.reads) <= 5, "what came while four reads were under way went together"


async def test_a_request_under_way_keeps_its_version_through_a_swap(live_index: LiveIndex, tmp_path: Path) -> None:
    users = CountingStore()
    users.gate = asyncio.Event()
    batcher = batcher_of(live_index, users)
    before = asyncio.create_task(batcher.recommend(Query(user_id="u1")))
    await wait_until(lambda: users.reads)
    live_index.swap(version(tmp_path, "second", 2))
    users.gate.set()
    assert (await before).result.version == "first"
    assert (await batcher.recommend(Query(user_id="u1"))).result.version == "second"


async def test_a_bug_in_the_store_costs_nobody_their_answer(live_index: LiveIndex) -> None:
    users = CountingStore()
    users.failure = TypeError("a bug")
    batcher = batcher_of(live_index, users)
    replies = await asyncio.gather(*(batcher.recommend(Query(user_id=f"u{n}")) for n in range(3)))
    assert [(one.result.fallback_level.value, one.degraded) for one in replies] == [("snapshot", True)] * 3


async def test_without_a_version_there_is_no_answer() -> None:
    batcher = batcher_of(LiveIndex(), CountingStore())
    with pytest.raises(Unavailable, match="train one"):
        await batcher.recommend(Query())


async def test_an_answer_that_takes_too_long_is_made_of_popular_items(live_index: LiveIndex) -> None:
    users = CountingStore()
    users.gate = asyncio.Event()
    batcher = batcher_of(live_index, users, deadline=0.01)
    reply = await batcher.recommend(Query(user_id="u1", k=3, exclude=("i0",)))
    assert (reply.result.fallback_level.value, reply.degraded) == ("popular", True)
    assert reply.live.catalogue.ids(reply.result.rows) == ["i1", "i2", "i3"]
    users.gate.set()
    await batcher.aclose()


class BrokenCatalogue:
    """Stands for an index that cannot be searched."""

    version = "broken"

    def __getattr__(self, name: str) -> object:
        raise RuntimeError("no answer from this version")


async def test_a_version_beside_the_live_one_that_cannot_answer_is_stood_in_for(
    live_index: LiveIndex, tmp_path: Path
) -> None:
    second = version(tmp_path, "second", seed=2)
    live_index.alternates["second"] = replace(second, catalogue=cast("Catalogue", BrokenCatalogue()))
    rollouts = LiveRollouts()
    rollouts.pinned = {"cart": "second"}
    batcher = batcher_of(live_index, CountingStore(), rollouts=rollouts)
    at_cart, at_home = await asyncio.gather(
        batcher.recommend(Query(user_id="u2"), "cart"), batcher.recommend(Query(user_id="u2"), "home")
    )
    assert at_cart.stood_in
    assert not at_home.stood_in
    assert at_cart.result.version == at_home.result.version == "first"
    assert at_cart.result.rows.tolist() == at_home.result.rows.tolist()


class Backwards(Stage):
    """Shows the last item first."""

    name = "backwards"

    def run(self, drafts: Sequence[Draft], _: Sources) -> None:
        for draft in drafts:
            draft.ranked = draft.ranked.only(range(len(draft.ranked))[::-1])


async def test_an_answerer_runs_the_pipeline_that_it_gets(live_index: LiveIndex) -> None:
    backwards = Pipeline(PIPELINE.sources, (*PIPELINE.stages, Backwards()))
    query, features = Query(user_id="u1", k=5), FeatureReader(memory_stores().users, CircuitBreaker())
    answers = []
    for pipeline in (PIPELINE, backwards):
        answerer = Answerer(live_index, features, LiveTrends(), LiveRollouts(), pipeline)
        answers += await answerer.answer([query], answerer.live())
        reply, trace = await answerer.trace(query)
        assert reply.ids == answers[-1].ids
        assert [stage.name for stage, _ in trace.orders][-1] == pipeline.stages[-1].name
    assert answers[0].ids == answers[1].ids[::-1]
