"""The interaction log as Delta Lake tables: any engine that reads Delta reads it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

import polars as pl
from deltalake import CommitProperties, DeltaTable, Schema, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from recsys import wire
from recsys.errors import Conflict, LogUnavailable, NotFound
from recsys.interaction_log.departures import ERASURE_SCHEMA, MERGE_SCHEMA, erasure_rows, merge_rows, settled
from recsys.interaction_log.protocol import INTERACTION_SCHEMA, READ_SCHEMA
from recsys.interaction_log.rows import each_event_once, merged_items, unseen, with_every_column
from recsys.item import Item
from recsys.user_features import Positioned

ITEM_SCHEMA: dict[str, pl.DataType] = {
    "item_id": pl.String(),
    "updated_at": pl.Datetime("us", "UTC"),
    "update": pl.String(),
}
"""One row per catalogue update; `update` is the item as JSON, because its properties are the shop's own."""


class DeltaInteractionLog:
    """Four tables under `path`: `interactions` (partitioned by date), `items`, `erasures` and `merges`.

    Nothing is cached between calls, so one object may serve any number of threads.
    """

    def __init__(self, path: str) -> None:
        self._interactions = f"{path.rstrip('/')}/interactions"
        self._items = f"{path.rstrip('/')}/items"
        self._erasures = f"{path.rstrip('/')}/erasures"
        self._merges = f"{path.rstrip('/')}/merges"

    def append(self, rows: pl.DataFrame, watermarks: Mapping[str, int]) -> bool:
        with _translated():
            table = _open_or_create(self._interactions, INTERACTION_SCHEMA, partition_by=["date"])
            stored = {partition: _watermark(table, partition) for partition in watermarks}
            fresh = unseen(rows, watermarks, stored)
            moved = [Transaction(partition, last) for partition, last in watermarks.items() if last > stored[partition]]
            if not moved:
                return False
            # Delta accepts a repeated application transaction; it refuses only one that another commit has
            # touched since the version this table object was opened at. So the watermarks must be read from,
            # and the rows written through, the very same object.
            properties = CommitProperties(app_transactions=moved)
            # A table from before a column was added gets it with the first append.
            write_deltalake(table, fresh, mode="append", schema_mode="merge", commit_properties=properties)
            return True

    def watermark(self, partition: str) -> int:
        with _translated():
            table = _open(self._interactions)
            return -1 if table is None else _watermark(table, partition)

    def version(self) -> int:
        with _translated():
            table = _open(self._interactions)
            return -1 if table is None else table.version()

    def read(self, version: int | None = None) -> pl.LazyFrame:
        with _translated():
            table = _open(self._interactions)
            if version is not None and (table is None or not 0 <= version <= table.version()):
                raise NotFound("interaction log version", str(version))
            if table is None:
                return pl.LazyFrame(schema=READ_SCHEMA)
            if version is not None:
                table.load_as_version(version)
            rows = with_every_column(pl.scan_delta(table))
            erasures, merges = self._read(self._erasures, ERASURE_SCHEMA), self._read(self._merges, MERGE_SCHEMA)
            return each_event_once(settled(rows, erasures, merges))

    def append_items(self, items: Sequence[Item]) -> None:
        if items:
            rows = [(item.item_id, item.updated_at, wire.encode(item).decode()) for item in items]
            self._append(self._items, pl.DataFrame(rows, schema=ITEM_SCHEMA, orient="row"))

    def items(self) -> list[Item]:
        with _translated():
            updates = self._read(self._items, ITEM_SCHEMA).get_column("update").unique(maintain_order=True)
            messages = [wire.decode(update.encode()) for update in updates]
            return merged_items([message for message in messages if isinstance(message, Item)])

    def erase(self, erasures: Sequence[Positioned]) -> None:
        self._append_once(self._erasures, erasure_rows(erasures))

    def merge(self, merges: Sequence[Positioned]) -> None:
        self._append_once(self._merges, merge_rows(merges))

    def compact(self) -> None:
        with _translated():
            for uri in (self._interactions, self._items, self._erasures, self._merges):
                table = _open(uri)
                if table is not None:
                    with suppress(CommitFailedError):
                        table.optimize.compact()

    def _append_once(self, uri: str, rows: pl.DataFrame) -> None:
        """Rows of users at places that are not there yet."""
        with _translated():
            known = self._read(uri, rows.schema)
        fresh = rows.unique(maintain_order=True).join(known, on=["user_id", "partition", "offset"], how="anti")
        if not fresh.is_empty():
            self._append(uri, fresh)

    @staticmethod
    def _append(uri: str, rows: pl.DataFrame) -> None:
        with _translated():
            write_deltalake(_open_or_create(uri, rows.schema), rows, mode="append")

    @staticmethod
    def _read(uri: str, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
        table = _open(uri)
        return pl.DataFrame(schema=schema) if table is None else pl.scan_delta(table).select(schema.keys()).collect()


def _open(uri: str) -> DeltaTable | None:
    try:
        return DeltaTable(uri)
    except TableNotFoundError:
        return None


def _open_or_create(uri: str, schema: Mapping[str, pl.DataType], partition_by: list[str] | None = None) -> DeltaTable:
    table = _open(uri)
    if table is not None:
        return table
    try:
        return DeltaTable.create(uri, Schema.from_arrow(pl.Schema(schema)), mode="ignore", partition_by=partition_by)
    except DeltaError:
        # Two creators may meet; whoever lost finds the winner's table.
        table = _open(uri)
        if table is None:
            raise
        return table


def _watermark(table: DeltaTable, partition: str) -> int:
    stored = table.transaction_version(partition)
    return -1 if stored is None else stored


@contextmanager
def _translated() -> Iterator[None]:
    """Delta's and the disk's errors in the log's words."""
    try:
        yield
    except CommitFailedError as error:
        raise Conflict(f"another writer appended to the interaction log: {error}") from error
    except (DeltaError, OSError, pl.exceptions.ComputeError) as error:
        raise LogUnavailable(f"the interaction log failed: {error}") from error
