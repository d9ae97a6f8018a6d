"""Dead letters in memory: for tests and for looking around; gone when the process ends."""

from collections.abc import Sequence
from datetime import datetime
from threading import Lock

import polars as pl

from recsys.stores.dead_letters.protocol import Content, DeadLetter, LetterQuery, Refusal, Status
from recsys.stores.dead_letters.rows import (
    CONTENT,
    HAPPENING,
    LETTER_SCHEMA,
    chosen,
    contents,
    dead_letters_of,
    decision_rows,
    discarded,
    refusal_rows,
)


class MemoryDeadLetters:
    """A `DeadLetters` in a data frame."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._rows = pl.DataFrame(schema=LETTER_SCHEMA)

    def dead_letter(self, refusals: Sequence[Refusal]) -> list[Refusal]:
        """See `DeadLetters.dead_letter`."""
        with self._lock:
            fresh = refusal_rows(refusals).join(self._rows, on=HAPPENING, how="anti")
            self._rows = self._rows.vstack(fresh)
        new = set(fresh.select("letter", "times_seen").iter_rows())
        return [refusal for refusal in refusals if (refusal.letter, refusal.times_seen) in new]

    def letters(self, query: LetterQuery) -> list[DeadLetter]:
        """See `DeadLetters.letters`."""
        return dead_letters_of(chosen(self._rows.lazy(), query))

    def content(self, letters: Sequence[DeadLetter]) -> dict[str, Content]:
        """See `DeadLetters.content`."""
        return contents(self._rows.lazy(), letters)

    def waiting(self) -> int:
        """See `DeadLetters.waiting`."""
        return len(self.letters(LetterQuery()))

    def replayed(self, letters: Sequence[DeadLetter], by: str, at: datetime) -> None:
        """See `DeadLetters.replayed`."""
        with self._lock:
            self._rows = self._rows.vstack(decision_rows(letters, Status.REPLAYED, at, by, None))

    def discard(self, letters: Sequence[DeadLetter], by: str, comment: str, at: datetime) -> None:
        """See `DeadLetters.discard`."""
        with self._lock:
            rows = self._rows.vstack(decision_rows(letters, Status.DISCARDED, at, by, comment))
            gone = discarded(rows.lazy()).rename({"times_seen": "gone"})
            erased = pl.col("gone").is_not_null() & (pl.col("times_seen") <= pl.col("gone"))
            emptied = [pl.when(~erased).then(column).alias(column) for column in CONTENT]
            self._rows = rows.join(gone, on="letter", how="left").with_columns(emptied).select(LETTER_SCHEMA.keys())

    def expire(self, cutoff: datetime) -> None:
        """See `DeadLetters.expire`."""
        with self._lock:
            self._rows = self._rows.filter(pl.col("at") >= cutoff)
