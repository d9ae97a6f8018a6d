"""What every interaction log does with rows, whatever it is kept in."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC

import msgspec
import polars as pl

from recsys import wire
from recsys.errors import InvalidInput
from recsys.interaction import Interaction
from recsys.interaction_log.protocol import INTERACTION_SCHEMA
from recsys.item import Item
from recsys.user_features import Positioned

_encode = msgspec.json.Encoder().encode


def interaction_rows(records: Iterable[Positioned]) -> pl.DataFrame:
    """The interactions among `records` as rows of INTERACTION_SCHEMA; `date` is the UTC date they occurred on."""
    rows = [_interaction_row(r.partition, r.offset, r.message) for r in records if isinstance(r.message, Interaction)]
    return pl.DataFrame(rows, schema=INTERACTION_SCHEMA, orient="row")


def _interaction_row(partition: str, offset: int, interaction: Interaction) -> tuple[object, ...]:
    at = interaction.occurred_at.astimezone(UTC)
    return (
        interaction.event_id,
        interaction.user_id,
        interaction.item_id,
        interaction.type,
        at,
        interaction.quantity,
        interaction.price,
        interaction.session_id,
        interaction.recommendation_id,
        None if interaction.extra is None else _encode(interaction.extra).decode(),
        partition,
        offset,
        at.date(),
    )


def with_every_column(rows: pl.LazyFrame) -> pl.LazyFrame:
    """`rows` of INTERACTION_SCHEMA; a column that is younger than its table is null."""
    stored = rows.collect_schema().names()
    return rows.select(
        pl.col(name) if name in stored else pl.lit(None, dtype).alias(name)
        for name, dtype in INTERACTION_SCHEMA.items()
    )


def unseen(rows: pl.DataFrame, watermarks: Mapping[str, int], stored: Mapping[str, int]) -> pl.DataFrame:
    """The rows above their partition's `stored` watermark.

    Raises `InvalidInput` when a row lies outside `watermarks`: it would be written again on redelivery.
    """
    last = rows.group_by("partition").agg(pl.col("offset").max())
    for partition, offset in last.iter_rows():
        if offset > watermarks.get(partition, -1):
            raise InvalidInput("watermarks", f"{partition} has a row at {offset}, above its watermark")
    known = pl.col("partition").replace_strict(dict(stored), default=-1, return_dtype=pl.Int64())
    return rows.filter(pl.col("offset") > known).select(INTERACTION_SCHEMA.keys())


def each_event_once(rows: pl.LazyFrame) -> pl.LazyFrame:
    """`rows` by partition and offset, a producer's repeats left out: it sends again what was not acknowledged.

    A repeat carries the time of the event, so its date is the same; naming the date here lets polars push a
    filter on it down to the files.
    """
    in_order = rows.sort("partition", "offset")
    return in_order.unique(["date", "user_id", "event_id"], keep="first", maintain_order=True)


def merged_items(updates: Sequence[Item]) -> list[Item]:
    """Every item once, its updates applied in `updated_at` order; ordered by item_id.

    Updates of one moment apply in the order of their content: rows of a table have no order to go by.
    """
    merged: dict[str, Item] = {}
    for update in sorted(updates, key=lambda item: (item.item_id, item.updated_at, wire.encode(item))):
        known = merged.get(update.item_id)
        merged[update.item_id] = update if known is None else known.updated_by(update)
    return list(merged.values())
