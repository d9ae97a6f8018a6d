"""CSV, TSV and their like, by Python's csv reader: it survives what a faster parser would give up on."""

import csv
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import polars as pl

from ingest.sources.files.detect import Compression, delimiter_of
from ingest.sources.files.text_lines import TextLines, is_text, shown
from ingest.sources.rows import CELL, MAX_BATCH, MAX_LINE, ROW, TOO_LONG, BrokenRow, RawRows, too_many_columns
from recsys.errors import InvalidInput

ParsedRow = tuple[int, list[str] | None, str, str]
"""Row number, fields (`None` for a broken row), reason and text of a broken row."""


class DelimitedReader:
    """Rows are numbered from 0, the header and blank lines not counted."""

    def __init__(
        self, path: Path, compression: Compression, encoding: str, delimiter: str | None, max_columns: int
    ) -> None:
        """Raises `InvalidInput` for a header that is none, or has more than `max_columns`."""
        self._how = path, compression, encoding
        self._lines = TextLines(*self._how)
        self._delimiter = delimiter or delimiter_of(next(iter(self._lines), ""))
        self._lines.close()
        self._lines = TextLines(*self._how)
        try:
            self.columns = [name.strip() for name in next(csv.reader(self._lines, delimiter=self._delimiter), [])]
        except csv.Error as error:
            raise InvalidInput(str(path), f"has a header that cannot be read: {error}") from error
        finally:
            self._lines.close()
        if len(self.columns) > max_columns:
            raise InvalidInput(str(path), too_many_columns(max_columns))
        if self._lines.cut:
            raise InvalidInput(str(path), f"has a header of more than {MAX_LINE:,} characters")
        self.total = path.stat().st_size
        twice = [name for name in self.columns if self.columns.count(name) > 1]
        if twice:
            raise InvalidInput(str(path), f"has two columns named {twice[0]!r}")
        if not is_text("".join(self.columns)):
            raise InvalidInput(str(path), "is not in the encoding given; set `encoding:` in the mapping, often latin-1")

    def position(self) -> int:
        """Return the bytes of the file read so far."""
        return self._lines.position()

    def batches(self, size: int, start: int = 0) -> Iterator[RawRows]:
        """Yield rows from number `start` on, `size` at most at a time. Raises `InvalidInput` for a damaged file."""
        self._lines = TextLines(*self._how)
        try:
            fresh = islice(self._parsed_rows(), start, None)
            while batch := self._next(fresh, size):
                rows = [(number, row) for number, row, _, _ in batch if row is not None]
                broken = [BrokenRow(number, reason, text) for number, row, reason, text in batch if row is None]
                yield RawRows(batch[0][0], batch[-1][0] + 1, self._frame(rows), broken)
        finally:
            self._lines.close()

    def _next(self, fresh: Iterator[ParsedRow], size: int) -> list[ParsedRow]:
        """Return as many rows as fit into a batch, `size` at most."""
        batch: list[ParsedRow] = []
        room = MAX_BATCH
        row = sum(len(name) + CELL for name in self.columns)
        while len(batch) < size and room > 0 and (entry := next(fresh, None)) is not None:
            batch.append(entry)
            room -= row + len(entry[3]) + sum(map(len, entry[1] or ()))
        return batch

    def _parsed_rows(self) -> Iterator[ParsedRow]:
        consumed: list[str] = []
        reader = csv.reader(_remembering(self._lines, consumed), delimiter=self._delimiter)
        next(reader, None)
        number, width = 0, len(self.columns)
        while True:
            consumed.clear()
            self._lines.cut = False
            reason = ""
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                row, reason = [""], f"cannot be taken apart: {error}"
            if not row:
                continue
            reason = TOO_LONG if self._lines.cut else reason or _what_is_wrong(row, width)
            yield (number, None, reason, shown("".join(consumed))) if reason else (number, row, "", "")
            number += 1

    def _frame(self, rows: list[tuple[int, list[str]]]) -> pl.DataFrame:
        columns = zip(*(row for _, row in rows), strict=True) if rows else [()] * len(self.columns)
        data = {name: pl.Series(values, dtype=pl.String) for name, values in zip(self.columns, columns, strict=True)}
        return pl.DataFrame({ROW: pl.Series([number for number, _ in rows], dtype=pl.Int64), **data})


def _what_is_wrong(row: list[str], width: int) -> str:
    if len(row) != width:
        return "has another number of fields than the header"
    together = "".join(row)
    return "" if together.isascii() or is_text(together) else "has bytes that are not in the file's encoding"


def _remembering(lines: TextLines, consumed: list[str]) -> Iterator[str]:
    for line in lines:
        consumed.append(line)
        yield line
