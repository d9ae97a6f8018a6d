"""The contract of a source (`ingest.sources.protocol`), for every kind of source."""

from contextlib import closing
from typing import Any

import msgspec
import polars as pl
import pytest

from ingest.sources.rows import ROW
from recsys.errors import InvalidInput
from recsys.stores.event_log.cursors import MAX_CURSOR_BYTES, Cursor, decode_cursor, encode_cursor
from recsys.stores.event_log.protocol import IMPORT_PREFIX
from tests.contracts.sources.conftest import ROWS, SourceCase

SIZES = (1, 4, 23, 100)


def read(case: SourceCase, size: int, after: Cursor | None = None) -> list[tuple[Cursor, list[Any]]]:
    """Every batch that follows: its cursor and its rows."""
    with closing(case.open_source(size).batches(after)) as batches:
        return [(cursor, rows.frame.select(ROWS.columns).rows()) for cursor, rows in batches]


def joined(batches: list[tuple[Cursor, list[Any]]]) -> list[Any]:
    return [row for _, rows in batches for row in rows]


@pytest.mark.parametrize("size", SIZES)
def test_batches_cover_every_row_once_and_in_order(case: SourceCase, size: int) -> None:
    assert joined(read(case, size)) == ROWS.rows()


@pytest.mark.parametrize("size", SIZES)
def test_batches_are_neither_empty_nor_larger_than_asked_for(case: SourceCase, size: int) -> None:
    with closing(case.open_source(size).batches(None)) as batches:
        for _, rows in batches:
            assert 1 <= rows.end - rows.start <= size
            numbers = [*rows.frame.get_column(ROW), *(row.row for row in rows.broken)]
            assert sorted(numbers) == [*range(rows.start, rows.end)]


def test_every_column_of_a_row_is_text(case: SourceCase) -> None:
    source = case.open_source(100)
    assert list(source.columns) == ROWS.columns
    with closing(source.batches(None)) as batches:
        for _, rows in batches:
            assert dict(rows.frame.schema) == {ROW: pl.Int64, **dict.fromkeys(source.columns, pl.String)}


@pytest.mark.parametrize("size", SIZES)
def test_from_any_cursor_come_exactly_the_rows_behind_it(case: SourceCase, size: int) -> None:
    passed = 0
    for cursor, rows in read(case, 3):
        passed += len(rows)
        assert joined(read(case, size, cursor)) == ROWS.rows()[passed:]
    assert passed == ROWS.height


def test_a_cursor_is_small_and_is_read_from_json_as_it_was(case: SourceCase) -> None:
    for cursor, _ in read(case, 3):
        content = encode_cursor(cursor)
        assert len(content) <= MAX_CURSOR_BYTES
        assert decode_cursor(content) == msgspec.json.decode(msgspec.json.encode(cursor)) == cursor


def test_reading_may_end_anywhere_and_begin_anew(case: SourceCase) -> None:
    with closing(case.open_source(4).batches(None)) as batches:
        cursor, _ = next(batches)
    assert joined(read(case, 4, cursor)) == ROWS.rows()[4:]


def test_the_partition_is_the_same_whenever_the_source_is(case: SourceCase) -> None:
    partition = case.open_source(4).partition
    assert partition == case.open_source(9).partition
    assert partition.startswith(IMPORT_PREFIX)


@pytest.mark.parametrize("cursor", ["x", -1, True, 1.5, [], {"row": 1}])
def test_a_cursor_of_another_source_is_refused(case: SourceCase, cursor: Cursor) -> None:
    with pytest.raises(InvalidInput, match="cursor"):
        read(case, 4, cursor)


def test_what_changed_while_it_was_read_is_refused(case: SourceCase) -> None:
    with closing(case.open_source(4).batches(None)) as batches:
        next(batches)
        case.change()
        with pytest.raises(InvalidInput, match="has changed while it was imported: import it again"):
            next(batches)


def test_what_changed_since_it_was_opened_is_refused(case: SourceCase) -> None:
    source = case.open_source(4)
    case.change()
    with closing(source.batches(8)) as batches, pytest.raises(InvalidInput, match="has changed"):
        next(batches)
