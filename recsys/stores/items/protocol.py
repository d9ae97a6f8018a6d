"""The store of items: the catalogue, merged by time, with a feed of what changed.

Ingest alone writes it: the consumer group `features`, and a rebuild from the log. The service follows the feed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from recsys.errors import InvalidInput
from recsys.messages.item import Item


@dataclass(frozen=True, slots=True)
class ItemChanges:
    """Items changed after some revision, each once in its newest state, and the revision reached."""

    revision: int
    items: list[Item]
    complete: bool
    """False when more changes wait (call again with `revision`)."""


class ItemStore(Protocol):
    """The catalogue. Methods raise `StoreUnavailable` when the server does not answer in time."""

    async def put(self, items: Sequence[Item], *, whole: bool = False) -> dict[int, InvalidInput]:
        """Merge each update into the catalogue (the newer `updated_at` wins) and notify `ITEMS_CHANNEL`.

        Returns what is refused and why, by position in `items`: an update whose properties have no room beside those
        that the item has. Nothing of it is applied, and all else is. An entry that cannot be read is replaced only by
        an update that says `available`, or by a `whole` item.
        """
        ...

    async def get(self, item_ids: Sequence[str]) -> list[Item | None]:
        """The item per id, `None` where there is none. An entry that cannot be read is an item that is hidden."""
        ...

    async def changes(self, since: int, limit: int = 10_000) -> ItemChanges:
        """Changes after revision `since` (0: the whole catalogue), oldest first.

        A `since` above all that is stored means that the store was lost: everything comes again,
        and the revision reached is lower. Callers store the revision they get in either case.
        """
        ...
