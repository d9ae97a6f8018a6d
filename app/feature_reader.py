"""FeatureReader: reads that wait in the same turn of the event loop leave as one round trip."""

import asyncio
from collections.abc import Sequence
from time import perf_counter

import structlog

from app.metrics import FEATURE_READ_ERRORS, FEATURE_READ_SECONDS
from recsys.errors import StoreUnavailable
from recsys.feature_store import FeatureStore
from recsys.user_features import UserFeatures

log = structlog.get_logger()
MAX_BATCH = 512


class FeatureReader:
    """Reads through `store`; a failed or unreadable record is `None`, counted and logged, never an exception."""

    def __init__(self, store: FeatureStore) -> None:
        self._store = store
        self._waiting: dict[str, list[tuple[str, asyncio.Future[UserFeatures | None]]]] = {}
        self._reads: set[asyncio.Task[None]] = set()

    async def read(self, user_id: str, version: str) -> UserFeatures | None:
        """The user's features with the embedding of `version`, or `None` when the store cannot say."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._flush)
        answer: asyncio.Future[UserFeatures | None] = loop.create_future()
        self._waiting.setdefault(version, []).append((user_id, answer))
        return await answer

    async def aclose(self) -> None:
        await asyncio.gather(*self._reads, return_exceptions=True)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for version, questions in waiting.items():
            for start in range(0, len(questions), MAX_BATCH):
                task = asyncio.create_task(self._read(version, questions[start : start + MAX_BATCH]))
                self._reads.add(task)
                task.add_done_callback(self._reads.discard)

    async def _read(self, version: str, questions: list[tuple[str, asyncio.Future[UserFeatures | None]]]) -> None:
        began = perf_counter()
        found: Sequence[UserFeatures | None] = [None] * len(questions)
        try:
            found = await self._store.read([user_id for user_id, _ in questions], version)
        except StoreUnavailable as error:
            FEATURE_READ_ERRORS.inc()
            log.warning("feature read failed, answering without", error=str(error), users=len(questions))
        finally:
            # Whatever happened, nobody may be left waiting.
            FEATURE_READ_SECONDS.observe(perf_counter() - began)
            for (_, answer), features in zip(questions, found, strict=True):
                if not answer.done():
                    answer.set_result(features if features is None or features.revision >= 0 else None)
