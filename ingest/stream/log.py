"""The log group: every event into the interaction log, one commit a batch; it alone writes dead letters."""

import asyncio
from collections.abc import Collection, Mapping
from datetime import UTC, datetime

import polars as pl
import structlog

from ingest.stream.dead_letter import DeadLetterWriter
from ingest.stream.flow import Batch
from recsys.errors import Conflict, LogUnavailable
from recsys.stores.event_log import MAX_DATES, InteractionLog, interaction_rows

log = structlog.get_logger()
ATTEMPTS = 10


class LogGroup:
    """Writes every event to the interaction log, one commit per batch, and refused messages to the dead letters."""

    name = "log"
    versions: tuple[str, ...] = ()

    def __init__(self, interaction_log: InteractionLog, dead_letters: DeadLetterWriter, compact_every: int = 0) -> None:
        self._log = interaction_log
        self._dead_letters = dead_letters
        self._compact_every = compact_every
        self._files = 0
        self._watermarks: dict[str, int] = {}

    async def apply(self, batch: Batch) -> int:
        """Apply the batch and return the number of repeats; idempotent. Raises `LogUnavailable`, possibly half-way."""
        reached = await self._reached(batch.offsets)
        repeated = sum(
            record.offset <= reached[record.partition]
            for record in (*batch.interactions, *batch.erasures, *batch.merges)
        )
        await asyncio.to_thread(self._write, batch)
        self._watermarks |= {partition: max(offset, reached[partition]) for partition, offset in batch.offsets.items()}
        await self._dead_letters.dead_letter(batch.refusals, batch.erasures)
        return repeated

    async def watermarks(self, partitions: Collection[str]) -> Mapping[str, int]:
        """Return the log's last committed offset of each partition, -1 where it has none. Raises `LogUnavailable`."""
        reached = await self._reached(partitions)
        # Only this member's partitions stay in memory: other members move the watermarks of theirs.
        self._watermarks = {
            partition: max(offset, self._watermarks.get(partition, -1)) for partition, offset in reached.items()
        }
        return reached

    async def _reached(self, partitions: Collection[str]) -> dict[str, int]:
        """Return watermarks from memory where possible: opening the table takes as long as a small batch."""
        reached: dict[str, int] = {}
        for partition in partitions:
            offset = self._watermarks.get(partition)
            if offset is None:
                offset = await asyncio.to_thread(self._log.watermark, partition)
                self._watermarks[partition] = max(offset, self._watermarks.get(partition, -1))
            reached[partition] = offset
        return reached

    def _write(self, batch: Batch) -> None:
        # Identity changes first: a reader that sees a row or a watermark sees every identity change before it.
        if batch.merges:
            self._log.merge(batch.merges)
        if batch.erasures:
            self._log.erase(batch.erasures)
        rows = interaction_rows(batch.interactions)
        self._append(rows, batch.offsets)
        if batch.items:
            batch.refuse_items(self._log.append_items(batch.items), datetime.now(UTC))
        self._tidy(min(rows.get_column("date").n_unique(), MAX_DATES))

    def _tidy(self, files: int) -> None:
        """Compact after enough new files: small commits make one small file per date, and reads slow."""
        self._files += files
        if self._compact_every and self._files >= self._compact_every:
            self._files = 0
            try:
                self._log.compact()
            except LogUnavailable as error:
                log.warning("the log could not be compacted", error=str(error))

    def _append(self, rows: pl.DataFrame, offsets: Mapping[str, int]) -> None:
        """Append, again after a conflict: a watermark moved, and the log then drops rows below it."""
        for _ in range(ATTEMPTS):
            try:
                self._log.append(rows, offsets)
            except Conflict:
                continue
            return
        raise LogUnavailable("the interaction log keeps changing under this writer")
