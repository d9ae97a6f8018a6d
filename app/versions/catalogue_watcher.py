"""CatalogueWatcher: item changes reach the versions in memory within a second, without a new version."""

import asyncio

import structlog

from app.versions.live_index import LiveIndex, catch_up
from recsys.errors import StoreUnavailable
from recsys.observability.throttle import log_throttled
from recsys.stores.items import ItemStore
from recsys.stores.notifications import ITEMS_CHANNEL, Notifications

log = structlog.get_logger()


class CatalogueWatcher:
    """Applies changes of items to every version in memory; while the store is away, the items stay as they are."""

    def __init__(
        self, live_index: LiveIndex, items: ItemStore, notifications: Notifications, poll_interval: float
    ) -> None:
        self._live_index = live_index
        self._items = items
        self._notifications = notifications
        self._poll_interval = poll_interval

    async def run(self) -> None:
        """Follow the store's change feed until cancelled."""
        while True:
            try:
                for loaded in self._live_index.in_memory():
                    self._live_index.change_items(await catch_up(loaded, self._items))
                await self._notifications.wait(ITEMS_CHANNEL, self._poll_interval)
            except StoreUnavailable as error:
                log_throttled(log, "warning", "item changes cannot be read, serving on", error=str(error))
                await asyncio.sleep(self._poll_interval)
