"""Reporter: tells the feature store every few seconds what this process is about, and when it ends."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from recsys.errors import StoreUnavailable
from recsys.stores.feature_store.protocol import FeatureStore
from recsys.stores.heartbeat import REPORT_SECONDS, Heartbeat


class Reporter:
    """Reports the heartbeat that `heartbeat()` returns, every `REPORT_SECONDS`."""

    def __init__(self, store: FeatureStore, heartbeat: Callable[[], Heartbeat]) -> None:
        self._store = store
        self._heartbeat = heartbeat

    async def run(self) -> None:
        """Report until cancelled, then leave; a store that is unavailable is ignored."""
        try:
            while True:
                with suppress(StoreUnavailable):
                    await self._store.report(self._heartbeat())
                await asyncio.sleep(REPORT_SECONDS)
        finally:
            with suppress(StoreUnavailable):
                await self._store.leave(self._heartbeat().process)
