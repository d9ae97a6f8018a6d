"""Users as the log has them, for rebuilding their records: read in passes, receivers of merges first."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import polars as pl

from recsys.messages.interaction import IMPRESSION, Erasure, Merge, epoch_ms, event_key
from recsys.stores.event_log import InteractionLog
from recsys.stores.event_log.protocol import IMPORT_PREFIX, Snapshot
from recsys.users import REPEAT_WINDOW, HistoryEntry, PositionedMessage

ROWS_AT_ONCE = 2_000_000
"""Rows of the log in memory: a longer log is read in several passes, each for a share of the users."""

Start = Mapping[str, int]
"""The last offset per partition that need not be looked at again; -1 for a partition that is not in it."""


@dataclass(frozen=True, slots=True)
class LoggedUser:
    """One user as the log has it; `entries` are (partition, offset, entry, whether a merge moved it here)."""

    user_id: str
    entries: list[tuple[str, int, HistoryEntry, bool]]
    identity_changes: list[PositionedMessage]
    offsets: dict[str, int]


@dataclass(frozen=True, slots=True)
class Selection:
    """`users` to rebuild from `snapshot`, `at_once` in each pass.

    The receiver of a merge comes before the user that ends: after an interruption in between, the merge must not be
    marked as done.
    """

    snapshot: Snapshot
    users: pl.Series
    at_once: int


def select_users(log: InteractionLog, since: Start | None) -> Selection:
    """Return the users with rows or identity changes beyond `since`, receivers of merges first."""
    snapshot = log.snapshot()
    beyond = pl.col("offset") > _since(since)
    merges = snapshot.identity_changes.filter(pl.col("into").is_not_null())
    user_ids = pl.concat(
        [
            snapshot.places.filter(beyond).select("user_id"),
            snapshot.rows.filter(pl.col("since").is_not_null(), beyond).select("user_id"),
        ]
    )
    users = user_ids.unique().collect()
    while True:
        into = merges.join(users, on="user_id", how="semi").select(user_id="into").unique()
        new = into.join(users, on="user_id", how="anti")
        if new.is_empty():
            break
        users = pl.concat([users, new])
    last = snapshot.identity_changes.group_by("user_id").agg(pl.col("occurred_at").max())
    ordered = users.join(last, on="user_id", how="left").sort("occurred_at", "user_id", nulls_last=False)
    rows = int(snapshot.rows.select(pl.len()).collect().item())
    return Selection(snapshot, ordered.get_column("user_id"), max(1, ROWS_AT_ONCE * ordered.height // max(rows, 1)))


def _since(since: Start | None) -> pl.Expr:
    if not since:
        return pl.lit(-1, pl.Int64())
    return pl.col("partition").replace_strict(dict(since), default=-1, return_dtype=pl.Int64())


def logged_users(selection: Selection) -> Iterator[list[LoggedUser]]:
    """Yield the users in the order of the selection, one list per pass."""
    for start in range(0, selection.users.len(), selection.at_once):
        yield _read(selection.snapshot, selection.users.slice(start, selection.at_once))


def _read(snapshot: Snapshot, users: pl.Series) -> list[LoggedUser]:
    mine = pl.DataFrame({"user_id": users})
    offsets: defaultdict[str, dict[str, int]] = defaultdict(dict)
    places = snapshot.places.filter(~pl.col("partition").str.starts_with(IMPORT_PREFIX))
    for user_id, partition, offset in places.join(mine.lazy(), on="user_id", how="semi").collect().iter_rows():
        offsets[user_id][partition] = offset
    identity_changes = _identity_changes(snapshot.identity_changes.join(mine, on="user_id", how="semi"))
    entries = {user_id: list(rows) for user_id, rows in _entries(snapshot.rows, mine, identity_changes)}
    return [
        LoggedUser(user_id, entries.get(user_id, []), identity_changes.get(user_id, []), offsets[user_id])
        for user_id in users
    ]


def _identity_changes(rows: pl.DataFrame) -> dict[str, list[PositionedMessage]]:
    """By user, each partition's in its order."""
    identity_changes: defaultdict[str, list[PositionedMessage]] = defaultdict(list)
    for event_id, user_id, partition, offset, at, into in rows.sort("offset").iter_rows():
        message = (
            Erasure(event_id=event_id or "", user_id=user_id, occurred_at=at)
            if into is None
            else Merge(event_id=event_id or "", user_id=user_id, into=into, occurred_at=at)
        )
        identity_changes[user_id].append(PositionedMessage(partition, offset, message))
    return dict(identity_changes)


def _entries(
    rows: pl.LazyFrame, users: pl.DataFrame, identity_changes: Mapping[str, list[PositionedMessage]]
) -> Iterator[tuple[str, Iterator[tuple[str, int, HistoryEntry, bool]]]]:
    columns = ("partition", "offset", "occurred_at", "event_id", "item_id", "type", "since")
    newest = (
        rows.join(users.lazy(), on="user_id", how="semi")
        .select("user_id", *columns)
        .with_columns(pl.col("occurred_at", "since").dt.epoch("us"))
        .sort("user_id", "occurred_at")
        .group_by("user_id", (pl.col("type") == IMPRESSION).alias("shown"), maintain_order=True)
        .tail(REPEAT_WINDOW)
        .group_by("user_id", maintain_order=True)
        .agg(columns)
        .collect()
    )
    for user_id, *values in newest.iter_rows():
        last = max((epoch_ms(change.message.occurred_at) for change in identity_changes.get(user_id, [])), default=0)
        yield user_id, _placed(zip(*values, strict=True), last)


def _placed(
    rows: "Iterator[tuple[str, int, int, str, str, str, int | None]]", left_ms: int
) -> Iterator[tuple[str, int, HistoryEntry, bool]]:
    """Yield entries with their offsets; imported ones count from the user's last identity change, at `left_ms`."""
    for partition, offset, at_us, event_id, item_id, kind, since_us in rows:
        imported = left_ms if partition.startswith(IMPORT_PREFIX) else 0
        since_ms = imported if since_us is None else round(since_us / 1000)
        entry = HistoryEntry(round(at_us / 1000), event_key(event_id), item_id, kind, since_ms)
        yield partition, offset, entry, since_us is not None
