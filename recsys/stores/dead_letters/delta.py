"""Dead letters as a Delta table beside the interaction log."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

import polars as pl
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError

from recsys.clients.delta import opened, opened_or_created, translated
from recsys.errors import LogUnavailable
from recsys.retries import retried
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
    folded,
    near,
    refusal_rows,
)

CONFIGURATION = {"delta.dataSkippingStatsColumns": "letter,times_seen,at,offset"}
"""Statistics stand in Delta's own log, which outlives the files: they must not name a user's key."""
MOMENT = 'Timestamp(Microsecond, Some("UTC"))'
ATTEMPTS = 10
PAUSE = 0.25
"""Seconds at most before a commit that came second is tried again."""

T = TypeVar("T")


class DeltaDeadLetters:
    """A `DeadLetters`: the table `dead_letters` under the log's path. Nothing is cached between calls."""

    def __init__(self, path: str) -> None:
        self._uri = f"{path.rstrip('/')}/dead_letters"

    def dead_letter(self, refusals: Sequence[Refusal]) -> list[Refusal]:
        """See `DeadLetters.dead_letter`."""
        rows = refusal_rows(refusals)
        if rows.is_empty():
            return []
        happenings = self._read(lambda table_rows: near(table_rows, rows).select(HAPPENING).collect())
        fresh = rows.join(happenings, on=HAPPENING, how="anti")
        self._append(fresh)
        new = set(fresh.select("letter", "times_seen").iter_rows())
        return [refusal for refusal in refusals if (refusal.letter, refusal.times_seen) in new]

    def letters(self, query: LetterQuery) -> list[DeadLetter]:
        """See `DeadLetters.letters`."""
        return self._read(lambda rows: dead_letters_of(chosen(rows, query)))

    def content(self, letters: Sequence[DeadLetter]) -> dict[str, Content]:
        """See `DeadLetters.content`."""
        return self._read(lambda rows: contents(rows, letters))

    def waiting(self) -> int:
        """See `DeadLetters.waiting`."""

        def count(rows: pl.LazyFrame) -> int:
            """The number of letters that wait among `rows`."""
            return int(folded(rows).filter(status=Status.WAITING.value).select(pl.len()).collect().item())

        return self._read(count)

    def replayed(self, letters: Sequence[DeadLetter], by: str, at: datetime) -> None:
        """See `DeadLetters.replayed`."""
        self._append(decision_rows(letters, Status.REPLAYED, at, by, None))

    def discard(self, letters: Sequence[DeadLetter], by: str, comment: str, at: datetime) -> None:
        """See `DeadLetters.discard`; older files of the table are deleted at once."""
        # The decision first: were it lost, a letter without its message would stay waiting.
        self._append(decision_rows(letters, Status.DISCARDED, at, by, comment))
        _retry(self._erase)

    def expire(self, cutoff: datetime) -> None:
        """See `DeadLetters.expire`; older files of the table are deleted at once."""

        def erase() -> None:
            """Delete the rows before `cutoff`, compact the table, and erase what is discarded."""
            table = opened(self._uri)
            if table is not None:
                table.delete(f"at < arrow_cast('{cutoff.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}', '{MOMENT}')")
                table.optimize.compact()
                self._erase()

        _retry(erase)

    def _erase(self) -> None:
        """Empty what is discarded, and delete the files that still hold it."""
        table = opened(self._uri)
        if table is None:
            return
        gone = discarded(pl.scan_delta(table))
        if not gone.is_empty():
            same = "kept.letter = gone.letter AND kept.times_seen <= gone.times_seen"
            merge = table.merge(gone, same, source_alias="gone", target_alias="kept")
            merge.when_matched_update(dict.fromkeys(CONTENT, "NULL")).execute()
        _vacuum(table)

    def _append(self, rows: pl.DataFrame) -> None:
        """Again where a discard or another creator of the table came first: a row that is there twice counts once."""
        if not rows.is_empty():
            _retry(lambda: write_deltalake(self._table(), rows, mode="append"))

    def _read(self, look: Callable[[pl.LazyFrame], T]) -> T:
        def rows() -> pl.LazyFrame:
            """The table's rows; none where there is no table."""
            table = opened(self._uri)
            return pl.LazyFrame(schema=LETTER_SCHEMA) if table is None else pl.scan_delta(table)

        return _retry(lambda: look(rows()))

    def _table(self) -> DeltaTable:
        return opened_or_created(self._uri, LETTER_SCHEMA, configuration=CONFIGURATION)


def _retry(call: Callable[[], T]) -> T:
    """Some more times, where another writer came first or a discard took away the files that were being read."""
    with translated("the dead letters", contested=LogUnavailable):
        return retried(call, (DeltaError, FileNotFoundError), ATTEMPTS, PAUSE)


def _vacuum(table: DeltaTable) -> None:
    """Delete the files that no longer belong to the table; not those that a writer has begun and not committed."""
    table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
