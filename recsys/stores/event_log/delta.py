"""The interaction log as Delta Lake tables: any engine that reads Delta reads it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import polars as pl
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

from recsys.clients.delta import (
    CONFIGURATION,
    appended,
    as_of,
    opened,
    opened_or_created,
    rows_of,
    transaction,
    translated,
    version_at,
)
from recsys.errors import InvalidInput
from recsys.messages import wire
from recsys.messages.item import Item
from recsys.stores.event_log import delta_tidy
from recsys.stores.event_log.cursors import (
    Cursor,
    CursorMove,
    SourcePosition,
    check_moves,
    count_chunks,
    pack_cursor,
    unpack_cursor,
)
from recsys.stores.event_log.identity_changes import POSITION_KEY, identity_change_rows, settled
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
    logged_item,
    merged_items,
    purge_plan,
    reached_changes,
    shelved,
    snapshot,
    unseen,
    with_every_column,
)
from recsys.users import PositionedMessage

ITEM_SCHEMA: dict[str, pl.DataType] = {
    "item_id": pl.String(),
    "updated_at": pl.Datetime("us", "UTC"),
    "update": pl.String(),
}
"""One row per catalogue update; `update` is the item as JSON, because its properties are the shop's own."""


class DeltaInteractionLog:
    """An `InteractionLog` of tables under `path`: `interactions` (partitioned by date), `items`, `erasures`, `merges`.

    Nothing is cached between calls, so one object may serve any number of threads.
    """

    def __init__(self, path: str) -> None:
        self._interactions = f"{path.rstrip('/')}/interactions"
        self._items = f"{path.rstrip('/')}/items"
        self._erasures = f"{path.rstrip('/')}/erasures"
        self._merges = f"{path.rstrip('/')}/merges"

    def append(
        self, rows: pl.DataFrame, watermarks: Mapping[str, int], cursors: Mapping[str, CursorMove] = NO_CURSORS
    ) -> bool:
        """See `InteractionLog.append`; watermarks and cursors are Delta application transactions."""
        with translated():
            table = opened_or_created(self._interactions, READ_SCHEMA, ["date"], CONFIGURATION)
            stored = {partition: transaction(table, partition) for partition in watermarks}
            check_moves(cursors, stored)
            fresh = shelved(unseen(rows, watermarks, stored))
            moved = [Transaction(partition, last) for partition, last in watermarks.items() if last > stored[partition]]
            if not moved:
                return False
            moved += [transaction for name, move in cursors.items() for transaction in _transactions(name, move)]
            # Delta accepts a repeated application transaction; it refuses only one that another commit has
            # touched since the version this table object was opened at. So the watermarks must be read from,
            # and the rows written through, the very same object.
            properties = CommitProperties(app_transactions=moved)
            # A table from before a column was added gets it with the first append.
            write_deltalake(table, fresh, mode="append", schema_mode="merge", commit_properties=properties)
            return True

    def watermark(self, partition: str) -> int:
        """See `InteractionLog.watermark`."""
        with translated():
            table = opened(self._interactions)
            return -1 if table is None else transaction(table, partition)

    def source_position(self, partition: str) -> SourcePosition:
        """See `InteractionLog.source_position`."""
        with translated():
            table = opened(self._interactions)
            if table is None:
                return SourcePosition(-1, None)
            return SourcePosition(transaction(table, partition), _cursor(table, partition))

    def watermarks(self, version: int | None = None) -> dict[str, int]:
        """See `InteractionLog.watermarks`."""
        with translated():
            table = self._table(version)
            return {} if table is None else self._watermarks(table, self.identity_changes())

    def version(self) -> int:
        """See `InteractionLog.version`."""
        with translated():
            table = opened(self._interactions)
            return -1 if table is None else table.version()

    def version_at(self, moment: datetime) -> int:
        """See `InteractionLog.version_at`; goes by the timestamps of Delta's commits."""
        with translated():
            table = opened(self._interactions)
            if table is None:
                return -1
            return version_at(table, moment)

    def read(self, version: int | None = None) -> pl.LazyFrame:
        """See `InteractionLog.read`."""
        with translated():
            return each_event_once(self._settled(self._table(version)))

    def events(self) -> pl.LazyFrame:
        """See `InteractionLog.events`."""
        with translated():
            return self._settled(opened(self._interactions)).select(*EVENT, "partition")

    def snapshot(self) -> Snapshot:
        """See `InteractionLog.snapshot`."""
        with translated():
            table = opened(self._interactions)
            rows, watermarks, identity_changes = self._stored(table)
            version = -1 if table is None else table.version()
            return snapshot(version, rows, watermarks, identity_changes)

    def append_items(self, items: Sequence[Item]) -> dict[int, InvalidInput]:
        """See `InteractionLog.append_items`."""
        with translated():
            growing = sorted({item.item_id for item in items if item.properties})
            accepted, refused = admitted(self._updates(growing) if growing else (), items)
            if accepted:
                rows = [(item.item_id, item.updated_at, wire.encode(item).decode()) for item in accepted]
                appended(self._items, pl.DataFrame(rows, schema=ITEM_SCHEMA, orient="row"))
            return refused

    def items(self) -> list[Item]:
        """See `InteractionLog.items`."""
        with translated():
            return merged_items(self._updates())

    def _updates(self, item_ids: Sequence[str] | None = None) -> list[Item]:
        """Of these items, or of all. One that cannot be read hides its item until a later one says otherwise."""
        table = opened(self._items)
        if table is None:
            return []
        rows = pl.scan_delta(table)
        chosen = rows if item_ids is None else rows.filter(pl.col("item_id").is_in(item_ids))
        updates = chosen.select(*ITEM_SCHEMA).unique(["item_id", "update"], maintain_order=True).collect()
        return [logged_item(*row) for row in updates.iter_rows()]

    def erase(self, erasures: Sequence[PositionedMessage]) -> None:
        """See `InteractionLog.erase`; writes rows to the table of erasures, `purge` deletes the interactions."""
        self._append_once(self._erasures, identity_change_rows(erasures).drop("into"))

    def merge(self, merges: Sequence[PositionedMessage]) -> None:
        """See `InteractionLog.merge`; writes rows to the table of merges, `purge` moves the interactions."""
        self._append_once(self._merges, identity_change_rows(merges))

    def identity_changes(self) -> pl.DataFrame:
        """See `InteractionLog.identity_changes`."""
        with translated():
            tables = [rows_of(uri, IDENTITY_CHANGE_SCHEMA) for uri in (self._erasures, self._merges)]
            return pl.concat(tables).unique(POSITION_KEY, keep="first", maintain_order=True)

    def size(self) -> LogSize:
        """See `InteractionLog.size`; of the table of interactions alone."""
        with translated():
            return delta_tidy.size(self._interactions)

    def compact(self) -> None:
        """See `InteractionLog.compact`; covers all four tables."""
        with translated():
            for uri in self._tables():
                delta_tidy.compact(uri)

    def purge_plan(self) -> Purge:
        """See `InteractionLog.purge_plan`."""
        with translated():
            rows, watermarks, identity_changes = self._stored(opened(self._interactions))
            return purge_plan(rows, reached_changes(identity_changes, watermarks))

    def purge(self, plan: Purge) -> int:
        """See `InteractionLog.purge`."""
        with translated():
            return delta_tidy.purge(self._interactions, plan.changes)

    def vacuum(self, retention: float) -> VacuumResult:
        """See `InteractionLog.vacuum`; covers all four tables."""
        cutoff = datetime.now(UTC) - timedelta(seconds=retention)
        with translated():
            return VacuumResult(sum(delta_tidy.vacuum(uri, retention) for uri in self._tables()), cutoff)

    def _tables(self) -> tuple[str, ...]:
        return (self._interactions, self._items, self._erasures, self._merges)

    def _table(self, version: int | None) -> DeltaTable | None:
        table = opened(self._interactions)
        return table if version is None else as_of(table, version)

    def _settled(self, table: DeltaTable | None) -> pl.LazyFrame:
        if table is None:
            return pl.LazyFrame(schema=READ_SCHEMA)
        return settled(with_every_column(pl.scan_delta(table)), self.identity_changes())

    def _stored(self, table: DeltaTable | None) -> tuple[pl.LazyFrame, dict[str, int], pl.DataFrame]:
        """The rows as stored, and then the rest: an identity change is written before the watermark passes it."""
        identity_changes = self.identity_changes()
        if table is None:
            return pl.LazyFrame(schema=READ_SCHEMA), {}, identity_changes
        return with_every_column(pl.scan_delta(table)), self._watermarks(table, identity_changes), identity_changes

    @staticmethod
    def _watermarks(table: DeltaTable, identity_changes: pl.DataFrame) -> dict[str, int]:
        written = pl.scan_delta(table).select("partition").unique().collect().get_column("partition")
        partitions = {*written, *identity_changes.get_column("partition")}
        return {
            partition: reached for partition in sorted(partitions) if (reached := transaction(table, partition)) >= 0
        }

    def _append_once(self, uri: str, rows: pl.DataFrame) -> None:
        """Rows of users at places that are not there yet."""
        with translated():
            fresh = rows.join(rows_of(uri, rows.schema), on=POSITION_KEY, how="anti")
            if not fresh.is_empty():
                appended(uri, fresh)


def _transactions(partition: str, move: CursorMove) -> list[Transaction]:
    return [Transaction(_chunk_name(partition, n), number) for n, number in enumerate(pack_cursor(move.cursor))]


def _cursor(table: DeltaTable, partition: str) -> Cursor | None:
    """What a longer cursor left behind the chunks of a shorter one is not read: the length says how many there are."""
    length = transaction(table, _chunk_name(partition, 0))
    if length < 0:
        return None
    chunks = range(1, count_chunks(length) + 1)
    return unpack_cursor(length, (transaction(table, _chunk_name(partition, n)) for n in chunks))


def _chunk_name(partition: str, number: int) -> str:
    return f"cursor:{number}:{partition}"
