"""The interaction log: append-only, each event once, versioned; written by ingest, read by training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import polars as pl

from recsys.errors import InvalidInput
from recsys.messages.item import Item
from recsys.stores.event_log.cursors import CursorMove, SourcePosition
from recsys.users import PositionedMessage

INTERACTION_SCHEMA: dict[str, pl.DataType] = {
    "event_id": pl.String(),
    "user_id": pl.String(),
    "item_id": pl.String(),
    "type": pl.String(),
    "occurred_at": pl.Datetime("us", "UTC"),
    "quantity": pl.Float64(),
    "price": pl.Float64(),
    "session_id": pl.String(),
    "recommendation_id": pl.String(),
    "extra": pl.String(),
    "partition": pl.String(),
    "offset": pl.Int64(),
    "date": pl.Date(),
}
"""One row per interaction; `partition` and `offset` say where on the topic (or in which file) it stood.

`extra` is a JSON object with what its producer sent beyond the schema; null where there is nothing.
"""


READ_SCHEMA: dict[str, pl.DataType] = {**INTERACTION_SCHEMA, "since": pl.Datetime("us", "UTC")}
"""The same as read: `since` is when a merge made the row this user's, null where it always was."""

IDENTITY_CHANGE_SCHEMA: dict[str, pl.DataType] = {
    "event_id": pl.String(),
    "user_id": pl.String(),
    "partition": pl.String(),
    "offset": pl.Int64(),
    "occurred_at": pl.Datetime("us", "UTC"),
    "into": pl.String(),
}
"""One row per erasure (`into` is null) and merge. Tables from before receipts have no `event_id`: null."""

IMPORT_PREFIX = "import:"
"""Before the partitions of sources (files, tables, ...): they share no order with the topic."""

NO_CURSORS: Mapping[str, CursorMove] = {}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A consistent state of the log, in which no part is ahead of another.

    `rows` are as `read` gives them; `places` (user_id, partition, offset) say how far each user's own records go,
    repeats and identity changes too; `identity_changes` are those at or below the `watermarks`.
    """

    version: int
    watermarks: Mapping[str, int]
    rows: pl.LazyFrame
    places: pl.LazyFrame
    identity_changes: pl.DataFrame


@dataclass(frozen=True, slots=True)
class LogSize:
    """Files and bytes that the newest version consists of; files that only older versions need are not in it."""

    version: int
    oldest_version: int
    rows: int
    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Purge:
    """What is to go: `erased` (IDENTITY_CHANGE_SCHEMA and `rows`, a count), `repeats`, and rows `moved` by merges."""

    erased: pl.DataFrame
    moved: int
    repeats: int
    changes: pl.DataFrame


@dataclass(frozen=True, slots=True)
class VacuumResult:
    """The number of files deleted; what left the log before `cutoff` is gone from the disk."""

    files: int
    cutoff: datetime


class InteractionLog(Protocol):
    """The interactions and items. Methods block: call them from a thread. All raise `LogUnavailable`."""

    def append(
        self, rows: pl.DataFrame, watermarks: Mapping[str, int], cursors: Mapping[str, CursorMove] = NO_CURSORS
    ) -> bool:
        """Append `rows` (of INTERACTION_SCHEMA) with `watermarks` and `cursors` in one commit.

        `watermarks` maps a partition (or import) to its last offset in this batch. Rows at or below
        a partition's stored watermark are dropped; False when every watermark was reached before and
        nothing was written (a batch without rows still moves a watermark). Raises `Conflict` when another
        writer moved one of these watermarks (read it and try again) and `InvalidInput` when a
        row lies above its partition's watermark. A partition with a cursor is a source's: `Conflict` too when its
        stored watermark is not where the batch goes on (`CursorMove.since`), `InvalidInput` for an unfit cursor.
        """
        ...

    def source_position(self, partition: str) -> SourcePosition:
        """The last offset and the cursor appended for `partition`, both of the same commit."""
        ...

    def watermark(self, partition: str) -> int:
        """The last offset appended for `partition`; -1 for none."""
        ...

    def version(self) -> int:
        """The newest table version; -1 while nothing was ever appended."""
        ...

    def version_at(self, moment: datetime) -> int:
        """The version that was the newest then; -1 where there was none. Raises `InvalidInput` for one too old."""
        ...

    def read(self, version: int | None = None) -> pl.LazyFrame:
        """READ_SCHEMA as of `version` (default: newest), by partition and offset.

        Each event is there once: of rows of one user with one event id the latest by `occurred_at` counts, of those
        at the same moment the last by partition and offset. So a repeat is a repeat whatever its time says.
        What was ever erased stays out of every version: an old snapshot must not bring a forgotten user back.
        What was ever merged stands under the user who has it now, in every version too. Raises `NotFound` for a
        version that never was, and `InvalidInput` for one that is no longer kept (`vacuum`).
        """
        ...

    def events(self) -> pl.LazyFrame:
        """user_id, event_id and partition of every row, repeats too, in no order: cheap to go through as a stream.

        Whose they are, and what was erased, is as in `read`.
        """
        ...

    def snapshot(self) -> Snapshot:
        """One consistent state of the log, from which users' records can be made."""
        ...

    def watermarks(self, version: int | None = None) -> dict[str, int]:
        """The last offset of each partition with rows or identity changes, as of `version`; errors as of `read`."""
        ...

    def append_items(self, items: Sequence[Item]) -> dict[int, InvalidInput]:
        """Record catalogue updates; they merge by `updated_at` when read.

        What is refused, by its place in `items`, and why: an update whose properties have no room beside those that
        are recorded of its item (`recsys.messages.item.merged`). Nothing of it is recorded, and all else is.
        """
        ...

    def items(self) -> list[Item]:
        """The catalogue: every item once, in its newest merged state, ordered by item_id.

        An update that cannot be read counts as one that hides its item.
        """
        ...

    def erase(self, erasures: Sequence[PositionedMessage]) -> None:
        """Forget every interaction of these users up to each erasure's position; idempotent."""
        ...

    def merge(self, merges: Sequence[PositionedMessage]) -> None:
        """Give every interaction of these users up to each merge's position to the user merged into; idempotent.

        Both are to be called before rows of the same batch are appended: a reader who sees the rows then sees
        whose they are, and one who sees a watermark also every identity change below it.
        """
        ...

    def identity_changes(self) -> pl.DataFrame:
        """Every erasure and merge as rows of IDENTITY_CHANGE_SCHEMA."""
        ...

    def size(self) -> LogSize:
        """Versions, rows, files and bytes of the interactions in the newest version."""
        ...

    def compact(self) -> None:
        """Rewrite many small files into few, for faster reading; no version's content changes.

        Safe beside writers, and best effort: when another process compacts at the same time, one gives way.
        """
        ...

    def purge_plan(self) -> Purge:
        """The rows that `read` hides (erased, repeats) or shows under another user than they are written under."""
        ...

    def purge(self, plan: Purge) -> int:
        """Delete and move the rows of `plan`; the number of rows changed. Idempotent.

        `read` shows the same before and after, in every version. Raises `Conflict` when writers keep getting in
        between; part of it may be done then.
        """
        ...

    def vacuum(self, retention: float) -> VacuumResult:
        """Delete what no version of the last `retention` seconds needs; older versions can no longer be read.

        Files that were never committed (a writer that died) are deleted when they are older than an hour.
        """
        ...
