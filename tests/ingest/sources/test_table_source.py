"""A source that is no file fits the seam: a table read by keyset pages, whose rows change between two runs."""

import sqlite3
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.batch.checkpoint import ImportFolder
from ingest.batch.mapping import Mapping
from ingest.batch.report import FileReport
from ingest.batch.source_import import SourceImport
from ingest.settings import IngestSettings
from ingest.sources.rows import ROW, RawRows
from recsys.errors import Conflict, InvalidInput
from recsys.stores.event_log import InteractionLog
from recsys.stores.event_log.cursors import Cursor
from recsys.stores.event_log.memory import MemoryInteractionLog

MOMENT = datetime(2026, 11, 28, tzinfo=UTC)
MAPPING = Mapping.model_validate(
    {
        "interaction": {
            "event_id": {"columns": ["id", "updated_at"]},
            "user_id": "customer",
            "item_id": "product",
            "type": {"value": "purchase"},
            "occurred_at": {"value": "2026-11-01T00:00:00Z"},
        }
    }
)


class TableSource:
    """Orders behind `[updated_at, id]`: an order that was changed comes again."""

    partition = "import:orders"
    columns: Sequence[str] = ("id", "updated_at", "customer", "product")

    def __init__(self, database: sqlite3.Connection, size: int) -> None:
        self._database = database
        self._size = size

    def batches(self, after: Cursor | None) -> Generator[tuple[Cursor, RawRows]]:
        key = [-1, -1] if after is None else after
        if not isinstance(key, list) or len(key) != 2:
            raise InvalidInput("cursor", f"{key!r} is none of this table")
        while page := self._database.execute(
            "select id, updated_at, customer, product from orders where (updated_at, id) > (?, ?) "
            "order by updated_at, id limit ?",
            (*key, self._size),
        ).fetchall():
            key = [page[-1][1], page[-1][0]]
            texts = [tuple(None if value is None else str(value) for value in row) for row in page]
            frame = pl.DataFrame(texts, schema=dict.fromkeys(self.columns, pl.String), orient="row")
            numbered = frame.with_row_index(ROW).with_columns(pl.col(ROW).cast(pl.Int64))
            yield key, RawRows(0, len(page), numbered)


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    with sqlite3.connect(":memory:") as connection:
        connection.execute("create table orders (id int primary key, updated_at int, customer text, product text)")
        yield connection
    connection.close()


def order(database: sqlite3.Connection, number: int, at: int, customer: str | None = "ada") -> None:
    database.execute("insert or replace into orders values (?, ?, ?, ?)", (number, at, customer, f"item-{number % 3}"))


def sync(database: sqlite3.Connection, log: InteractionLog, folder: Path, size: int = 3) -> FileReport:
    imported = SourceImport(
        TableSource(database, size), "orders", MAPPING, ImportFolder(folder), log, IngestSettings(), MOMENT
    )
    with imported.folder.locked():
        return imported.run(lambda _: None)


def events(log: InteractionLog) -> list[str]:
    return sorted(log.read().collect().get_column("event_id"))


def test_each_run_brings_what_is_new_or_has_changed(database: sqlite3.Connection, tmp_path: Path) -> None:
    log = MemoryInteractionLog()
    for number in range(7):
        order(database, number, 100 + number, None if number == 4 else "ada")
    first = sync(database, log, tmp_path)
    assert (first.counts.rows, first.counts.accepted, first.counts.rejected) == (7, 6, {"user_id is missing": 1})
    assert log.source_position("import:orders").cursor == [106, 6]
    assert sync(database, log, tmp_path).already_imported

    order(database, 4, 200)
    order(database, 9, 201)
    second = sync(database, log, tmp_path)
    assert (log.source_position("import:orders").watermark, second.already_imported) == (8, False)
    assert events(log) == ["0-100", "1-101", "2-102", "3-103", "4-200", "5-105", "6-106", "9-201"]


class Kill(BaseException):
    """Passes through everything, as a kill would."""


class KillingLog(MemoryInteractionLog):
    """Ends the run at the commit of that number, before it is made or right behind it."""

    commits = 0
    written = True

    def append(self, *args: object, **kwargs: object) -> bool:
        self.commits -= 1
        if self.commits == 0 and not self.written:
            raise Kill
        done = super().append(*args, **kwargs)  # type: ignore[arg-type]  # handed through
        if self.commits == 0:
            raise Kill
        return done


@settings(deadline=None)
@given(
    runs=st.lists(
        st.tuples(st.integers(1, 5), st.booleans(), st.integers(1, 5), st.lists(st.integers(0, 20), max_size=4)),
        max_size=8,
    )
)
def test_a_table_that_changes_between_kills_is_read_exactly_once(
    runs: list[tuple[int, bool, int, list[int]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, log, at = tmp_path_factory.mktemp("orders"), KillingLog(), 100
    with sqlite3.connect(":memory:") as database:
        database.execute("create table orders (id int primary key, updated_at int, customer text, product text)")
        for number in range(12):
            order(database, number, at + number)
        read: set[str] = set()
        for log.commits, log.written, size, changed in runs:
            with suppress(Kill):
                sync(database, log, folder, size)
            cursor: Any = log.source_position("import:orders").cursor or [-1, -1]
            at += 100
            states = database.execute("select id, updated_at from orders").fetchall()
            read |= {f"{number}-{moment}" for number, moment in states if [moment, number] <= cursor}
            for number in changed:
                order(database, number, at + number)
        log.commits = 0
        sync(database, log, folder)
        read |= {f"{number}-{moment}" for number, moment in database.execute("select id, updated_at from orders")}
    database.close()
    assert sorted(log.events().collect().get_column("event_id")) == sorted(read)


def test_a_process_that_fell_behind_is_refused_and_loses_nothing(database: sqlite3.Connection, tmp_path: Path) -> None:
    """Rows of a table have no numbers of their own: the slower one's would be dropped as repeats."""

    class SlowLog(MemoryInteractionLog):
        overtaken = False

        def append(self, *args: object, **kwargs: object) -> bool:
            if not self.overtaken:
                self.overtaken = True
                sync(database, self, tmp_path / "faster", size=2)
            return super().append(*args, **kwargs)  # type: ignore[arg-type]  # handed through

    log = SlowLog()
    for number in range(5):
        order(database, number, 100 + number)
    with pytest.raises(Conflict, match="another process has moved import:orders on"):
        sync(database, log, tmp_path / "slower", size=5)
    order(database, 5, 200)
    sync(database, log, tmp_path / "slower", size=5)
    assert events(log) == ["0-100", "1-101", "2-102", "3-103", "4-104", "5-200"]
