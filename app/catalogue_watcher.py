"""CatalogueWatcher: item changes reach the versions in memory within a second, without a new version."""

import asyncio

import structlog

from app.index_watcher import newer
from app.live_index import LiveIndex, LoadedVersion
from recsys.errors import StoreUnavailable
from recsys.feature_store import ITEMS_CHANNEL, FeatureStore

log = structlog.get_logger()


class CatalogueWatcher:
    def __init__(self, live_index: LiveIndex, store: FeatureStore, poll_interval: float) -> None:
        self._live_index = live_index
        self._store = store
        self._poll_interval = poll_interval

    async def run(self) -> None:
        """Follow the store's change feed until cancelled."""
        while True:
            try:
                for loaded in (self._live_index.current, self._live_index.previous):
                    if loaded is not None:
                        await self._catch_up(loaded)
                await self._store.wait_for_nudge(ITEMS_CHANNEL, self._poll_interval)
            except StoreUnavailable as error:
                log.warning("item changes cannot be read, serving on", error=str(error))
                await asyncio.sleep(self._poll_interval)

    async def _catch_up(self, loaded: LoadedVersion) -> None:
        changes = await self._store.items_changed(loaded.item_revision)
        while changes.revision != loaded.item_revision:
            # Off the loop: a large change must not delay a request.
            loaded = await asyncio.to_thread(loaded.with_changes, newer(changes.items, loaded), changes.revision)
            self._live_index.change_items(loaded)
            if changes.complete:
                return
            changes = await self._store.items_changed(loaded.item_revision)
