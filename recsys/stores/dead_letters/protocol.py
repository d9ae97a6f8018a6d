"""Dead letters: messages that could not be applied, and what became of each. Written by ingest and by operators."""

import dataclasses
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

REPLAYED_HEADER = "millirec-replayed"
"""Travels with a replayed message: how often it will have been seen, and its first place on the topic."""
MAX_REASON = 500
_REPLAYED = re.compile(rb"(\d{1,6}) (.{1,255}):(\d{1,19})", re.DOTALL)
_MAX_OFFSET = 2**63 - 1


class Status(StrEnum):
    """The states of a letter, in order; a replayed letter that is refused again waits again."""

    WAITING = "waiting"
    REPLAYED = "replayed"
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True)
class Refusal:
    """One message that was refused: which field was wrong and why, where it stood, and what it was, as it came."""

    reason: str
    field: str
    partition: str
    offset: int
    value: bytes
    at: datetime
    key: str = ""
    headers: Mapping[str, bytes] = dataclasses.field(default_factory=dict)

    @property
    def times_seen(self) -> int:
        """1 for a message of its producer, one more for each replay."""
        replayed = _replayed(self.headers)
        return 1 if replayed is None else replayed[0]

    @property
    def origin(self) -> tuple[str, int]:
        """Partition and offset where it first stood."""
        replayed = _replayed(self.headers)
        return (self.partition, self.offset) if replayed is None else replayed[1]

    @property
    def letter(self) -> str:
        """The letter's id: a hash of its first place and its bytes, so that one letter cannot pass for another.

        The bytes count because a topic that was made anew gives out the same places again.
        """
        partition, offset = self.origin
        return hashlib.blake2b(f"{partition}:{offset}:".encode() + self.value, digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One letter as the table tells it; `changed_at`, `by` and `why` are of its last replay or discard."""

    letter: str
    status: Status
    reason: str
    field: str
    partition: str
    offset: int
    size: int
    first_seen: datetime
    last_seen: datetime
    times_seen: int
    key: str | None = None
    changed_at: datetime | None = None
    by: str | None = None
    why: str | None = None

    def replayed_header(self) -> dict[str, bytes]:
        """The header that a replay adds to the message's own."""
        return {REPLAYED_HEADER: f"{self.times_seen + 1} {self.partition}:{self.offset}".encode()}


@dataclass(frozen=True, slots=True)
class Content:
    """The message of a letter: key, headers and value."""

    key: str
    headers: Mapping[str, bytes]
    value: bytes


@dataclass(frozen=True, slots=True)
class LetterQuery:
    """Which letters: all conditions that are set hold. `ids` may be the beginnings of ids."""

    status: Status | None = Status.WAITING
    reason: str = ""
    """A part of the reason, whatever the case of its letters."""
    field: str = ""
    since: datetime | None = None
    """Last seen then or later."""
    ids: Sequence[str] = ()
    keys: Sequence[str] = ()
    limit: int | None = None


class DeadLetters(Protocol):
    """The dead letters. Methods block: call them from a thread. All raise `LogUnavailable`."""

    def dead_letter(self, refusals: Sequence[Refusal]) -> list[Refusal]:
        """Keep what was refused; returns what was not known before. Idempotent: a redelivery adds nothing."""
        ...

    def letters(self, query: LetterQuery) -> list[DeadLetter]:
        """The letters that `query` asks for, those seen last first."""
        ...

    def content(self, letters: Sequence[DeadLetter]) -> dict[str, Content]:
        """The messages of these letters by id, without those whose bytes are erased."""
        ...

    def waiting(self) -> int:
        """How many letters wait."""
        ...

    def replayed(self, letters: Sequence[DeadLetter], by: str, at: datetime) -> None:
        """Record that these letters, as often as they were seen by now, are on the topic again."""
        ...

    def discard(self, letters: Sequence[DeadLetter], by: str, comment: str, at: datetime) -> None:
        """Record that these letters are given up, and erase their messages for good. Idempotent."""
        ...

    def expire(self, cutoff: datetime) -> None:
        """Erase all that happened before then, and what is discarded and still there. Idempotent."""
        ...


def _replayed(headers: Mapping[str, bytes]) -> tuple[int, tuple[str, int]] | None:
    """How often seen and first place, `None` where the header is missing or malformed."""
    match = _REPLAYED.fullmatch(headers.get(REPLAYED_HEADER, b""))
    if match is None or int(match[3]) > _MAX_OFFSET or int(match[1]) < 2:
        return None
    return int(match[1]), (match[2].decode(errors="replace"), int(match[3]))
