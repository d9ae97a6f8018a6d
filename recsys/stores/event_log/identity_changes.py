"""The present user of each row, after erasures and merges that came later than the row."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC
from itertools import islice

import polars as pl

from recsys.messages.interaction import Merge, from_epoch_ms
from recsys.stores.event_log.protocol import IDENTITY_CHANGE_SCHEMA, READ_SCHEMA
from recsys.users import IdentityChange, PositionedMessage

FATE_SCHEMA: dict[str, pl.DataType] = {
    "identity_change": pl.UInt32(),
    "owner": pl.String(),
    "since": pl.Datetime("us", "UTC"),
    "end": pl.UInt32(),
}
CHANGE_SCHEMA: dict[str, pl.DataType] = {
    "partition": pl.String(),
    "offset": pl.Int64(),
    "date": pl.Date(),
    "owner": pl.String(),
    "moved_at": pl.Datetime("us", "UTC"),
    "end": pl.UInt32(),
}
"""A row that changes hands: to `owner` (null: erased) by a merge at `moved_at`; `end` is the change that decided."""
POSITION_KEY = ("user_id", "partition", "offset")
NOWHERE = ""
"""The home of rows whose partition no identity change of their user stands on."""


def identity_change_rows(records: Iterable[PositionedMessage]) -> pl.DataFrame:
    """Erasures and merges as rows of IDENTITY_CHANGE_SCHEMA."""
    rows = [
        (
            r.message.event_id,
            r.message.user_id,
            r.partition,
            r.offset,
            r.message.occurred_at.astimezone(UTC),
            r.message.into if isinstance(r.message, Merge) else None,
        )
        for r in records
    ]
    return pl.DataFrame(rows, schema=IDENTITY_CHANGE_SCHEMA, orient="row").unique(
        POSITION_KEY, keep="first", maintain_order=True
    )


def settled(rows: pl.LazyFrame, identity_changes: pl.DataFrame) -> pl.LazyFrame:
    """`rows` of READ_SCHEMA: without what was erased, and with what was merged under the user who has it now.

    A row leaves its user with the first identity change behind it: on the change's own partition the offset says
    which that is. Another partition (an import, or the topic before it was repartitioned) shares no order with
    it, so there event time decides. For a row that was moved already (`since`) the two times decide.
    """
    if identity_changes.is_empty():
        return rows
    fates = _with_fate(rows, identity_changes)
    stayed = fates.filter(pl.col("identity_change").is_null() | pl.col("owner").is_not_null()).with_columns(
        user_id=pl.coalesce("owner", "user_id"), since=pl.coalesce("moved_at", "since")
    )
    users = identity_changes.select("user_id").unique().lazy()
    return pl.concat([rows.join(users, on="user_id", how="anti"), stayed.select(READ_SCHEMA.keys())])


def unsettled(rows: pl.LazyFrame, identity_changes: pl.DataFrame) -> pl.LazyFrame:
    """The rows that `settled` removes or moves, as CHANGE_SCHEMA; `end` is the position of an identity change."""
    if identity_changes.is_empty():
        return pl.LazyFrame(schema=CHANGE_SCHEMA)
    fates = _with_fate(rows, identity_changes).filter(pl.col("identity_change").is_not_null())
    return fates.select(CHANGE_SCHEMA.keys())


def _with_fate(rows: pl.LazyFrame, identity_changes: pl.DataFrame) -> pl.LazyFrame:
    """The rows of users who departed, each with the first `identity_change` that took it and with its fate."""
    numbered = identity_changes.rename({"occurred_at": "at"}).with_row_index("identity_change")
    theirs = rows.join(numbered.select("user_id").unique().lazy(), on="user_id", how="semi")
    placed = _by_place(theirs.filter(pl.col("since").is_null()), numbered)
    moved = _by_moment(theirs.filter(pl.col("since").is_not_null()), numbered)
    fates = _fates(numbered).rename({"since": "moved_at"}).lazy()
    columns = [*READ_SCHEMA, "identity_change"]
    return pl.concat([placed.select(columns), moved.select(columns)]).join(fates, on="identity_change", how="left")


def _by_place(rows: pl.LazyFrame, identity_changes: pl.DataFrame) -> pl.LazyFrame:
    """`rows` with the number of the first identity change behind each, null where there is none."""
    homes = identity_changes.select("user_id", "partition", home="partition").unique()
    apart = homes.drop("partition").join(identity_changes, on="user_id").filter(pl.col("partition") != pl.col("home"))
    anywhere = identity_changes.with_columns(home=pl.lit(NOWHERE))
    columns = ("user_id", "home", "at", "identity_change")
    elsewhere = pl.concat([apart.select(columns), anywhere.select(columns)])
    same_partition = identity_changes.select("user_id", "partition", "offset", "at", "identity_change")
    sooner = pl.col("at").is_null() | (pl.col("at_elsewhere") < pl.col("at"))
    return (
        rows.join(homes.lazy(), on=["user_id", "partition"], how="left")
        .with_columns(pl.col("home").fill_null(NOWHERE))
        .sort("offset")
        .join_asof(
            same_partition.sort("offset").lazy(),
            on="offset",
            by=["user_id", "partition"],
            strategy="forward",
            check_sortedness=False,
        )
        .sort("occurred_at")
        .join_asof(
            elsewhere.sort("at").rename({"at": "at_elsewhere", "identity_change": "identity_change_elsewhere"}).lazy(),
            left_on="occurred_at",
            right_on="at_elsewhere",
            by=["user_id", "home"],
            strategy="forward",
            coalesce=False,
            check_sortedness=False,
        )
        .with_columns(identity_change=pl.when(sooner).then("identity_change_elsewhere").otherwise("identity_change"))
    )


def _by_moment(rows: pl.LazyFrame, identity_changes: pl.DataFrame) -> pl.LazyFrame:
    """The same of rows that a merge moved: `IdentityChange.takes`."""
    leaving = _leaving(identity_changes)

    def number(row: dict[str, object]) -> int | None:
        """The number of the first identity change that takes the row, `None` where none does."""
        next_change = _next(leaving[str(row["user_id"])], int(str(row["since_ms"])))
        return None if next_change is None else next_change[1]

    moved = pl.struct("user_id", pl.col("since").dt.epoch("ms").alias("since_ms"))
    return rows.with_columns(identity_change=moved.map_elements(number, return_dtype=pl.UInt32()))


def _fates(identity_changes: pl.DataFrame) -> pl.DataFrame:
    """Per change, who has in the end what left with it, and since which merge; no `owner` where it was erased."""
    leaving = _leaving(identity_changes)
    rows = []
    for change in [change for sequence in leaving.values() for change in sequence]:
        number, last = change[1], change
        while last[0].into and (onward := _next(leaving.get(last[0].into, []), last[0].at_ms)):
            last = onward
        rows.append((number, last[0].into or None, from_epoch_ms(last[0].at_ms), last[1]))
    return pl.DataFrame(rows, schema=FATE_SCHEMA, orient="row")


def _leaving(identity_changes: pl.DataFrame) -> dict[str, list[tuple[IdentityChange, int]]]:
    """Each user's identity changes, oldest first, with their numbers."""
    leaving: defaultdict[str, list[tuple[IdentityChange, int]]] = defaultdict(list)
    columns = identity_changes.select("identity_change", "user_id", pl.col("at").dt.epoch("us"), "into")
    for number, user_id, at_us, into in columns.iter_rows():
        leaving[user_id].append((IdentityChange(round(at_us / 1000), into or ""), number))
    for sequence in leaving.values():
        sequence.sort()
    return dict(leaving)


def _next(leaving: list[tuple[IdentityChange, int]], at_ms: int) -> tuple[IdentityChange, int] | None:
    later = islice(leaving, bisect_left(leaving, (IdentityChange(at_ms), -1)), None)
    return next((change for change in later if change[0].takes(at_ms)), None)
