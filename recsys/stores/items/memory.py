"""The store of items inside one process, for tests and experiments; nothing outlives it."""

from collections.abc import Sequence

from recsys.errors import InvalidInput
from recsys.messages.item import Item
from recsys.stores.items.merging import applied, by_item
from recsys.stores.items.protocol import ItemChanges
from recsys.stores.notifications import ITEMS_CHANNEL, Notifications


class MemoryItemStore:
    """An `ItemStore` in dictionaries."""

    def __init__(self, notifications: Notifications) -> None:
        self._notifications = notifications
        self._items: dict[str, Item] = {}
        self._changed: dict[str, int] = {}
        self._revision = 0

    async def put(
        self,
        items: Sequence[Item],
        *,
        whole: bool = False,  # noqa: ARG002  # nothing in memory is unreadable
    ) -> dict[int, InvalidInput]:
        """See `ItemStore.put`; `whole` changes nothing, because every item is readable."""
        changed, refused = False, dict[int, InvalidInput]()
        for item_id, updates in by_item(items).items():
            current = self._items.get(item_id)
            new, without = applied(current, updates)
            refused |= without
            if new is None or new == current:
                continue
            changed = True
            self._revision += 1
            self._items[item_id] = new
            self._changed.pop(item_id, None)
            self._changed[item_id] = self._revision
        if changed:
            await self._notifications.send(ITEMS_CHANNEL)
        return refused

    async def get(self, item_ids: Sequence[str]) -> list[Item | None]:
        """See `ItemStore.get`."""
        return [self._items.get(item_id) for item_id in item_ids]

    async def changes(self, since: int, limit: int = 10_000) -> ItemChanges:
        """See `ItemStore.changes`."""
        start = since if since <= self._revision else 0
        news = [(revision, item_id) for item_id, revision in self._changed.items() if revision > start]
        page = news[:limit]
        return ItemChanges(
            revision=page[-1][0] if page else self._revision,
            items=[self._items[item_id] for _, item_id in page],
            complete=len(news) <= limit,
        )
