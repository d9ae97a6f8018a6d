"""Bring the feature store up to what the log knows: after an import, or when the store was lost."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl

from recsys.errors import Conflict
from recsys.feature_store import FeatureStore
from recsys.interaction import IMPRESSION, event_key
from recsys.interaction_log import InteractionLog
from recsys.user_features import HISTORY_LENGTH, HistoryEntry, UserFeatures, join, left_since

USERS_AT_ONCE = 500
ITEMS_AT_ONCE = 1000
ROWS_AT_ONCE = 2_000_000
"""Rows of the log in memory: a longer log is read in several passes, each for a share of the users."""
ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class _Logged:
    """What the log knows of one user: the newest interactions, each with its place."""

    user_id: str
    entries: list[tuple[str, int, HistoryEntry]]

    def beyond(self, stored: UserFeatures, length: int) -> UserFeatures:
        """`stored` with what it has not seen.

        What was applied before may have left since: the log may learn of that later than the store, and must not
        bring back what the store has forgotten. It may as well be ahead of the store; so offsets stay what they
        are, and what lies between is applied in its turn, erasures and merges too.
        """

        def is_fresh(partition: str, offset: int, entry: HistoryEntry) -> bool:
            if entry.since_ms:
                return left_since(stored, entry.since_ms) is None
            if partition in stored.offsets:
                return offset > stored.offsets[partition]
            return left_since(stored, entry.at_ms) is None

        fresh = [entry for partition, offset, entry in self.entries if is_fresh(partition, offset, entry)]
        return join(stored, UserFeatures(self.user_id, tuple(fresh)), length)


async def seed_features(
    log: InteractionLog,
    store: FeatureStore,
    history_length: int = HISTORY_LENGTH,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> None:
    """Join each user's newest `history_length` interactions into the store, and put every item.

    Idempotent, and safe while consumers write. `progress` gets users done and users altogether. Raises
    `StoreUnavailable`, `LogUnavailable`, and `Conflict` when a user changes faster than can be joined.
    """
    items = await asyncio.to_thread(log.items)
    for first in range(0, len(items), ITEMS_AT_ONCE):
        await store.put_items(items[first : first + ITEMS_AT_ONCE])
    rows, users = await asyncio.to_thread(_size, log)
    done, passes = 0, rows // ROWS_AT_ONCE + 1
    for number in range(passes):
        logged = await asyncio.to_thread(_read, log, history_length, number, passes)
        for first in range(0, len(logged), USERS_AT_ONCE):
            batch = logged[first : first + USERS_AT_ONCE]
            await _join(batch, store, history_length)
            done += len(batch)
            progress(done, users)


async def _join(logged: list[_Logged], store: FeatureStore, length: int) -> None:
    waiting = {one.user_id: one for one in logged}
    for _ in range(ATTEMPTS):
        stored = await store.load(list(waiting))
        joined = [waiting[features.user_id].beyond(features, length) for features in stored]
        changed = [new for new, old in zip(joined, stored, strict=True) if new is not old]
        saved = await store.save(changed)
        waiting = {new.user_id: waiting[new.user_id] for new, done in zip(changed, saved, strict=True) if not done}
        if not waiting:
            return
    raise Conflict(f"{len(waiting)} users changed {ATTEMPTS} times while being seeded; seed again")


def _size(log: InteractionLog) -> tuple[int, int]:
    """Rows and users in the log."""
    rows, users = log.read().select(rows=pl.len(), users=pl.col("user_id").n_unique()).collect().row(0)
    return rows, users


def _read(log: InteractionLog, length: int, number: int, passes: int) -> list[_Logged]:
    rows = log.read().select("user_id", "event_id", "item_id", "type", "occurred_at", "partition", "offset", "since")
    mine = rows.filter(pl.col("user_id").hash() % passes == number).collect()
    newest = (
        mine.with_columns(pl.col("occurred_at", "since").dt.epoch("us"))
        .sort("user_id", "occurred_at")
        .group_by("user_id", (pl.col("type") == IMPRESSION).alias("shown"), maintain_order=True)
        .tail(length)
        .group_by("user_id", maintain_order=True)
        .agg(pl.all())
    )
    return [_Logged(row["user_id"], list(_entries(row))) for row in newest.iter_rows(named=True)]


def _entries(row: dict[str, Any]) -> Iterator[tuple[str, int, HistoryEntry]]:
    columns = (row[name] for name in ("partition", "offset", "occurred_at", "event_id", "item_id", "type", "since"))
    for partition, offset, at_us, event_id, item_id, kind, since_us in zip(*columns, strict=True):
        at_ms, since_ms = round(at_us / 1000), round((since_us or 0) / 1000)
        yield partition, offset, HistoryEntry(at_ms, event_key(event_id), item_id, kind, since_ms)
