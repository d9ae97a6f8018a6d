"""Whose each row is by now: users who were erased, or merged into another, after the rows were written."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC
from itertools import islice

import polars as pl

from recsys.interaction import Merge, from_epoch_ms
from recsys.interaction_log.protocol import READ_SCHEMA
from recsys.user_features import Departure, Positioned

ERASURE_SCHEMA: dict[str, pl.DataType] = {
    "user_id": pl.String(),
    "partition": pl.String(),
    "offset": pl.Int64(),
    "occurred_at": pl.Datetime("us", "UTC"),
}
MERGE_SCHEMA: dict[str, pl.DataType] = {**ERASURE_SCHEMA, "into": pl.String()}
FATE_SCHEMA: dict[str, pl.DataType] = {
    "departure": pl.UInt32(),
    "owner": pl.String(),
    "since": pl.Datetime("us", "UTC"),
}
NOWHERE = ""
"""The home of rows whose partition no departure of their user stands on."""


def erasure_rows(records: Iterable[Positioned]) -> pl.DataFrame:
    rows = [(r.message.user_id, r.partition, r.offset, r.message.occurred_at.astimezone(UTC)) for r in records]
    return pl.DataFrame(rows, schema=ERASURE_SCHEMA, orient="row")


def merge_rows(records: Iterable[Positioned]) -> pl.DataFrame:
    merges = [record for record in records if isinstance(record.message, Merge)]
    into = [record.message.into for record in merges if isinstance(record.message, Merge)]
    return erasure_rows(merges).with_columns(pl.Series("into", into, pl.String()))


def settled(rows: pl.LazyFrame, erasures: pl.DataFrame, merges: pl.DataFrame) -> pl.LazyFrame:
    """`rows` of READ_SCHEMA: without what was erased, and with what was merged under the user who has it now.

    A row leaves its user with the first departure behind it: on the departure's own partition the offset says
    which that is. Another partition (an import, or the topic before it was repartitioned) shares no order with
    it, so there event time decides.
    """
    unmoved = rows.with_columns(since=pl.lit(None, READ_SCHEMA["since"])).select(READ_SCHEMA.keys())
    departures = pl.concat([erasures, merges], how="diagonal").rename({"occurred_at": "at"}).with_row_index("departure")
    if departures.is_empty():
        return unmoved
    users = departures.select("user_id").unique().lazy()
    moved = (
        _with_departure(rows.join(users, on="user_id", how="semi"), departures)
        .join(_fates(departures).lazy(), on="departure", how="left")
        .filter(pl.col("departure").is_null() | pl.col("owner").is_not_null())
        .join(departures.group_by("user_id").agg(last=pl.col("at").max()).lazy(), on="user_id", how="left")
        .with_columns(user_id=pl.coalesce("owner", "user_id"), since=pl.coalesce("since", "last"))
        .select(READ_SCHEMA.keys())
    )
    return pl.concat([unmoved.join(users, on="user_id", how="anti"), moved])


def _with_departure(rows: pl.LazyFrame, departures: pl.DataFrame) -> pl.LazyFrame:
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


def _fates(departures: pl.DataFrame) -> pl.DataFrame:
    """Per departure, who has in the end what left with it, and since which merge; no `owner` where it was erased."""
    moves: list[Departure] = []
    leaving: defaultdict[str, list[Departure]] = defaultdict(list)
    for user_id, at_us, into in departures.select("user_id", pl.col("at").dt.epoch("us"), "into").iter_rows():
        moves.append(Departure(round(at_us / 1000), into or ""))
        leaving[user_id].append(moves[-1])
    for sequence in leaving.values():
        sequence.sort()
    rows = []
    for number, first in enumerate(moves):
        last = first
        while last.into and (onward := _next(leaving.get(last.into, []), last.at_ms)):
            last = onward
        rows.append((number, last.into or None, from_epoch_ms(last.at_ms)))
    return pl.DataFrame(rows, schema=FATE_SCHEMA, orient="row")


def _next(leaving: list[Departure], at_ms: int) -> Departure | None:
    later = islice(leaving, bisect_left(leaving, Departure(at_ms)), None)
    return next((one for one in later if one.takes(at_ms)), None)
