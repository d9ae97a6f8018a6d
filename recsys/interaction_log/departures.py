"""Whose each row is by now: users who were erased, or merged into another, after the rows were written."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC
from itertools import islice

import polars as pl

from recsys.interaction import Merge, from_epoch_ms
from recsys.interaction_log.protocol import DEPARTURE_SCHEMA, READ_SCHEMA
from recsys.user_features import Departure, Positioned

FATE_SCHEMA: dict[str, pl.DataType] = {
    "departure": pl.UInt32(),
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
"""A row that changes hands: to `owner` (null: erased) by a merge at `moved_at`; `end` is the departure that decided."""
PLACE = ("user_id", "partition", "offset")
NOWHERE = ""
"""The home of rows whose partition no departure of their user stands on."""


def departure_rows(records: Iterable[Positioned]) -> pl.DataFrame:
    """Erasures and merges as rows of DEPARTURE_SCHEMA."""
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
    return pl.DataFrame(rows, schema=DEPARTURE_SCHEMA, orient="row").unique(PLACE, keep="first", maintain_order=True)


def settled(rows: pl.LazyFrame, departures: pl.DataFrame) -> pl.LazyFrame:
    """`rows` of READ_SCHEMA: without what was erased, and with what was merged under the user who has it now.

    A row leaves its user with the first departure behind it: on the departure's own partition the offset says
    which that is. Another partition (an import, or the topic before it was repartitioned) shares no order with
    it, so there event time decides. For a row that was moved already (`since`) the two times decide.
    """
    if departures.is_empty():
        return rows
    fates = _with_fate(rows, departures)
    stayed = fates.filter(pl.col("departure").is_null() | pl.col("owner").is_not_null()).with_columns(
        user_id=pl.coalesce("owner", "user_id"), since=pl.coalesce("moved_at", "since")
    )
    users = departures.select("user_id").unique().lazy()
    return pl.concat([rows.join(users, on="user_id", how="anti"), stayed.select(READ_SCHEMA.keys())])


def unsettled(rows: pl.LazyFrame, departures: pl.DataFrame) -> pl.LazyFrame:
    """Where `settled` says otherwise than `rows`, as CHANGE_SCHEMA; departures are numbered as they stand."""
    if departures.is_empty():
        return pl.LazyFrame(schema=CHANGE_SCHEMA)
    left = _with_fate(rows, departures).filter(pl.col("departure").is_not_null())
    return left.select(CHANGE_SCHEMA.keys())


def _with_fate(rows: pl.LazyFrame, departures: pl.DataFrame) -> pl.LazyFrame:
    """The rows of users who departed, each with the first `departure` that took it and with its fate."""
    numbered = departures.rename({"occurred_at": "at"}).with_row_index("departure")
    theirs = rows.join(numbered.select("user_id").unique().lazy(), on="user_id", how="semi")
    placed = _by_place(theirs.filter(pl.col("since").is_null()), numbered)
    moved = _by_moment(theirs.filter(pl.col("since").is_not_null()), numbered)
    fates = _fates(numbered).rename({"since": "moved_at"}).lazy()
    columns = [*READ_SCHEMA, "departure"]
    return pl.concat([placed.select(columns), moved.select(columns)]).join(fates, on="departure", how="left")


def _by_place(rows: pl.LazyFrame, departures: pl.DataFrame) -> pl.LazyFrame:
    """`rows` with the number of the first departure behind each, null where there is none."""
    homes = departures.select("user_id", "partition", home="partition").unique()
    apart = homes.drop("partition").join(departures, on="user_id").filter(pl.col("partition") != pl.col("home"))
    anywhere = departures.with_columns(home=pl.lit(NOWHERE))
    columns = ("user_id", "home", "at", "departure")
    elsewhere = pl.concat([apart.select(columns), anywhere.select(columns)])
    here = departures.select("user_id", "partition", "offset", "at", "departure")
    sooner = pl.col("at").is_null() | (pl.col("at_elsewhere") < pl.col("at"))
    return (
        rows.join(homes.lazy(), on=["user_id", "partition"], how="left")
        .with_columns(pl.col("home").fill_null(NOWHERE))
        .sort("offset")
        .join_asof(
            here.sort("offset").lazy(),
            on="offset",
            by=["user_id", "partition"],
            strategy="forward",
            check_sortedness=False,
        )
        .sort("occurred_at")
        .join_asof(
            elsewhere.sort("at").rename({"at": "at_elsewhere", "departure": "departure_elsewhere"}).lazy(),
            left_on="occurred_at",
            right_on="at_elsewhere",
            by=["user_id", "home"],
            strategy="forward",
            coalesce=False,
            check_sortedness=False,
        )
        .with_columns(departure=pl.when(sooner).then("departure_elsewhere").otherwise("departure"))
    )


def _by_moment(rows: pl.LazyFrame, departures: pl.DataFrame) -> pl.LazyFrame:
    """The same of rows that a merge moved: `Departure.takes`."""
    leaving = _leaving(departures)

    def number(row: dict[str, object]) -> int | None:
        found = _next(leaving[str(row["user_id"])], int(str(row["since_ms"])))
        return None if found is None else found[1]

    moved = pl.struct("user_id", pl.col("since").dt.epoch("ms").alias("since_ms"))
    return rows.with_columns(departure=moved.map_elements(number, return_dtype=pl.UInt32()))


def _fates(departures: pl.DataFrame) -> pl.DataFrame:
    """Per departure, who has in the end what left with it, and since which merge; no `owner` where it was erased."""
    leaving = _leaving(departures)
    rows = []
    for one in [one for sequence in leaving.values() for one in sequence]:
        number, last = one[1], one
        while last[0].into and (onward := _next(leaving.get(last[0].into, []), last[0].at_ms)):
            last = onward
        rows.append((number, last[0].into or None, from_epoch_ms(last[0].at_ms), last[1]))
    return pl.DataFrame(rows, schema=FATE_SCHEMA, orient="row")


def _leaving(departures: pl.DataFrame) -> dict[str, list[tuple[Departure, int]]]:
    """Each user's departures, oldest first, with their numbers."""
    leaving: defaultdict[str, list[tuple[Departure, int]]] = defaultdict(list)
    columns = departures.select("departure", "user_id", pl.col("at").dt.epoch("us"), "into")
    for number, user_id, at_us, into in columns.iter_rows():
        leaving[user_id].append((Departure(round(at_us / 1000), into or ""), number))
    for sequence in leaving.values():
        sequence.sort()
    return dict(leaving)


def _next(leaving: list[tuple[Departure, int]], at_ms: int) -> tuple[Departure, int] | None:
    later = islice(leaving, bisect_left(leaving, (Departure(at_ms), -1)), None)
    return next((one for one in later if one[0].takes(at_ms)), None)
