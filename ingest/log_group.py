"""The log group: every event into the interaction log, one commit a batch; it alone writes dead letters."""

import asyncio

import structlog

from ingest.dead_letter import DeadLetterWriter
from ingest.flow import Batch
from recsys.errors import Conflict, LogUnavailable
from recsys.interaction_log import InteractionLog, interaction_rows

log = structlog.get_logger()
ATTEMPTS = 10


class LogGroup:
    name = "log"

    def __init__(self, interaction_log: InteractionLog, dead_letters: DeadLetterWriter, compact_every: int = 0) -> None:
        self._log = interaction_log
        self._dead_letters = dead_letters
        self._compact_every = compact_every
        self._commits = 0

    async def apply(self, batch: Batch) -> None:
        """Idempotent. Raises `LogUnavailable`, with any part of the batch applied."""
        await asyncio.to_thread(self._write, batch)
        await self._dead_letters.bury(batch.rejected, batch.erasures)

    def _write(self, batch: Batch) -> None:
        # Departures first: whoever sees a row, or a watermark, sees every departure that stands before it.
        if batch.merges:
            self._log.merge(batch.merges)
        if batch.erasures:
            self._log.erase(batch.erasures)
        self._append(batch)
        if batch.items:
            self._log.append_items(batch.items)
        self._tidy()

    def _tidy(self) -> None:
        """Small commits make small files, and those make slow reads."""
        self._commits += 1
        if self._compact_every and self._commits % self._compact_every == 0:
            try:
                self._log.compact()
            except LogUnavailable as error:
                log.warning("the log could not be compacted", error=str(error))

    def _append(self, batch: Batch) -> None:
        """A conflict means that a watermark moved: the log looks at it anew and drops what it has."""
        rows = interaction_rows(batch.interactions)
        for _ in range(ATTEMPTS):
            try:
                self._log.append(rows, batch.offsets)
            except Conflict:
                continue
            return
        raise LogUnavailable("the interaction log keeps changing under this writer")
