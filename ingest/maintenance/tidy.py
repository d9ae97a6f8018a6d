"""Tidying the interaction log: small files become few, erased users leave the files, old files are deleted.

Safe beside readers and writers, and safe to repeat after an interruption. It updates the receipts of erasures.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from recsys.messages.interaction import epoch_ms
from recsys.stores.event_log import InteractionLog
from recsys.stores.event_log.protocol import LogSize, Purge
from recsys.stores.receipts import ErasureReceipts, folder_of, forgotten
from recsys.stores.users import UserStore

USERS_AT_ONCE = 500

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class TidyResult:
    """The log before and after; rows deleted or moved under another user, files deleted, receipts completed."""

    size_before: LogSize
    size_after: LogSize
    rows: int
    files: int
    completed: int


@dataclass(frozen=True, slots=True)
class _Erasure:
    receipt: str
    user_id: str
    at: datetime
    rows: int
    reached: set[str]


async def tidy(
    log: InteractionLog,
    users: UserStore,
    receipts: ErasureReceipts,
    retention: float,
    progress: Progress = lambda _stage: None,
) -> TidyResult:
    """Purge, compact, then delete files that no version of the last `retention` seconds needs.

    Raises `LogUnavailable`, `RegistryUnavailable`, `StoreUnavailable`, and `Conflict` where writers were in the way.
    """
    size_before = await asyncio.to_thread(log.size)
    progress("looking for what was erased or merged")
    plan = await asyncio.to_thread(log.purge_plan)
    waiting = await asyncio.to_thread(_waiting, plan.erased, receipts)
    await _note_features(waiting, users, receipts)
    progress(f"rewriting files for {len(waiting):,} erasures and {plan.changes.height:,} rows")
    rows = await asyncio.to_thread(_purge, log, receipts, waiting, plan)
    progress("compacting")
    await asyncio.to_thread(log.compact)
    progress("deleting old files")
    vacuumed = await asyncio.to_thread(log.vacuum, retention)
    completed = await asyncio.to_thread(_note_vacuum, waiting, receipts, vacuumed.cutoff)
    return TidyResult(size_before, await asyncio.to_thread(log.size), rows, vacuumed.files, completed)


def _waiting(erased: pl.DataFrame, receipts: ErasureReceipts) -> list[_Erasure]:
    """Return erasures whose receipts are incomplete; requests a receipt where there is none."""
    reached = receipts.reached()
    named = erased.with_columns(receipt=pl.coalesce("event_id", pl.format("erasure-{}-{}", "partition", "offset")))
    each = named.group_by("receipt", "user_id").agg(pl.col("occurred_at").min(), pl.col("rows").sum())
    waiting = []
    for receipt, user_id, at, rows in each.iter_rows():
        stages = reached.get(folder_of(receipt), set())
        if "vacuumed" not in stages:
            waiting.append(_Erasure(receipt, user_id, at, rows, stages))
        if "requested" not in stages:
            receipts.request(receipt, user_id, at)
    return waiting


async def _note_features(waiting: Sequence[_Erasure], users: UserStore, receipts: ErasureReceipts) -> None:
    unseen = [erasure for erasure in waiting if "features" not in erasure.reached]
    for first in range(0, len(unseen), USERS_AT_ONCE):
        batch = unseen[first : first + USERS_AT_ONCE]
        stored = await users.load([erasure.user_id for erasure in batch])
        noted_at = datetime.now(UTC)
        for erasure, features in zip(batch, stored, strict=True):
            if forgotten(features, epoch_ms(erasure.at)):
                await asyncio.to_thread(receipts.note, "features", erasure.receipt, noted_at)


def _purge(log: InteractionLog, receipts: ErasureReceipts, waiting: Sequence[_Erasure], plan: Purge) -> int:
    """Purge and return the rows; found rows are noted first, since they cannot be counted afterwards."""
    undone = [erasure for erasure in waiting if "deleted" not in erasure.reached]
    for erasure in undone:
        receipts.note("found", erasure.receipt, datetime.now(UTC), erasure.rows)
    rows = log.purge(plan)
    for erasure in undone:
        receipts.note("deleted", erasure.receipt, datetime.now(UTC))
    return rows


def _note_vacuum(waiting: Sequence[_Erasure], receipts: ErasureReceipts, cutoff: datetime) -> int:
    """Return how many receipts the vacuum completes."""
    completed = 0
    for erasure in waiting:
        deleted = receipts.noted("deleted", erasure.receipt)
        if deleted is not None and deleted.at <= cutoff:
            receipts.note("vacuumed", erasure.receipt, datetime.now(UTC))
            completed += 1
    return completed
