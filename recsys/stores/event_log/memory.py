"""The interaction log in memory: for tests and for looking around; gone when the process ends."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from threading import Lock

import polars as pl

from recsys.errors import InvalidInput, NotFound
from recsys.messages.item import Item
from recsys.stores.event_log.cursors import CursorMove, SourcePosition, check_moves, decode_cursor, encode_cursor
from recsys.stores.event_log.identity_changes import identity_change_rows, settled
from recsys.stores.event_log.protocol import (
    IDENTITY_CHANGE_SCHEMA,
    NO_CURSORS,
    READ_SCHEMA,
    LogSize,
    Purge,
    Snapshot,
    VacuumResult,
)
from recsys.stores.event_log.rows import (
    EVENT,
    admitted,
    each_event_once,
    merged_items,
    purge_plan,
    reached_changes,
    rewritten,
    snapshot,
    unseen,
    with_every_column,
)
from recsys.users import PositionedMessage


class MemoryInteractionLog:
    """An `InteractionLog` in data frames; version n is everything appended by the first n + 1 appends."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._versions: list[tuple[pl.DataFrame, ...]] = []
        self._moments: list[datetime] = []
        self._watermarks: list[dict[str, int]] = []
        self._cursors: dict[str, bytes] = {}
        self._updates: list[Item] = []
        self._identity_changes = pl.DataFrame(schema=IDENTITY_CHANGE_SCHEMA)

    def append(
        self, rows: pl.DataFrame, watermarks: Mapping[str, int], cursors: Mapping[str, CursorMove] = NO_CURSORS
    ) -> bool:
        """See `InteractionLog.append`; every append that moves a watermark makes a version."""
        with self._lock:
            stored = {partition: self.watermark(partition) for partition in watermarks}
            check_moves(cursors, stored)
            encoded = {partition: encode_cursor(move.cursor) for partition, move in cursors.items()}
            fresh = unseen(rows, watermarks, stored)
            moved = {partition: offset for partition, offset in watermarks.items() if offset > stored[partition]}
            if not moved:
                return False
            self._versions.append((*self._newest(), with_every_column(fresh.lazy()).collect()))
            self._moments.append(datetime.now(UTC))
            self._watermarks.append({**(self._watermarks[-1] if self._watermarks else {}), **moved})
            self._cursors |= encoded
            return True

    def watermark(self, partition: str) -> int:
        """See `InteractionLog.watermark`."""
        return self._watermarks[-1].get(partition, -1) if self._watermarks else -1

    def source_position(self, partition: str) -> SourcePosition:
        """See `InteractionLog.source_position`."""
        with self._lock:
            content = self._cursors.get(partition)
            return SourcePosition(self.watermark(partition), None if content is None else decode_cursor(content))

    def watermarks(self, version: int | None = None) -> dict[str, int]:
        """See `InteractionLog.watermarks`."""
        self._check(version)
        return dict(self._watermarks[-1 if version is None else version]) if self._watermarks else {}

    def version(self) -> int:
        """See `InteractionLog.version`."""
        return len(self._versions) - 1

    def version_at(self, moment: datetime) -> int:
        """See `InteractionLog.version_at`; every version is kept."""
        return sum(appended_at <= moment for appended_at in self._moments) - 1

    def read(self, version: int | None = None) -> pl.LazyFrame:
        """See `InteractionLog.read`."""
        self._check(version)
        with self._lock:
            return each_event_once(settled(self._rows(version), self._identity_changes))

    def events(self) -> pl.LazyFrame:
        """See `InteractionLog.events`."""
        with self._lock:
            return settled(self._rows(None), self._identity_changes).select(*EVENT, "partition")

    def snapshot(self) -> Snapshot:
        """See `InteractionLog.snapshot`."""
        with self._lock:
            return snapshot(self.version(), self._rows(None), self.watermarks(), self._identity_changes)

    def append_items(self, items: Sequence[Item]) -> dict[int, InvalidInput]:
        """See `InteractionLog.append_items`."""
        with self._lock:
            ids = {item.item_id for item in items}
            accepted, refused = admitted([update for update in self._updates if update.item_id in ids], items)
            self._updates.extend(accepted)
            return refused

    def items(self) -> list[Item]:
        """See `InteractionLog.items`."""
        return merged_items(self._updates)

    def erase(self, erasures: Sequence[PositionedMessage]) -> None:
        """See `InteractionLog.erase`."""
        self._depart(erasures)

    def merge(self, merges: Sequence[PositionedMessage]) -> None:
        """See `InteractionLog.merge`."""
        self._depart(merges)

    def identity_changes(self) -> pl.DataFrame:
        """See `InteractionLog.identity_changes`."""
        return self._identity_changes

    def size(self) -> LogSize:
        """See `InteractionLog.size`; one file per append, and no bytes."""
        newest = self._newest()
        return LogSize(self.version(), 0, sum(frame.height for frame in newest), len(newest), 0)

    def compact(self) -> None:
        """Does nothing: there are no files."""

    def purge_plan(self) -> Purge:
        """See `InteractionLog.purge_plan`."""
        return purge_plan(self._rows(None), reached_changes(self._identity_changes, self.watermarks()))

    def purge(self, plan: Purge) -> int:
        """See `InteractionLog.purge`; rewrites the newest version."""
        with self._lock:
            if not plan.changes.is_empty():
                self._versions[-1] = tuple(rewritten(frame, plan.changes) for frame in self._newest())
            return plan.changes.height

    def vacuum(self, retention: float) -> VacuumResult:  # noqa: ARG002
        """See `InteractionLog.vacuum`; deletes nothing, because there are no files."""
        return VacuumResult(0, datetime.now(UTC))

    def _rows(self, version: int | None) -> pl.LazyFrame:
        frames = self._newest() if version is None else self._versions[version]
        return pl.concat([pl.LazyFrame(schema=READ_SCHEMA), *(frame.lazy() for frame in frames)])

    def _newest(self) -> tuple[pl.DataFrame, ...]:
        return self._versions[-1] if self._versions else ()

    def _check(self, version: int | None) -> None:
        if version is not None and not 0 <= version <= self.version():
            raise NotFound("interaction log version", str(version))

    def _depart(self, records: Sequence[PositionedMessage]) -> None:
        with self._lock:
            changes = pl.concat([self._identity_changes, identity_change_rows(records)])
            self._identity_changes = changes.unique(
                ["user_id", "partition", "offset"], keep="first", maintain_order=True
            )
