"""Tidying a Delta table: fewer files, what was erased gone from them, and old files deleted."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from math import ceil

import polars as pl
from deltalake import CommitProperties, DeltaTable, Field, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError
from deltalake.schema import PrimitiveType

from recsys.clients.delta import CONFIGURATION, OLDEST, oldest_version, opened
from recsys.retries import retried
from recsys.stores.event_log.protocol import LogSize

DATES_AT_ONCE = 32
ATTEMPTS = 20
"""Writers who append to the dates that are being purged make it begin again; each try takes less than their pause."""
UNCOMMITTED_HOURS = 1
SAME_ROW = 'kept.date = gone.date AND kept.partition = gone.partition AND kept."offset" = gone."offset"'


def compact(uri: str) -> None:
    """Rewrite small files of the table into few; does nothing when another writer commits at the same time."""
    table = opened(uri)
    if table is not None:
        with suppress(CommitFailedError):
            table.optimize.compact()


def size(uri: str) -> LogSize:
    """Versions, rows, files and bytes of the table; version -1 and zeros where there is none."""
    table = opened(uri)
    if table is None:
        return LogSize(-1, 0, 0, 0, 0)
    files = pl.DataFrame(table.get_add_actions(flatten=True))
    rows, size_bytes = files.select(pl.col("num_records").sum(), pl.col("size_bytes").sum()).row(0)
    return LogSize(table.version(), oldest_version(table), rows, files.height, size_bytes)


def purge(uri: str, changes: pl.DataFrame) -> int:
    """Delete or move the rows of `changes` (`identity_changes.unsettled`). Raises `CommitFailedError`, half done."""
    if changes.is_empty():
        return 0
    _prepare(uri)
    return sum(_change(uri, batch) for batch in _by_date(changes))


def _by_date(changes: pl.DataFrame) -> Iterator[pl.DataFrame]:
    dates = changes.get_column("date").unique().sort()
    for start in range(0, dates.len(), DATES_AT_ONCE):
        yield changes.filter(pl.col("date").is_in(dates.slice(start, DATES_AT_ONCE).implode()))


def _change(uri: str, changes: pl.DataFrame) -> int:
    gone = changes.select("partition", "offset", "date", "owner", "moved_at")
    dates = ", ".join(f"DATE '{date}'" for date in gone.get_column("date").unique())

    def merge() -> int:
        """Delete and move the rows in one commit; returns how many they were."""
        merger = DeltaTable(uri).merge(gone, f"kept.date IN ({dates}) AND {SAME_ROW}", "gone", "kept")
        merger = merger.when_matched_delete("gone.owner IS NULL")
        done = merger.when_matched_update({"user_id": "gone.owner", "since": "gone.moved_at"}).execute()
        return int(done["num_target_rows_deleted"] + done["num_target_rows_updated"])

    return retried(merge, (CommitFailedError,), ATTEMPTS, pause=0.0)


def _prepare(uri: str) -> None:
    """A table from before moved rows were told apart, or whose statistics name users."""
    table = DeltaTable(uri)
    if "since" not in {field.name for field in table.schema().fields}:
        table.alter.add_columns([Field("since", PrimitiveType("timestamp"))])
    _set(uri, CONFIGURATION)


def vacuum(uri: str, retention: float) -> int:
    """Delete what no version of the last `retention` seconds needs. Readers of older ones are refused first."""
    table = opened(uri)
    if table is None:
        return 0
    hours = ceil(retention / 3600)
    # Files that were never committed go too, unless a writer may still be at work on them.
    full = hours >= UNCOMMITTED_HOURS
    if not table.vacuum(hours, enforce_retention_duration=False, full=full):
        return 0
    past_table = DeltaTable(uri)
    past_table.load_as_version(datetime.now(UTC) - timedelta(hours=hours))
    _set(uri, {"delta.deletedFileRetentionDuration": f"interval {hours} hours"})
    nothing = pl.DataFrame(schema=pl.Schema(table.schema().to_arrow()))
    oldest = max(oldest_version(table), past_table.version())
    refused = CommitProperties(app_transactions=[Transaction(OLDEST, oldest)])
    write_deltalake(DeltaTable(uri), nothing, mode="append", commit_properties=refused)
    deleted = DeltaTable(uri).vacuum(hours, dry_run=False, enforce_retention_duration=False, full=full)
    # A checkpoint forgets the files that are gone: without one they would be deleted again the next time.
    DeltaTable(uri).create_checkpoint()
    return len(deleted)


def _set(uri: str, properties: Mapping[str, str]) -> None:
    table = DeltaTable(uri)
    if not properties.items() <= table.metadata().configuration.items():
        table.alter.set_table_properties(dict(properties))
