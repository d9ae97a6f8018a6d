"""Rebuild the feature store from the log: after an import, or when the store was lost or is behind.

A user's record is built from the log, as the stream would have built it, and joined with the stored one. Consumers
may be at any offset and need not stop: each record holds the offsets it has seen.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl
import structlog

from ingest.maintenance.rebuild_users import LoggedUser, Selection, Start, logged_users, select_users
from ingest.stream.features import with_embeddings
from ingest.stream.trend_counts import OTHER_UNITS, UNITS
from recsys.errors import Conflict
from recsys.index.index import Index
from recsys.messages.interaction import FUTURE_TOLERANCE
from recsys.recommender.trends import HOUR_MS, TREND_HOURS, TrendCounts, hour_of
from recsys.retries import compare_and_set
from recsys.stores.event_log import InteractionLog
from recsys.stores.event_log.protocol import IMPORT_PREFIX
from recsys.stores.items import ItemStore
from recsys.stores.trends import TrendStore
from recsys.stores.users import UserStore
from recsys.users import HISTORY_LENGTH, HistoryEntry, UserFeatures, apply, identity_change, join

logger = structlog.get_logger()

USERS_AT_ONCE = 500
ITEMS_AT_ONCE = 1000
ATTEMPTS = 20

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class RebuildResult:
    """How many users were rebuilt, and up to which offset of each partition.

    `ahead`: offsets the store had seen beyond that. If the store was lost, events in between may be missing: rebuild
    again since `watermarks` once the log has reached them.
    """

    users: int
    watermarks: Mapping[str, int]
    ahead: Mapping[str, int]


async def rebuild_features(
    log: InteractionLog,
    user_store: UserStore,
    item_store: ItemStore,
    history_length: int = HISTORY_LENGTH,
    progress: Progress = lambda _done, _total: None,
    *,
    indexes: Sequence[Index] = (),
    since: Start | None = None,
    anew: bool = False,
) -> RebuildResult:
    """Rebuild every user's record, with embeddings for `indexes`, and every item.

    `since`: only users with events beyond these offsets. `anew`: a stored record counts only where it has seen more
    than the log. Idempotent, safe while consumers write, and to be repeated after an interruption.
    `progress` gets users done and users in all. Raises `StoreUnavailable`, `LogUnavailable`, and `Conflict`
    when a user changes faster than can be joined.
    """
    items = await asyncio.to_thread(log.items)
    for first in range(0, len(items), ITEMS_AT_ONCE):
        refused = await item_store.put(items[first : first + ITEMS_AT_ONCE], whole=True)
        if refused:
            position, error = next(iter(refused.items()))
            item_id = items[first + position].item_id
            logger.warning("items have no room in the store", count=len(refused), first=item_id, error=str(error))
    selection: Selection = await asyncio.to_thread(select_users, log, since)
    users, done, watermarks = selection.users.len(), 0, selection.snapshot.watermarks
    ahead: dict[str, int] = {}
    passes = logged_users(selection)
    while (logged := await asyncio.to_thread(next, passes, None)) is not None:
        for first in range(0, len(logged), USERS_AT_ONCE):
            batch = logged[first : first + USERS_AT_ONCE]
            for offsets in await _save(batch, user_store, history_length, indexes, anew):
                for partition, offset in offsets.items():
                    if offset > max(watermarks.get(partition, -1), ahead.get(partition, -1)):
                        ahead[partition] = offset
            done += len(batch)
            progress(done, users)
    return RebuildResult(users, watermarks, ahead)


async def _save(
    logged: Sequence[LoggedUser], store: UserStore, length: int, indexes: Sequence[Index], anew: bool
) -> list[Mapping[str, int]]:
    """Save the joined records and return the offsets that each stored record had seen."""
    stored_offsets: list[Mapping[str, int]] = []

    async def write(waiting: dict[str, LoggedUser]) -> dict[str, LoggedUser]:
        """Save the joined records once; returns the users whose records changed in between."""
        stored = await store.load(list(waiting))
        stored_offsets.extend(record.offsets for record in stored)
        met = [meet(waiting[old.user_id], old, length, anew) for old in stored]
        changed = [new for new, old in zip(met, stored, strict=True) if new is not old or _lacks(old, indexes)]
        saved = await store.save(await asyncio.to_thread(with_embeddings, changed, indexes))
        return {new.user_id: waiting[new.user_id] for new, done in zip(changed, saved, strict=True) if not done}

    if lost := await compare_and_set({user.user_id: user for user in logged}, write, ATTEMPTS):
        raise Conflict(f"{len(lost)} users changed {ATTEMPTS} times while being rebuilt; do it again")
    return stored_offsets


def meet(logged: LoggedUser, stored: UserFeatures, length: int = HISTORY_LENGTH, anew: bool = False) -> UserFeatures:
    """Return one record of `stored` and the log's entries; `stored` itself where the log adds nothing.

    Either may be ahead of the other on each partition, and `stored` may begin in the middle of the topic. So the
    identity changes that one lacks are applied to its entries: by offset within a partition, by time elsewhere.
    """
    if anew and all(offset <= logged.offsets.get(partition, -1) for partition, offset in stored.offsets.items()):
        stored = UserFeatures(stored.user_id, revision=stored.revision)
    logged_changes = tuple(identity_change(record.message) for record in logged.identity_changes)
    unlogged = [change for change in stored.identity_changes if change not in logged_changes]

    def stays(partition: str, offset: int, entry: HistoryEntry, moved: bool) -> bool:
        """Return whether a logged entry stays after the identity changes that the log lacks."""
        if moved:
            return not any(change.takes(entry.since_ms) for change in unlogged)
        if partition in stored.offsets:
            return offset > stored.offsets[partition] or not unlogged
        return not any(change.takes(entry.at_ms) for change in unlogged)

    entries = tuple(
        entry for partition, offset, entry, moved in logged.entries if stays(partition, offset, entry, moved)
    )
    caught_up = apply(stored, logged.identity_changes, length)
    return join(
        caught_up, UserFeatures(stored.user_id, entries, logged.offsets, identity_changes=logged_changes), length
    )


def _lacks(stored: UserFeatures, indexes: Sequence[Index]) -> bool:
    return bool(stored.history) and any(index.version not in stored.embeddings for index in indexes)


async def rebuild_trends(log: InteractionLog, store: TrendStore, now_ms: float) -> list[str]:
    """Count the last week of the log where nothing was counted; return the partitions already counted.

    Events of users erased since are not counted. Raises `StoreUnavailable`, `LogUnavailable`.
    """
    counts = await asyncio.to_thread(lambda: list(_trends(log, now_ms)))
    offsets = await store.count(counts) if counts else []
    return [trend.partition for trend, offset in zip(counts, offsets, strict=True) if offset != trend.base_offset]


def _trends(log: InteractionLog, now_ms: float) -> Iterator[TrendCounts]:
    snapshot = log.snapshot()
    hour = pl.col("occurred_at").dt.epoch("ms") // HOUR_MS
    units = pl.col("type").replace_strict(UNITS, default=OTHER_UNITS, return_dtype=pl.Int64())
    first, last = hour_of(now_ms) - TREND_HOURS + 1, hour_of(now_ms + 1000 * FUTURE_TOLERANCE)
    weights = (
        snapshot.rows.filter(hour.is_between(first, last), ~pl.col("partition").str.starts_with(IMPORT_PREFIX))
        .group_by("partition", hour.alias("hour"), "item_id")
        .agg(units.sum().alias("units"))
        .filter(pl.col("units") > 0)
        .collect()
    )
    hours: defaultdict[str, defaultdict[int, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
    for partition, at, item_id, weight in weights.iter_rows():
        hours[partition][at][item_id] = weight
    for partition, counted in hours.items():
        yield TrendCounts(partition, -1, snapshot.watermarks[partition], counted)
