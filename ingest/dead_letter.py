"""Dead letters: messages that can never be applied, kept in a table and told on a topic of their own."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from time import monotonic

import msgspec
import structlog

from ingest.metrics import DEAD_LETTERS, DEAD_LETTERS_WAITING
from recsys.envelope import HEADERS
from recsys.errors import LogUnavailable
from recsys.interaction import Erasure, Interaction, Merge
from recsys.interaction_log import DeadLetters
from recsys.interaction_log.letters import LetterQuery, Refusal
from recsys.interaction_topic import Outgoing, TopicProducer
from recsys.item import Item
from recsys.settings import TopicSettings
from recsys.user_features import Positioned

log = structlog.get_logger()

TOPIC_LENGTH = 10_000
"""Streams: letters kept for who reads the topic; the table has them all."""
EXPIRY_INTERVAL = 3600.0
OTHER_FIELD = "other"
_FIELDS = {"message", *HEADERS} | {
    field.name for kind in (Interaction, Item, Erasure, Merge) for field in msgspec.structs.fields(kind)
}


def dead_letter_topic(topic: TopicSettings) -> TopicSettings:
    """Where the dead letters of `topic` are told."""
    length = min(TOPIC_LENGTH, topic.max_length)
    return topic.model_copy(update={"name": f"{topic.name}.dead-letters", "partitions": 1, "max_length": length})


class DeadLetterWriter:
    """The table has every letter; the topic tells of them as well as it can, and never holds anything up."""

    def __init__(self, letters: DeadLetters, topic: TopicProducer, retention: float) -> None:
        self._letters = letters
        self._topic = topic
        self._retention = timedelta(seconds=retention)
        self._expiry_due = 0.0
        DEAD_LETTERS_WAITING.set_function(self._waiting)

    async def dead_letter(self, refusals: Sequence[Refusal], erasures: Sequence[Positioned] = ()) -> None:
        """Keep what was refused, and of that nothing of users who were erased later.

        Idempotent in the table; the topic is told again by whoever is given the same refusals again.
        Raises `LogUnavailable`, and has told the topic of nothing then.
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

    def _forget(self, erasures: Iterable[Positioned]) -> None:
        """A replay must not bring back what a user sent before being erased."""
        erased = {erasure.message.user_id: erasure for erasure in erasures}
        query = LetterQuery(status=None, keys=list(erased))
        gone = [
            letter
            for letter in self._letters.letters(query)
            if letter.partition != (erasure := erased[letter.key or ""]).partition or letter.offset < erasure.offset
        ]
        if gone:
            self._letters.discard(gone, by="ingest", why="the user was erased", at=datetime.now(UTC))

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
    """The field that was wrong, among the fields our messages have: a label must not grow with what people send."""
    name = field.partition(".")[0]
    return name if name in _FIELDS else OTHER_FIELD


def _outgoing(refusal: Refusal) -> Outgoing:
    """The message as it came, its own headers too; told twice, it has the same id and number of times."""
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
