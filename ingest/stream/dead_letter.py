"""Dead letters: messages that can never be applied, kept in a table and sent to a topic of their own."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from time import monotonic

import msgspec
import structlog

from ingest.metrics import DEAD_LETTERS, DEAD_LETTERS_WAITING
from recsys.errors import LogUnavailable
from recsys.messages.envelope import HEADERS
from recsys.messages.interaction import Erasure, Interaction, Merge
from recsys.messages.item import Item
from recsys.settings import TopicSettings
from recsys.stores.dead_letters import DeadLetters
from recsys.stores.dead_letters.protocol import LetterQuery, Refusal
from recsys.stores.topic import Outgoing, TopicProducer
from recsys.users import PositionedMessage

log = structlog.get_logger()

TOPIC_LENGTH = 10_000
"""Letters that a Redis stream keeps for readers of the topic; the table has all."""
EXPIRY_INTERVAL = 3600.0
OTHER_FIELD = "other"
_FIELDS = {"message", *HEADERS} | {
    field.name for kind in (Interaction, Item, Erasure, Merge) for field in msgspec.structs.fields(kind)
}


def dead_letter_topic(topic: TopicSettings) -> TopicSettings:
    """Return the settings of the topic for the dead letters of `topic`."""
    length = min(TOPIC_LENGTH, topic.max_length)
    return topic.model_copy(update={"name": f"{topic.name}.dead-letters", "partitions": 1, "max_length": length})


class DeadLetterWriter:
    """Writes every letter to the table, and to the topic as far as it is available."""

    def __init__(self, letters: DeadLetters, topic: TopicProducer, retention: float) -> None:
        self._letters = letters
        self._topic = topic
        self._retention = timedelta(seconds=retention)
        self._expiry_due = 0.0
        DEAD_LETTERS_WAITING.set_function(self._waiting)

    async def dead_letter(self, refusals: Sequence[Refusal], erasures: Sequence[PositionedMessage] = ()) -> None:
        """Store the refused messages, except those of users erased later.

        Idempotent in the table; repeated refusals are sent to the topic again.
        Raises `LogUnavailable`; then nothing was sent to the topic.
        """
        if refusals:
            first = refusals[0]
            log.warning("records refused", count=len(refusals), first=first.reason, field=first.field)
            for refusal in await asyncio.to_thread(self._letters.dead_letter, refusals):
                DEAD_LETTERS.labels(field_label(refusal.field)).inc()
        if erasures:
            await asyncio.to_thread(self._forget, erasures)
        if refusals:
            await self._tell(refusals)
        if monotonic() >= self._expiry_due:
            self._expiry_due = monotonic() + EXPIRY_INTERVAL
            await asyncio.to_thread(self._expire)

    def _forget(self, erasures: Iterable[PositionedMessage]) -> None:
        """Discard the letters of erased users, so that a replay cannot bring them back."""
        erased = {erasure.message.user_id: erasure for erasure in erasures}
        query = LetterQuery(status=None, keys=list(erased))
        gone = [
            letter
            for letter in self._letters.letters(query)
            if letter.partition != (erasure := erased[letter.key or ""]).partition or letter.offset < erasure.offset
        ]
        if gone:
            self._letters.discard(gone, by="ingest", comment="the user was erased", at=datetime.now(UTC))

    def _expire(self) -> None:
        try:
            self._letters.expire(datetime.now(UTC) - self._retention)
        except LogUnavailable as error:
            log.warning("old dead letters could not be erased", error=str(error))

    async def _tell(self, refusals: Sequence[Refusal]) -> None:
        outcomes = await self._topic.send([_outgoing(refusal) for refusal in refusals])
        failures = [failure for failure in outcomes if failure is not None]
        if failures:
            log.warning("dead letters are in the table only", count=len(failures), error=str(failures[0]))

    def _waiting(self) -> float:
        try:
            return self._letters.waiting()
        except LogUnavailable:
            return float("nan")


def field_label(field: str) -> str:
    """Return `field` if our messages have it, else `other`: the set of metric labels must stay bounded."""
    name = field.partition(".")[0]
    return name if name in _FIELDS else OTHER_FIELD


def _outgoing(refusal: Refusal) -> Outgoing:
    """Return the original message with its headers and those of the refusal; a repeat has the same id and headers."""
    headers = {
        "letter": refusal.letter,
        "times-seen": str(refusal.times_seen),
        "reason": refusal.reason,
        "field": refusal.field,
        "partition": refusal.partition,
        "offset": str(refusal.offset),
        "key": refusal.key,
        "at": refusal.at.isoformat(),
    }
    encoded = {name: value.encode("utf-8", "replace") for name, value in headers.items()}
    return Outgoing(refusal.letter, refusal.value, {**refusal.headers, **encoded})
