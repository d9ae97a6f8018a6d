"""Shadow: a share of the requests is answered by another version too, after its answer and within a budget."""

import asyncio
from collections import Counter, deque
from random import random
from time import perf_counter

import numpy as np
import structlog

from app.metrics import SHADOW_COMPARED, SHADOW_FAILED, SHADOW_OVERLAP, SHADOW_SECONDS, SHADOW_SKIPPED
from app.serving.answerer import Answerer, Reply
from app.versions.live_index import LiveIndex
from app.versions.rollouts import LiveRollouts, RunningRollout
from recsys.errors import StoreUnavailable
from recsys.experiments.shadow import COMPARED, FAILED, MILLIONTHS, OVERLAP, SCORES, SKIPPED, time_counted
from recsys.observability.throttle import log_throttled
from recsys.recommender.placement import Source
from recsys.recommender.query import Query
from recsys.stores.counters import CounterStore

log = structlog.get_logger()
WAITING = 64
BUDGET = 0.02
"""The part of the time that is spent on it, waiting included: after each comparison comes a pause 49 times as long.

A larger part shows in the 99th percentile of latencies (docs/rollouts.md).
"""
SEND_EVERY = 2.0
"""Seconds between sending of counts to the store."""

Sample = tuple[Query, Reply]


class Shadow:
    """Compares answers with those of the shadow. Requests wait in a bounded queue; the excess is counted."""

    def __init__(
        self,
        rollouts: LiveRollouts,
        live_index: LiveIndex,
        answerer: Answerer,
        counters: CounterStore,
    ) -> None:
        self._rollouts = rollouts
        self._live_index = live_index
        self._answerer = answerer
        self._counters = counters
        self._waiting: deque[Sample] = deque()
        self._drawn = asyncio.Event()
        self._counts: Counter[str] = Counter()
        self._counted_for = ""
        self._sent = 0.0

    def offer(self, query: Query, reply: Reply) -> None:
        """Take a share of the requests for comparison; `reply` is the one of the live version."""
        shadow = self._rollouts.shadow
        if shadow is None or random() >= shadow.rollout.share:  # noqa: S311
            return
        if len(self._waiting) >= WAITING:
            self._counts[SKIPPED] += 1
            SHADOW_SKIPPED.inc()
            return
        self._waiting.append((query, reply))
        self._drawn.set()

    async def run(self) -> None:
        """Compare until cancelled."""
        while True:
            await self._drawn.wait()
            self._drawn.clear()
            while self._waiting:
                began = perf_counter()
                shadow = self._rollouts.shadow
                drawn = self._waiting.popleft()
                if shadow is not None:
                    await self._compare(shadow, *drawn)
                await self._send(shadow)
                await asyncio.sleep((perf_counter() - began) * (1 / BUDGET - 1))

    async def _compare(self, shadow: RunningRollout, query: Query, reply: Reply) -> None:
        loaded = self._live_index.alternates.get(shadow.version)
        if loaded is None or loaded.index is reply.live.index:
            return
        if self._counted_for != shadow.rollout.experiment:
            self._counts, self._counted_for = Counter(), shadow.rollout.experiment
        try:
            (alternative,) = await self._answerer.answer([query], loaded, counted=False, batch=True)
        except Exception as error:  # noqa: BLE001  # finding errors of a candidate is the purpose
            self._counts[FAILED] += 1
            SHADOW_FAILED.inc()
            cause = type(error).__name__
            log_throttled(
                log, "warning", "the shadow could not answer", cause=cause, version=shadow.version, error=repr(error)
            )
            return
        overlap = len(set(reply.ids) & set(alternative.ids)) / max(len(reply.ids), len(alternative.ids), 1)
        SHADOW_COMPARED.inc()
        SHADOW_OVERLAP.observe(overlap)
        SHADOW_SECONDS.observe(alternative.seconds)
        self._counts.update({COMPARED: 1, OVERLAP: round(overlap * MILLIONTHS)})
        for side, answer in (("live", reply), ("shadow", alternative)):
            scores = answer.result.scores[[source is Source.PERSONAL for source in answer.result.sources]]
            total = round(float(np.sum(scores, dtype=np.float64)) * MILLIONTHS)
            self._counts.update((time_counted(side, answer.seconds),))
            self._counts.update({f"{side}:{SCORES}": total, f"{side}:{SCORES}:n": len(scores)})

    async def _send(self, shadow: RunningRollout | None) -> None:
        if shadow is None or not self._counts or perf_counter() - self._sent < SEND_EVERY:
            return
        counts, self._counts, self._sent = self._counts, Counter(), perf_counter()
        try:
            await self._counters.increment(shadow.rollout.experiment, counts)
        except StoreUnavailable as error:
            event = "what the shadow showed is lost for the report"
            log_throttled(log, "warning", event, cause=type(error).__name__, error=str(error))
