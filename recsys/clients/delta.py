"""Delta tables: opened or created, read and appended to, with their errors translated into the log's own."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

import polars as pl
from deltalake import DeltaTable, Schema, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from recsys.clients.storage_errors import reason_of
from recsys.errors import Conflict, InvalidInput, LogUnavailable, NotFound, RecsysError

CONFIGURATION = {"delta.dataSkippingStatsColumns": "occurred_at,offset"}
"""Statistics stand in Delta's own log, which outlives the files: they must not name a user."""
OLDEST = "millirec:oldest-version"
"""The application transaction that says which version a vacuum left whole."""


def opened(uri: str) -> DeltaTable | None:
    """The newest version of the table at `uri`, `None` where there is none."""
    try:
        return DeltaTable(uri)
    except TableNotFoundError:
        return None


def opened_or_created(
    uri: str,
    schema: Mapping[str, pl.DataType],
    partition_by: list[str] | None = None,
    configuration: Mapping[str, str | None] | None = None,
) -> DeltaTable:
    """The table at `uri`, created with `schema` where it is missing. Raises `DeltaError`."""
    table = opened(uri)
    if table is not None:
        return table
    try:
        return DeltaTable.create(
            uri,
            Schema.from_arrow(pl.Schema(schema)),
            mode="ignore",
            partition_by=partition_by,
            configuration=configuration,
        )
    except DeltaError:
        # Two creators may meet; the second finds the first one's table.
        table = opened(uri)
        if table is None:
            raise
        return table


def appended(uri: str, rows: pl.DataFrame) -> None:
    """A table from before a column was added gets it with the first append."""
    write_deltalake(opened_or_created(uri, rows.schema), rows, mode="append", schema_mode="merge")


def rows_of(uri: str, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """All of a small table; a column that is younger than it is null."""
    table = opened(uri)
    if table is None:
        return pl.DataFrame(schema=schema)
    rows = pl.scan_delta(table)
    stored = rows.collect_schema().names()
    columns = [pl.col(name) if name in stored else pl.lit(None, kind).alias(name) for name, kind in schema.items()]
    return rows.select(columns).collect()


def as_of(table: DeltaTable | None, version: int) -> DeltaTable:
    """`table` at `version`. Raises `NotFound`, and `InvalidInput` for one that is no longer kept."""
    if table is None or not 0 <= version <= table.version():
        raise NotFound("interaction log version", str(version))
    oldest = oldest_version(table)
    if version < oldest:
        raise InvalidInput(
            "version", f"{version} of the log is no longer kept, the oldest that can be read is {oldest}"
        )
    try:
        table.load_as_version(version)
    except DeltaError as error:
        raise InvalidInput("version", f"{version} of the log is no longer kept: {reason_of(error)}") from error
    return table


def oldest_version(table: DeltaTable) -> int:
    """The oldest version that the last vacuum left readable; 0 before any vacuum."""
    return transaction(table, OLDEST, 0)


def version_at(table: DeltaTable, moment: datetime) -> int:
    """The newest version that is not younger than `moment`, -1 for none. Raises `InvalidInput` for one too old."""
    commits = [(commit["timestamp"], commit["version"]) for commit in table.history()]
    behind = [version for made_ms, version in commits if made_ms <= moment.timestamp() * 1000]
    oldest_ms, oldest = min(commits)
    if not behind and oldest > 0:
        raise InvalidInput("moment", f"the log's history begins at {datetime.fromtimestamp(oldest_ms / 1000, UTC)}")
    return max(behind, default=-1)


def transaction(table: DeltaTable, name: str, otherwise: int = -1) -> int:
    """The version of the application transaction `name`, or `otherwise` where there is none."""
    stored = table.transaction_version(name)
    return otherwise if stored is None else stored


@contextmanager
def translated(table: str = "the interaction log", contested: type[RecsysError] = Conflict) -> Iterator[None]:
    """Delta's and the disk's errors in the log's words; `contested` where another writer came first."""
    try:
        yield
    except CommitFailedError as error:
        raise contested(f"another writer changed {table}: {reason_of(error)}") from error
    except (DeltaError, OSError, pl.exceptions.ComputeError) as error:
        raise LogUnavailable(f"{table} failed: {reason_of(error)}") from error
