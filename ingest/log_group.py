"""The log group: every event into the interaction log, one commit a batch; it alone writes dead letters."""

import asyncio
from collections.abc import Sequence

import structlog

from ingest.dead_letter import DeadLetter, DeadLetterFolder
from ingest.flow import Batch
from recsys.errors import Conflict, LogUnavailable
from recsys.interaction_log import InteractionLog, interaction_rows
from recsys.interaction_topic import Outgoing, TopicProducer
from recsys.settings import TopicSettings

log = structlog.get_logger()
ATTEMPTS = 10


def dead_letter_topic(topic: TopicSettings) -> TopicSettings:
    """Where the dead letters of `topic` go."""
    return topic.model_copy(update={"name": f"{topic.name}.dead-letters", "partitions": 1})


class LogGroup:
    name = "log"

    def __init__(
        self,
        interaction_log: InteractionLog,
        dead_letters: TopicProducer,
        overflow: DeadLetterFolder,
        compact_every: int = 0,
    ) -> None:
        self._log = interaction_log
        self._dead_letters = dead_letters
        self._overflow = overflow
        self._compact_every = compact_every
        self._commits = 0

    async def apply(self, batch: Batch) -> None:
        """Idempotent. Raises `LogUnavailable`, with any part of the batch applied."""
        await self._bury(batch.rejected)
        await asyncio.to_thread(self._write, batch)

    def _write(self, batch: Batch) -> None:
        # Merges first and erasures last: a row must be seen neither under an id that has ended, nor after it is erased
        # and then, before its erasure is known.
        if batch.merges:
            self._log.merge(batch.merges)
        self._append(batch)
        if batch.items:
            self._log.append_items(batch.items)
        if batch.erasures:
            self._log.erase(batch.erasures)
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

    async def _bury(self, letters: Sequence[DeadLetter]) -> None:
        """On their own topic; in the folder what that topic does not take, so that a bad record never blocks."""
        if not letters:
            return
        log.warning("records refused", count=len(letters), first=letters[0].reason, field=letters[0].field)
        outcomes = await self._dead_letters.send([_outgoing(letter) for letter in letters])
        left = [letter for letter, failure in zip(letters, outcomes, strict=True) if failure is not None]
        if left:
            log.error("dead letters kept in the local folder", count=len(left), error=str(next(filter(None, outcomes))))
            await asyncio.to_thread(self._keep, left)

    def _keep(self, letters: Sequence[DeadLetter]) -> None:
        try:
            self._overflow.write(letters)
        except OSError as error:
            raise LogUnavailable(f"{len(letters)} dead letters cannot be kept anywhere: {error}") from error


def _outgoing(letter: DeadLetter) -> Outgoing:
    """The bytes as they came. A redelivery buries a letter twice; its key is the place, the same both times."""
    headers = {
        "reason": letter.reason,
        "field": letter.field,
        "partition": letter.partition,
        "offset": str(letter.offset),
        "at": letter.at.isoformat(),
    }
    return Outgoing(
        key=f"{letter.partition}:{letter.offset}",
        value=letter.value,
        headers={name: value.encode("utf-8", "replace") for name, value in headers.items()},
    )
