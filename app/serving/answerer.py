"""Answerer: queries -> one read of features -> one run of the pipeline over a version -> replies."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from time import perf_counter
from typing import TypeVar

import numpy as np
import structlog

from app.metrics import FALLBACK_LEVELS, SEARCH_SECONDS
from app.serving.feature_reader import FeatureReader
from app.versions.live_index import LiveIndex, LoadedVersion
from app.versions.rollouts import LiveRollouts
from app.versions.trend_watcher import LiveTrends
from recsys.errors import Unavailable
from recsys.experiments.rollout import Variant
from recsys.observability.throttle import log_throttled
from recsys.recommender.pipeline import PIPELINE, Pipeline, has_masks
from recsys.recommender.query import Query, Recommendation
from recsys.recommender.stages.stage import Trace
from recsys.users import UserFeatures

log = structlog.get_logger()
NO_VERSION = "no index version is live yet: train one and promote it (millirec train)"
NUMERALS = 6
"""Decimals of a score."""
MAX_BATCHES = 4
"""Batches under way at most: more would all be late."""
OF_BATCH = 32
"""Queries of a batch answered at a time at most; fewer where that would hold the event loop too long."""
ITEMS_OF_PART = 4096
"""And so many items, which are made into JSON on the event loop."""

T = TypeVar("T")
QueryFeatures = tuple[Query, UserFeatures | None]


@dataclass(slots=True)
class Reply:
    """A recommendation with what it was made from; `degraded` when the user's features could not be read.

    `ids` and rounded `scores` are those of its items; `seconds` it took in the recommender. `stood_in`: another
    version was to answer and could not.
    """

    result: Recommendation
    live: LoadedVersion
    degraded: bool
    ids: list[str]
    scores: list[float]
    seconds: float = 0.0
    stood_in: bool = False
    variant: Variant | None = None


def replies(
    results: Sequence[Recommendation], live: LoadedVersion, degraded: Iterable[bool], seconds: float = 0.0
) -> list[Reply]:
    """`results` of one version, each with its ids and scores: looking up ten times eight ids costs five times one."""
    ids = live.catalogue.ids(np.concatenate([result.rows for result in results]))
    scores = np.concatenate([result.scores for result in results]).astype(np.float64).round(NUMERALS).tolist()
    ends = accumulate(len(result.rows) for result in results)
    return [
        Reply(result, live, lacking, ids[end - len(result.rows) : end], scores[end - len(result.rows) : end], seconds)
        for result, lacking, end in zip(results, degraded, ends, strict=True)
    ]


class Answerer:
    """Answers from the versions in memory and the feature store. Create it on its event loop."""

    def __init__(
        self,
        live_index: LiveIndex,
        features: FeatureReader,
        trends: LiveTrends,
        rollouts: LiveRollouts,
        pipeline: Pipeline = PIPELINE,
    ) -> None:
        self._live_index = live_index
        self._features = features
        self._trends = trends
        self._rollouts = rollouts
        self._pipeline = pipeline
        self._batches = asyncio.Semaphore(MAX_BATCHES)
        self._turn_of_batches = asyncio.Lock()

    def live(self) -> LoadedVersion:
        """The version that answers now. Raises `Unavailable` while there is none."""
        if self._live_index.current is None:
            fallback = self._live_index.fallback
            missing = NO_VERSION if fallback is None else f"{fallback}, nor can any version that was live before it"
            raise Unavailable(missing, retry_after=5.0)
        return self._live_index.current

    def loaded(self, version: str) -> LoadedVersion | None:
        """The named version, if it is in memory."""
        return self._live_index.loaded(version)

    async def answer_by(self, version: str | None, queries: Sequence[Query]) -> list[Reply]:
        """The replies of `version`; those of the live version if it is not loaded or fails."""
        loaded = None if version is None else self._live_index.alternates.get(version)
        if loaded is None:
            return await self.answer(queries, self.live())
        try:
            return await self.answer(queries, loaded)
        except Exception as error:  # noqa: BLE001  # whatever it does wrong, the live one answers
            event, cause = "a version beside the live one could not answer", type(error).__name__
            log_throttled(log, "error", event, cause=cause, version=version, exc_info=error)
            answers = await self.answer(queries, self.live())
            for reply in answers:
                reply.stood_in = True
            return answers

    async def answer(
        self,
        queries: Sequence[Query],
        live: LoadedVersion,
        trace: Trace | None = None,
        *,
        counted: bool = True,
        batch: bool = False,
    ) -> list[Reply]:
        """The replies of one version. `counted` as traffic; `batch`: a read of features that may wait for others."""
        return await self._replies(await self._with_features(queries, live, batch=batch), live, trace, counted=counted)

    async def answer_all(self, queries: Sequence[Query], encode: Callable[[Sequence[Reply]], T]) -> list[T]:
        """Replies to the queries of a batch, all from one version and in order, without a deadline.

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
                    parts.append(encode(await self._replies(pairs, live)))
                    # The next batch gets its turn in the next round of the loop, after other work.
                    await asyncio.sleep(0)
                start += size
        return parts

    async def trace(
        self, query: Query, placement: str = "", version: LoadedVersion | None = None
    ) -> tuple[Reply, Trace]:
        """A reply with a record of every stage, one query at a time, without recording outcomes of a rollout.

        The name of the `placement` and the user may have another version than the live one answer (`LiveRollouts`).
        With `version`, the answer of that version for an operator, not counted as traffic.
        """
        trace, chosen = Trace(), None if version else self._rollouts.choose(query.user_id, placement)
        beside = None if chosen is None or chosen.version is None else self._live_index.alternates.get(chosen.version)
        target = version or beside or self.live()
        reply = (await self.answer([query], target, trace, counted=version is None))[0]
        reply.variant = None if chosen is None else chosen.variant
        return reply, trace

    async def _with_features(
        self, queries: Sequence[Query], live: LoadedVersion, *, batch: bool
    ) -> Sequence[QueryFeatures]:
        users = [query.user_id for query in queries if query.user_id is not None]
        shown = any(query.placement.rotate_hours for query in queries)
        records = iter(await self._features.read(users, live.index.version, shown=shown, batch=batch))
        return [(query, None if query.user_id is None else next(records)) for query in queries]

    async def _replies(
        self, pairs: Sequence[QueryFeatures], live: LoadedVersion, trace: Trace | None = None, *, counted: bool = True
    ) -> list[Reply]:
        began = perf_counter()
        queries = [query for query, _ in pairs]
        call = partial(self._pipeline.run, pairs, live.catalogue, self._trends.current, trace)
        beside = not has_masks(queries, live.catalogue)
        results = await live.search_cost.run(queries, call, beside=beside)
        seconds = (perf_counter() - began) / len(pairs)
        degraded = [query.user_id is not None and features is None for query, features in pairs]
        if counted:
            SEARCH_SECONDS.observe(seconds)
            for result, lacking in zip(results, degraded, strict=True):
                FALLBACK_LEVELS[result.fallback_level, lacking].inc()
        return replies(results, live, degraded, seconds)
