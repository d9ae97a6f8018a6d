"""What every interaction log does with rows, whatever it is kept in."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

import msgspec
import polars as pl

from recsys.errors import InvalidInput
from recsys.messages import wire
from recsys.messages.interaction import Interaction
from recsys.messages.item import Item, hidden_item, merged, stored_item
from recsys.observability.unreadable import LOGGED_ITEM, note_unreadable
from recsys.stores.event_log.identity_changes import POSITION_KEY, settled, unsettled
from recsys.stores.event_log.protocol import INTERACTION_SCHEMA, READ_SCHEMA, Purge, Snapshot
from recsys.users import PositionedMessage

MAX_DATES = 64
"""Files that one batch may leave at most: one for each date that it is kept under."""

EVENT = ("user_id", "event_id")
"""What makes rows the same event: an id counts once for its user, at whatever times it was sent."""
TELLINGS = ("occurred_at", "partition", "offset")
"""The order of an event's repeats. The latest counts, as in the users' records (`recsys.users`)."""

AS_THEY_ARE = ("event_id", "user_id", "item_id", "type", "quantity", "price", "session_id", "recommendation_id")
_encode = msgspec.json.Encoder().encode


def interaction_rows(records: Iterable[PositionedMessage]) -> pl.DataFrame:
    """The interactions among `records` as rows of INTERACTION_SCHEMA; `date` is the UTC date they occurred on."""
    interactions = [(record, record.message) for record in records if isinstance(record.message, Interaction)]
    # Column by column: a third faster than row by row, and the log group does little else.
    columns: dict[str, list[object]] = {
        name: [getattr(interaction, name) for _, interaction in interactions] for name in AS_THEY_ARE
    }
    columns["occurred_at"] = [interaction.occurred_at.astimezone(UTC) for _, interaction in interactions]
    columns["extra"] = [
        None if interaction.extra is None else _encode(interaction.extra).decode() for _, interaction in interactions
    ]
    columns["partition"] = [record.partition for record, _ in interactions]
    columns["offset"] = [record.offset for record, _ in interactions]
    rows = pl.DataFrame(columns, schema_overrides=INTERACTION_SCHEMA)
    return rows.with_columns(date=pl.col("occurred_at").dt.date()).select(INTERACTION_SCHEMA.keys())


def with_every_column(rows: pl.LazyFrame) -> pl.LazyFrame:
    """`rows` as stored; a column that is younger than its table is null."""
    stored = rows.collect_schema().names()
    return rows.select(
        pl.col(name) if name in stored else pl.lit(None, dtype).alias(name) for name, dtype in READ_SCHEMA.items()
    )


def shelved(rows: pl.DataFrame) -> pl.DataFrame:
    """`rows` under at most `MAX_DATES` dates: their own, or the first of their months, or else of their years."""
    for coarser in ("1mo", "1y"):
        if rows.get_column("date").n_unique() <= MAX_DATES:
            break
        rows = rows.with_columns(pl.col("date").dt.truncate(coarser))
    return rows


def unseen(rows: pl.DataFrame, watermarks: Mapping[str, int], stored: Mapping[str, int]) -> pl.DataFrame:
    """The rows above their partition's `stored` watermark.

    Raises `InvalidInput` when a row lies outside `watermarks`: it would be written again on redelivery.
    """
    last = rows.group_by("partition").agg(pl.col("offset").max())
    for partition, offset in last.iter_rows():
        if offset > watermarks.get(partition, -1):
            raise InvalidInput("watermarks", f"{partition} has a row at {offset}, above its watermark")
    stored_offset = pl.col("partition").replace_strict(dict(stored), default=-1, return_dtype=pl.Int64())
    return rows.filter(pl.col("offset") > stored_offset).select(INTERACTION_SCHEMA.keys())


def each_event_once(rows: pl.LazyFrame) -> pl.LazyFrame:
    """`rows` by partition and offset under their own dates, a producer's repeats left out.

    It sends again what was not acknowledged, and a repeat may carry another time: the door stamps each try anew.
    """
    tellings = rows.with_columns(pl.col("occurred_at").dt.date().alias("date")).sort(TELLINGS)
    return tellings.filter(pl.struct(EVENT).is_last_distinct()).sort("partition", "offset")


def repeats(rows: pl.LazyFrame) -> pl.LazyFrame:
    """The places (partition, offset, date as stored) of `rows` that `each_event_once` leaves out.

    Without the last of a user's rows on each partition: it says how far that user's records go (`Snapshot.places`).
    """
    tellings = rows.select(*EVENT, *TELLINGS, "date").sort(TELLINGS)
    last = pl.col("offset") == pl.col("offset").max().over("user_id", "partition")
    return tellings.filter(~pl.struct(EVENT).is_last_distinct() & ~last).select("partition", "offset", "date")


def reached_changes(identity_changes: pl.DataFrame, watermarks: Mapping[str, int]) -> pl.DataFrame:
    """The identity changes up to the watermarks; one beyond belongs to a batch that is yet to be appended."""
    reached = pl.col("partition").replace_strict(dict(watermarks), default=-1, return_dtype=pl.Int64())
    return identity_changes.filter(pl.col("offset") <= reached)


def snapshot(
    version: int, rows: pl.LazyFrame, watermarks: Mapping[str, int], identity_changes: pl.DataFrame
) -> Snapshot:
    """The snapshot of `rows` as stored, with the identity changes up to `watermarks`."""
    behind = reached_changes(identity_changes, watermarks)
    own = pl.concat([rows.filter(pl.col("since").is_null()).select(POSITION_KEY), behind.lazy().select(POSITION_KEY)])
    places = own.group_by(POSITION_KEY[:2]).agg(pl.col("offset").max())
    return Snapshot(version, watermarks, each_event_once(settled(rows, behind)), places, behind)


def purge_plan(rows: pl.LazyFrame, identity_changes: pl.DataFrame) -> Purge:
    """The changes that a purge makes to `rows`: erased rows and repeats go, merged ones move."""
    twice = repeats(settled(rows, identity_changes)).collect()
    changes = unsettled(rows, identity_changes).collect().join(twice, on=["partition", "offset"], how="anti")
    counted = changes.filter(pl.col("owner").is_null()).group_by("end").agg(pl.len().cast(pl.Int64()).alias("rows"))
    erased = (
        identity_changes.with_row_index("end")
        .filter(pl.col("into").is_null())
        .join(counted, on="end", how="left")
        .with_columns(pl.col("rows").fill_null(0))
        .drop("end")
    )
    moved = changes.get_column("owner").count()
    return Purge(erased, moved, twice.height, pl.concat([changes, twice], how="diagonal"))


def rewritten(rows: pl.DataFrame, changes: pl.DataFrame) -> pl.DataFrame:
    """`rows` of READ_SCHEMA after a purge of `changes`."""
    marked = changes.drop("date").with_columns(changed=True)
    joined = rows.join(marked, on=["partition", "offset"], how="left", maintain_order="left")
    stayed = joined.filter(pl.col("changed").is_null() | pl.col("owner").is_not_null())
    moved = stayed.with_columns(user_id=pl.coalesce("owner", "user_id"), since=pl.coalesce("moved_at", "since"))
    return moved.select(rows.columns)


def merged_items(updates: Sequence[Item]) -> list[Item]:
    """Every item once, its updates applied in `updated_at` order; ordered by item_id.

    Updates of one moment apply in the order of their content, since rows of a table have no order to go by, and those
    that hide last: what somebody hid is not shown again for that.
    """
    items: dict[str, Item] = {}
    for update in sorted(updates, key=_place):
        item = items.get(update.item_id)
        items[update.item_id] = update if item is None else item.updated_by(update)
    return list(items.values())


def admitted(recorded: Iterable[Item], updates: Sequence[Item]) -> tuple[list[Item], dict[int, InvalidInput]]:
    """The `updates` whose properties have room beside those `recorded`, and errors of the others by position.

    They are looked at in the order of `updates`, just as the feature store does.
    """
    stored: defaultdict[str, list[Item]] = defaultdict(list)
    for update in recorded:
        stored[update.item_id].append(update)
    accepted, refused = list[Item](), dict[int, InvalidInput]()
    states = {item_id: merged_items(own)[0] for item_id, own in stored.items()}
    for position, update in enumerate(updates):
        try:
            state = merged(states.get(update.item_id), update)
        except InvalidInput as error:
            refused[position] = error
            continue
        accepted.append(update)
        states[update.item_id] = state
    return accepted, refused


def logged_item(item_id: str, updated_at: datetime, update: str) -> Item:
    """An update as it was stored; one that cannot be read hides the item until a later one says otherwise."""
    try:
        return stored_item(update.encode())
    except ValueError as error:
        note_unreadable(LOGGED_ITEM, item_id, error)
        return hidden_item(item_id, updated_at)


def _place(update: Item) -> tuple[str, datetime, bool, bytes]:
    return update.item_id, update.updated_at, update.available is False, wire.encode(update)
