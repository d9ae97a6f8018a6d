"""MicroBatcher: the queries of one event-loop turn are answered together, each before its deadline."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter

import msgspec

from app.metrics import FALLBACK_LEVELS
from app.serving.answerer import Answerer, Reply, replies
from app.serving.shadow import Shadow
from app.versions.canary_guard import CanaryGuard
from app.versions.live_index import LoadedVersion
from app.versions.rollouts import LiveRollouts
from recsys.errors import Unavailable
from recsys.recommender.pipeline import recommend
from recsys.recommender.placement import Candidates, Source
from recsys.recommender.query import Query

DEADLINE = 0.25
POPULAR = (Candidates(Source.POPULAR),)
MAX_TOGETHER = 256
"""Queries answered together at most."""
MAX_TURNS = 4
"""Feature reads under way at most: more would be smaller ones, and cost more per query."""

Waiting = tuple[Query, str | None, "asyncio.Future[Reply]"]
"""A query, and the version that is to answer it where that is not the live one."""


class MicroBatcher:
    """Collects queries for the answerer, and tells canary and shadow of the replies. Create it on its event loop."""

    def __init__(
        self,
        answerer: Answerer,
        rollouts: LiveRollouts,
        guard: CanaryGuard,
        shadow: Shadow,
        deadline: float = DEADLINE,
    ) -> None:
        self._answerer = answerer
        self._rollouts = rollouts
        self._guard = guard
        self._shadow = shadow
        self._deadline = deadline
        # Kept, because asking for it is a system call up to Python 3.11.
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Waiting] = []
        self._arrived: list[Waiting] | None = None
        self._turns: set[asyncio.Task[None]] = set()

    async def recommend(self, query: Query, placement: str = "") -> Reply:
        """Personal items, or the best the fallback ladder has; consistent with exactly one version.

        Queries that wait in the same turn of the event loop share a store round trip, look-ups and searches. The
        name of the `placement` and the user may have another version than the live one answer (`LiveRollouts`).
        """
        chosen = self._rollouts.choose(query.user_id, placement)
        if chosen is None:
            reply = await self._reply(query, None)
        else:
            began = perf_counter()
            reply = await self._reply(query, chosen.version)
            reply.variant = chosen.variant
            seconds = perf_counter() - began
            self._guard.note(chosen, reply.result, seconds, degraded=reply.degraded, stood_in=reply.stood_in)
        if self._rollouts.shadow is not None:
            self._shadow.offer(query, reply)
        return reply

    async def aclose(self) -> None:
        """Wait for the queries under way."""
        await asyncio.gather(*self._turns, return_exceptions=True)

    async def _reply(self, query: Query, version: str | None) -> Reply:
        live, loop = self._answerer.live(), self._loop
        if self._arrived is None:
            # One timer for all that come in this turn of the event loop, which does no harm when they are done.
            self._arrived = []
            loop.call_soon(self._flush)
            loop.call_later(self._deadline, self._give_up, self._arrived, live)
        answer: asyncio.Future[Reply] = loop.create_future()
        self._arrived.append((query, version, answer))
        self._waiting.append(self._arrived[-1])
        return await answer

    def _give_up(self, arrived: Sequence[Waiting], live: LoadedVersion) -> None:
        """Answer what is unanswered at the deadline with popular items, which need neither features nor a search."""
        for query, _, answer in arrived:
            if not answer.done():
                impersonal = replace(
                    query, user_id=None, placement=msgspec.structs.replace(query.placement, sources=POPULAR)
                )
                result = recommend(impersonal, None, live.catalogue)
                FALLBACK_LEVELS[result.fallback_level, True].inc()
                answer.set_result(replies([result], live, [True])[0])

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
            answers = await self._answerer.answer_by(version, [query for query, _, _ in waiting])
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
