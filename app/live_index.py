"""LiveIndex: the version that answers now, and the one that answered before, ready for a rollback."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from app.metrics import INDEX_INFO, SWAPS
from recsys.item import Item
from recsys.recommender import Catalogue, Index


@dataclass(frozen=True, slots=True)
class LoadedVersion:
    """A version with its items as of `item_revision` of the feature store's change feed."""

    index: Index
    catalogue: Catalogue
    item_revision: int = 0

    def with_changes(self, items: Iterable[Item], revision: int) -> "LoadedVersion":
        return replace(self, catalogue=self.catalogue.updated(items), item_revision=revision)


class LiveIndex:
    """Lives on the event loop's thread only, so that a swap is one assignment and needs no lock."""

    def __init__(self) -> None:
        self.current: LoadedVersion | None = None
        self.previous: LoadedVersion | None = None

    def loaded(self, version: str) -> LoadedVersion | None:
        """The named version, if it is in memory."""
        for one in (self.current, self.previous):
            if one is not None and one.index.version == version:
                return one
        return None

    def swap(self, loaded: LoadedVersion) -> None:
        """Answer from `loaded` from the next request on; requests under way keep what they took."""
        if self.current is not None and self.current.index.version != loaded.index.version:
            self.previous = self.current
            INDEX_INFO.labels(self.current.index.version).set(0)
        self.current = loaded
        INDEX_INFO.labels(loaded.index.version).set(1)
        SWAPS.inc()

    def change_items(self, changed: LoadedVersion) -> None:
        """Put a version's newer catalogue in its place; a version that left meanwhile is passed over."""
        if self.current is not None and self.current.index is changed.index:
            self.current = changed
        elif self.previous is not None and self.previous.index is changed.index:
            self.previous = changed
