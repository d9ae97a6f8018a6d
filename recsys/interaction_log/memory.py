"""The interaction log in memory: for tests and for looking around; gone when the process ends."""

from collections.abc import Mapping, Sequence
from threading import Lock

import polars as pl

from recsys.errors import NotFound
from recsys.interaction_log.departures import ERASURE_SCHEMA, MERGE_SCHEMA, erasure_rows, merge_rows, settled
from recsys.interaction_log.protocol import INTERACTION_SCHEMA
from recsys.interaction_log.rows import each_event_once, merged_items, unseen
from recsys.item import Item
from recsys.user_features import Positioned


class MemoryInteractionLog:
    """Version n is everything appended by the first n + 1 appends."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._frames: list[pl.DataFrame] = []
        self._watermarks: dict[str, int] = {}
        self._updates: list[Item] = []
        self._erasures = pl.DataFrame(schema=ERASURE_SCHEMA)
        self._merges = pl.DataFrame(schema=MERGE_SCHEMA)

    def append(self, rows: pl.DataFrame, watermarks: Mapping[str, int]) -> bool:
        with self._lock:
            stored = {partition: self.watermark(partition) for partition in watermarks}
            fresh = unseen(rows, watermarks, stored)
            moved = {partition: offset for partition, offset in watermarks.items() if offset > stored[partition]}
            if not moved:
                return False
            self._frames.append(fresh)
            self._watermarks.update(moved)
            return True

    def watermark(self, partition: str) -> int:
        return self._watermarks.get(partition, -1)

    def version(self) -> int:
        return len(self._frames) - 1

    def read(self, version: int | None = None) -> pl.LazyFrame:
        if version is not None and not 0 <= version <= self.version():
            raise NotFound("interaction log version", str(version))
        with self._lock:
            frames = self._frames if version is None else self._frames[: version + 1]
            rows = pl.concat([pl.DataFrame(schema=INTERACTION_SCHEMA), *frames])
            return each_event_once(settled(rows.lazy(), self._erasures, self._merges))

    def append_items(self, items: Sequence[Item]) -> None:
        with self._lock:
            self._updates.extend(items)

    def items(self) -> list[Item]:
        return merged_items(self._updates)

    def erase(self, erasures: Sequence[Positioned]) -> None:
        with self._lock:
            self._erasures = self._erasures.vstack(erasure_rows(erasures)).unique()

    def merge(self, merges: Sequence[Positioned]) -> None:
        with self._lock:
            self._merges = self._merges.vstack(merge_rows(merges)).unique()

    def compact(self) -> None:
        """Nothing to do: there are no files."""
