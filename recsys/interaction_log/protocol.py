"""The interaction log: append-only, each event once, versioned; written by ingest, read by training."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import polars as pl

from recsys.item import Item
from recsys.user_features import Positioned

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
"""The same as read: `since` is when a merge made the row this user's, or else the user's last departure (erasure
or merge into another), which the row stands behind; null where there is neither."""


class InteractionLog(Protocol):
    """All methods are synchronous: call them from a thread. All raise `LogUnavailable`."""

    def append(self, rows: pl.DataFrame, watermarks: Mapping[str, int]) -> bool:
        """Append `rows` (of INTERACTION_SCHEMA) with the application transactions `watermarks` in one commit.

        `watermarks` maps a partition (or import) to its last offset in this batch. Rows at or below
        a partition's stored watermark are dropped; False when every watermark was reached before and
        nothing was written (a batch without rows still moves a watermark). Raises `Conflict` when another
        writer moved one of these watermarks meanwhile (read it and try again) and `InvalidInput` when a
        row lies above its partition's watermark.
        """
        ...

    def watermark(self, partition: str) -> int:
        """The last offset appended for `partition`; -1 for none."""
        ...

    def version(self) -> int:
        """The newest table version; -1 while nothing was ever appended."""
        ...

    def read(self, version: int | None = None) -> pl.LazyFrame:
        """READ_SCHEMA as of `version` (default: newest), by partition and offset; `NotFound` for no such version.

        Each event is there once: of rows of one user with one event id on one date the first counts.
        What was ever erased stays out of every version: an old snapshot must not bring a forgotten user back.
        What was ever merged stands under the user who has it now, in every version too.
        """
        ...

    def append_items(self, items: Sequence[Item]) -> None:
        """Record catalogue updates; they merge by `updated_at` when read."""
        ...

    def items(self) -> list[Item]:
        """The catalogue: every item once, in its newest merged state, ordered by item_id."""
        ...

    def erase(self, erasures: Sequence[Positioned]) -> None:
        """Forget every interaction of these users up to each erasure's place; idempotent."""
        ...

    def merge(self, merges: Sequence[Positioned]) -> None:
        """Every interaction of these users up to each merge's place becomes the other's; idempotent.

        To be called before rows of the same batch are appended: whoever sees the rows then sees whose they are.
        """
        ...

    def compact(self) -> None:
        """Rewrite many small files into few, for faster reading; no version's content changes.

        Safe beside writers, and best effort: when another process compacts at the same time, one gives way.
        """
        ...
