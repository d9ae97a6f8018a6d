"""LiveIndex: the version that answers now, and the one that answered before, ready for a rollback."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from app.metrics import INDEX_FALLBACK, INDEX_INFO, SWAPS
from app.versions.search_cost import SearchCost
from recsys.catalogue.catalogue import Catalogue
from recsys.index.index import Index
from recsys.messages.item import Item
from recsys.stores.items import ItemStore


@dataclass(frozen=True, slots=True)
class LoadedVersion:
    """A version with its items as of `item_revision` of the store's change feed."""

    index: Index
    catalogue: Catalogue
    item_revision: int = 0
    search_cost: SearchCost = field(default_factory=SearchCost, compare=False)

    def with_changes(self, items: Sequence[Item], revision: int) -> "LoadedVersion":
        """The version with those of `items` that are newer than its own. Call it in a thread: they may be thousands."""
        newer = self.catalogue.newer(items)
        catalogue = self.catalogue.updated(newer).warmed(self.catalogue) if newer else self.catalogue
        return replace(self, catalogue=catalogue, item_revision=revision)


async def catch_up(loaded: LoadedVersion, items: ItemStore) -> LoadedVersion:
    """`loaded` with all item changes so far, or `loaded` itself if there are none. Raises `StoreUnavailable`."""
    changes = await items.changes(loaded.item_revision)
    while changes.revision != loaded.item_revision:
        loaded = await asyncio.to_thread(loaded.with_changes, changes.items, changes.revision)
        if changes.complete:
            break
        changes = await items.changes(loaded.item_revision)
    return loaded


@dataclass(frozen=True, slots=True)
class Fallback:
    """A reason for answers by another version than the alias names; `version` is `None` if the registry cannot be read.

    `cause` is one word and public, and so is whether an earlier release wrote it; `detail` is for the log.
    """

    version: str | None
    cause: str
    detail: str
    outdated: bool = False

    def __str__(self) -> str:
        subject = "what is live" if self.version is None else f"version {self.version}"
        advice = ": an earlier release wrote it, train anew" if self.outdated else ""
        return f"{subject} cannot be loaded ({self.cause}{advice})"


class LiveIndex:
    """The versions in memory. Only the event loop changes them, so that a swap is one assignment without a lock."""

    def __init__(self) -> None:
        self.current: LoadedVersion | None = None
        self.previous: LoadedVersion | None = None
        self.alternates: dict[str, LoadedVersion] = {}
        """By version: those that answer some of the requests beside the live one (`LiveRollouts`)."""

        self.fallback: Fallback | None = None

    def fall_back(self, fallback: Fallback | None) -> None:
        """Note why the version that the alias names cannot be loaded; `None` if it is in service."""
        self.fallback = fallback
        INDEX_FALLBACK.set(fallback is not None)

    def in_memory(self) -> list[LoadedVersion]:
        """Every version in memory, the live one first."""
        versions = (self.current, self.previous, *self.alternates.values())
        return list({loaded.index.version: loaded for loaded in versions if loaded is not None}.values())

    def loaded(self, version: str) -> LoadedVersion | None:
        """The named version, if it is in memory."""
        return next((loaded for loaded in self.in_memory() if loaded.index.version == version), None)

    def swap(self, loaded: LoadedVersion) -> None:
        """Answer from `loaded` from the next request on; requests under way keep what they took."""
        if self.current is not None and self.current.index.version != loaded.index.version:
            self.previous = self.current
            INDEX_INFO.labels(self.current.index.version).set(0)
        self.current = loaded
        INDEX_INFO.labels(loaded.index.version).set(1)
        SWAPS.inc()

    def change_items(self, changed: LoadedVersion) -> None:
        """Replace the catalogue of a version by a newer one, if the version is still in memory."""
        if self.current is not None and self.current.index is changed.index:
            self.current = changed
        if self.previous is not None and self.previous.index is changed.index:
            self.previous = changed
        version = changed.index.version
        if version in self.alternates and self.alternates[version].index is changed.index:
            self.alternates[version] = changed
