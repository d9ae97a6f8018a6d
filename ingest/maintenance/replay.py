"""Replaying dead letters: their messages onto the topic again, unchanged, with the letter's id in a header."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

from ingest.settings import IngestSettings
from ingest.stream.flow import decode_batch
from recsys.errors import TopicUnavailable
from recsys.stores.dead_letters import DeadLetters
from recsys.stores.dead_letters.protocol import Content, DeadLetter, Refusal
from recsys.stores.topic import Delivered, Outgoing, TopicProducer

CHUNK = 500
CHUNK_BYTES = 4 * 1024 * 1024
"""A replay holds and sends this much at a time, or one letter where that is larger."""

Progress = Callable[[int], None]


def rehearse(
    letters: DeadLetters, chosen: Sequence[DeadLetter], settings: IngestSettings, moment: datetime
) -> list[Refusal]:
    """Return the refusals that a replay of `chosen` would cause at `moment`, without sending anything."""
    refused: list[Refusal] = []
    for chunk in _chunks(chosen):
        content = letters.content(chunk)
        messages = [_delivered(letter, content[letter.letter]) for letter in chunk if letter.letter in content]
        refused += decode_batch(messages, moment, settings).rejected
    return refused


async def replay(
    letters: DeadLetters, chosen: Sequence[DeadLetter], producer: TopicProducer, by: str, progress: Progress
) -> int:
    """Send the messages of `chosen` in their original order and return how many were sent.

    What was acknowledged is recorded chunk by chunk, and what is recorded is waiting no more. A crash between
    the two sends a chunk twice at most: consumers know its events by their ids, and the table its letters by
    how often they were seen. Raises `TopicUnavailable` (with the rest still waiting) and `LogUnavailable`.
    """
    sent = 0
    for chunk in _chunks(chosen):
        content = await asyncio.to_thread(letters.content, chunk)
        whole = [letter for letter in chunk if letter.letter in content]
        outcomes = await producer.send([_outgoing(letter, content[letter.letter]) for letter in whole])
        sent_letters = [letter for letter, failure in zip(whole, outcomes, strict=True) if failure is None]
        await asyncio.to_thread(letters.replayed, sent_letters, by, datetime.now(UTC))
        sent += len(sent_letters)
        progress(len(sent_letters))
        if len(sent_letters) < len(whole):
            failure = next(error for error in outcomes if error is not None)
            raise TopicUnavailable(f"{sent} of {len(chosen)} letters were replayed, the rest still wait: {failure}")
    return sent


def _chunks(chosen: Sequence[DeadLetter]) -> Iterator[list[DeadLetter]]:
    chunk: list[DeadLetter] = []
    size = 0
    for letter in sorted(chosen, key=lambda dead_letter: (dead_letter.partition, dead_letter.offset)):
        if chunk and (len(chunk) == CHUNK or size + letter.size > CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(letter)
        size += letter.size
    if chunk:
        yield chunk


def _outgoing(letter: DeadLetter, content: Content) -> Outgoing:
    return Outgoing(content.key, content.value, {**content.headers, **letter.replayed_header()})


def _delivered(letter: DeadLetter, content: Content) -> Delivered:
    return Delivered(letter.partition, letter.offset, content.key, content.value, content.headers, 0)
