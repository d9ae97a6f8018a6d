"""The request path on one screen: the queries of one event-loop turn -> one feature read -> one recommendation."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import TypeVar

import msgspec
import structlog

from app.metrics import FALLBACK_LEVELS, SEARCH_SECONDS
from app.serving.feature_reader import FeatureReader
from app.serving.served import Served, served
from app.serving.shadow import Shadow
from app.versions.canary_guard import CanaryGuard
from app.versions.live_index import LiveIndex, LoadedVersion
from app.versions.rollouts import LiveRollouts
from app.versions.trend_watcher import LiveTrends
from recsys.errors import Unavailable
from recsys.observability.throttle import log_throttled
from recsys.recommender.pipeline import has_masks, recommend, recommend_many
from recsys.recommender.placement import Candidates, Source
from recsys.recommender.query import Query
from recsys.recommender.stages.stage import Trace
from recsys.users import UserFeatures

log = structlog.get_logger()
NO_VERSION = "no index version is live yet: train one and promote it (millirec train)"
DEADLINE = 0.25
POPULAR = (Candidates(Source.POPULAR),)
MAX_TOGETHER = 256
"""Queries answered together at most."""
MAX_BATCHES = 4
"""Batches under way at most: more would all be late."""
OF_BATCH = 32
"""Queries of a batch answered at a time at most; fewer where that would hold the event loop too long."""
ITEMS_OF_PART = 4096
"""And so many items, which are made into JSON on the event loop."""
MAX_TURNS = 4
"""Feature reads under way at most: more would be smaller ones, and cost more per query."""


T = TypeVar("T")
QueryFeatures = tuple[Query, UserFeatures | None]
Waiting = tuple[Query, str | None, "asyncio.Future[Served]"]
"""A query, and the version that is to answer it where that is not the live one."""


class Serving:
    """Answers queries from the versions in memory and the feature store. Create it on its event loop."""

    def __init__(
        self,
        live_index: LiveIndex,
        features: FeatureReader,
        trends: LiveTrends,
        rollouts: LiveRollouts,
        guard: CanaryGuard,
        shadow: Shadow,
        deadline: float = DEADLINE,
    ) -> None:
        self._live_index = live_index
        self._rollouts = rollouts
        self._guard = guard
        self._shadow = shadow
        self._features = features
        self._trends = trends
        self._deadline = deadline
        # Kept, because asking for it is a system call up to Python 3.11.
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Waiting] = []
        self._arrived: list[Waiting] | None = None
        self._turns: set[asyncio.Task[None]] = set()
        self._batches = asyncio.Semaphore(MAX_BATCHES)
        self._turn_of_batches = asyncio.Lock()

    def live(self) -> LoadedVersion:
        """The version that answers now. Raises `Unavailable` while there is none."""
        if self._live_index.current is None:
            raise Unavailable(self._missing(), retry_after=5.0)
        return self._live_index.current

    def _missing(self) -> str:
        fallback = self._live_index.fallback
        return NO_VERSION if fallback is None else f"{fallback}, nor can any version that was live before it"

    def loaded(self, version: str) -> LoadedVersion | None:
        """The named version, if it is in memory."""
        return self._live_index.loaded(version)

    async def recommend(self, query: Query, placement: str = "") -> Served:
        """Personal items, or the best the fallback ladder has; consistent with exactly one version.

        Queries that wait in the same turn of the event loop share a store round trip, look-ups and searches. The
        name of the `placement` and the user may have another version than the live one answer (`LiveRollouts`).
        """
        chosen = self._rollouts.choose(query.user_id, placement)
        if chosen is None:
            reply = await self._answer(query, None)
        else:
            began = perf_counter()
            reply = await self._answer(query, chosen.version)
            reply.variant = chosen.variant
            seconds = perf_counter() - began
            self._guard.note(chosen, reply.result, seconds, degraded=reply.degraded, stood_in=reply.stood_in)
        if self._rollouts.shadow is not None:
            self._shadow.offer(query, reply.result, reply.live, reply.seconds)
        return reply

    async def _answer(self, query: Query, version: str | None) -> Served:
        live, loop = self.live(), self._loop
        if self._arrived is None:
            # One timer for all that come in this turn of the event loop, which does no harm when they are done.
            self._arrived = []
            loop.call_soon(self._flush)
            loop.call_later(self._deadline, self._give_up, self._arrived, live)
        answer: asyncio.Future[Served] = loop.create_future()
        self._arrived.append((query, version, answer))
        self._waiting.append(self._arrived[-1])
        return await answer

    async def recommend_all(self, queries: Sequence[Query], encode: Callable[[Sequence[Served]], T]) -> list[T]:
        """Answers to the queries of a batch, all from one version and in order, without a deadline.

        They come in parts, each as `encode` returns it. Parts of all batches take turns with each other and with other
        work of the event loop; a cancelled batch ends with the current part.
        """
        live, parts, start = self.live(), list[T](), 0
        async with self._batches:
            while start < len(queries):
                size = max(1, min(OF_BATCH, ITEMS_OF_PART // queries[start].k))
                size = live.search_cost.fitting(queries[start : start + size])
                pairs = await self._with_features(queries[start : start + size], live, batch=True)
                async with self._turn_of_batches:
                    parts.append(encode(await self._answers(pairs, live)))
                    # The next batch gets its turn in the next round of the loop, after other work.
                    await asyncio.sleep(0)
                start += size
        return parts

    async def trace(
        self, query: Query, placement: str = "", version: LoadedVersion | None = None
    ) -> tuple[Served, Trace]:
        """`recommend` with a record of every stage, one query at a time, without recording outcomes of a rollout.

        With `version`, the answer of that version for an operator, not counted as traffic.
        """
        trace, chosen = Trace(), None if version else self._rollouts.choose(query.user_id, placement)
        beside = None if chosen is None or chosen.version is None else self._live_index.alternates.get(chosen.version)
        target = version or beside or self.live()
        reply = (await self._serve([query], target, trace, counted=version is None))[0]
        reply.variant = None if chosen is None else chosen.variant
        return reply, trace

    async def aclose(self) -> None:
        """Wait for the queries under way."""
        await asyncio.gather(*self._turns, return_exceptions=True)

    def _give_up(self, arrived: Sequence[Waiting], live: LoadedVersion) -> None:
        """Answer what is unanswered at the deadline with popular items, which need neither features nor a search."""
        for query, _, answer in arrived:
            if not answer.done():
                impersonal = replace(
                    query, user_id=None, placement=msgspec.structs.replace(query.placement, sources=POPULAR)
                )
                result = recommend(impersonal, None, live.catalogue)
                FALLBACK_LEVELS[result.fallback_level, True].inc()
                answer.set_result(served([result], live, [True])[0])

    def _flush(self) -> None:
        self._arrived = None
        while self._waiting and len(self._turns) < MAX_TURNS:
            together, self._waiting = self._waiting[:MAX_TOGETHER], self._waiting[MAX_TOGETHER:]
            task = asyncio.create_task(self._turn(together))
            self._turns.add(task)
            task.add_done_callback(self._end_turn)

    def _end_turn(self, task: asyncio.Task[None]) -> None:
        self._turns.discard(task)
        self._flush()

    async def _turn(self, waiting: Sequence[Waiting]) -> None:
        """Answer queries, those for the same version together."""
        of_live = [entry for entry in waiting if entry[1] is None]
        groups = [self._fulfil(of_live, None)] if of_live else []
        if len(of_live) < len(waiting):
            versions = {version for _, version, _ in waiting if version is not None}
            groups += [
                self._fulfil([entry for entry in waiting if entry[1] == version], version) for version in versions
            ]
        if len(groups) == 1:
            await groups[0]
        else:
            await asyncio.gather(*groups)

    async def _fulfil(self, waiting: Sequence[Waiting], version: str | None) -> None:
        """Set the answer of every query, or the error."""
        try:
            answers = await self._serve_by(version, [query for query, _, _ in waiting])
        except BaseException as error:
            for _, _, answer in waiting:
                if not answer.done():
                    answer.set_exception(error if isinstance(error, Exception) else Unavailable("shutting down"))
            if not isinstance(error, Exception):
                raise
            return
        for (_, _, answer), reply in zip(waiting, answers, strict=True):
            if not answer.done():
                answer.set_result(reply)

    async def _serve_by(self, version: str | None, queries: Sequence[Query]) -> list[Served]:
        """The answers of `version`; those of the live version if it is not loaded or fails."""
        loaded = None if version is None else self._live_index.alternates.get(version)
        if loaded is None:
            return await self._serve(queries, self.live())
        try:
            return await self._serve(queries, loaded)
        except Exception as error:  # noqa: BLE001  # whatever it does wrong, the live one answers
            event, cause = "a version beside the live one could not answer", type(error).__name__
            log_throttled(log, "error", event, cause=cause, version=version, exc_info=error)
            answers = await self._serve(queries, self.live())
            for reply in answers:
                reply.stood_in = True
            return answers

    async def _serve(
        self, queries: Sequence[Query], live: LoadedVersion, trace: Trace | None = None, *, counted: bool = True
    ) -> list[Served]:
        return await self._answers(await self._with_features(queries, live), live, trace, counted=counted)

    async def _with_features(
        self, queries: Sequence[Query], live: LoadedVersion, *, batch: bool = False
    ) -> Sequence[QueryFeatures]:
        users = [query.user_id for query in queries if query.user_id is not None]
        shown = any(query.placement.rotate_hours for query in queries)
        records = iter(await self._features.read(users, live.index.version, shown=shown, batch=batch))
        return [(query, None if query.user_id is None else next(records)) for query in queries]

    async def _answers(
        self, pairs: Sequence[QueryFeatures], live: LoadedVersion, trace: Trace | None = None, *, counted: bool = True
    ) -> list[Served]:
        began = perf_counter()
        queries = [query for query, _ in pairs]
        call = partial(recommend_many, pairs, live.catalogue, self._trends.current, trace)
        beside = not has_masks(queries, live.catalogue)
        results = await live.search_cost.run(queries, call, beside=beside)
        seconds = (perf_counter() - began) / len(pairs)
        SEARCH_SECONDS.observe(seconds)
        degraded = [query.user_id is not None and features is None for query, features in pairs]
        if counted:
            for result, lacking in zip(results, degraded, strict=True):
                FALLBACK_LEVELS[result.fallback_level, lacking].inc()
        return served(results, live, degraded, seconds)
