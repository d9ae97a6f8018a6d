"""JSON Lines: one object per line. Nested objects become columns such as `user.id`, lists stay JSON."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from ingest.sources.files.detect import Compression
from ingest.sources.files.text_lines import TextLines, is_text, shown
from ingest.sources.rows import (
    CELL,
    MAX_BATCH,
    MAX_DEPTH,
    ROW,
    TOO_DEEP,
    TOO_LONG,
    BrokenRow,
    RawRows,
    too_many_columns,
)
from recsys.errors import InvalidInput

Row = dict[str, str | None]
ParsedRow = tuple[int, Row | str, str]
"""Row number, columns (or the reason a row is broken), and text."""
REJECTED_KEYS = frozenset({"file", "row", "field", "reason", "raw"})
"""A line of exactly these is a rejected row of an earlier import: its `raw` is the row to replay."""
LOOK_AHEAD = 1000


class JsonLinesReader:
    """Rows are numbered from 0, blank lines not counted; `columns` are those of the first thousand rows."""

    def __init__(self, path: Path, compression: Compression, encoding: str, max_columns: int) -> None:
        """Raises `InvalidInput` where the first thousand rows have more than `max_columns` between them."""
        self._how = path, compression, encoding
        self._max_columns = max_columns
        self._decoder = msgspec.json.Decoder(float_hook=str)
        self._lines = TextLines(*self._how)
        names: dict[str, None] = {}
        try:
            for _, row, _ in islice(self._parsed_rows(), LOOK_AHEAD):
                names.update(dict.fromkeys(row if isinstance(row, dict) else ()))
                if len(names) > max_columns:
                    raise InvalidInput(str(path), f"{too_many_columns(max_columns)} in its first rows")
        finally:
            self._lines.close()
        self.columns = list(names)
        self.total = path.stat().st_size

    def position(self) -> int:
        """Return the bytes of the file read so far."""
        return self._lines.position()

    def batches(self, size: int, start: int = 0) -> Iterator[RawRows]:
        """Yield rows from number `start` on, `size` at most at a time. Raises `InvalidInput` for a damaged file."""
        self._lines = TextLines(*self._how)
        try:
            fresh = islice(self._parsed_rows(), start, None)
            first = next(fresh, None)
            while first is not None:
                batch, first = self._next(first, fresh, size)
                yield _raw_rows(batch, self.columns)
        finally:
            self._lines.close()

    def _next(
        self, first: ParsedRow, fresh: Iterator[ParsedRow], size: int
    ) -> tuple[list[ParsedRow], ParsedRow | None]:
        """Return as many rows from `first` on as fit into a batch, `size` at most, and the row after them.

        The size counts the whole table, empty cells included: rows may all have different columns.
        """
        batch: list[ParsedRow] = []
        names, width, texts = dict.fromkeys(self.columns), sum(len(name) + CELL for name in self.columns), 0
        entry: ParsedRow | None = first
        while entry is not None:
            row = entry[1]
            new = [name for name in row if name not in names] if isinstance(row, dict) else []
            width += sum(len(name) + CELL for name in new)
            texts += len(entry[2])
            if batch and (len(batch) == size or texts + width * (len(batch) + 1) > MAX_BATCH):
                break
            names.update(dict.fromkeys(new))
            batch.append(entry)
            entry = next(fresh, None)
        return batch, entry

    def _parsed_rows(self) -> Iterator[ParsedRow]:
        number = 0
        for line in self._lines:
            if not line.isspace():
                yield number, TOO_LONG if self._lines.cut else self._row(line), line
                number += 1
            self._lines.cut = False

    def _row(self, line: str) -> Row | str:
        if not is_text(line):
            return "has bytes that are not in the file's encoding"
        try:
            row = self._decoder.decode(line)
            if isinstance(row, dict) and row.keys() == REJECTED_KEYS:
                row = row["raw"]
            if not isinstance(row, dict):
                return "is not a JSON object"
            flat = _flattened(row)
        except RecursionError:
            return TOO_DEEP
        except msgspec.DecodeError:
            return "is not a JSON object"
        if len(flat) > self._max_columns:
            return too_many_columns(self._max_columns)
        return f"has a field named {ROW!r}" if ROW in flat else flat


def _raw_rows(batch: list[ParsedRow], columns: list[str]) -> RawRows:
    rows = [(number, row) for number, row, _ in batch if isinstance(row, dict)]
    broken = [BrokenRow(number, row, shown(line)) for number, row, line in batch if isinstance(row, str)]
    names = dict.fromkeys((*columns, *(name for _, row in rows for name in row)))
    data = {name: pl.Series([row.get(name) for _, row in rows], dtype=pl.String) for name in names}
    frame = pl.DataFrame({ROW: pl.Series([number for number, _ in rows], dtype=pl.Int64), **data})
    return RawRows(batch[0][0], batch[-1][0] + 1, frame, broken)


def _flattened(row: dict[str, Any], prefix: str = "", depth: int = 1) -> Row:
    """Raises `RecursionError`."""
    if depth > MAX_DEPTH:
        raise RecursionError
    flat: Row = {}
    for name, value in row.items():
        match value:
            case dict():
                flat.update(_flattened(value, f"{prefix}{name}.", depth + 1))
            case None | str():
                flat[prefix + name] = value
            case bool():
                flat[prefix + name] = "true" if value else "false"
            case list():
                flat[prefix + name] = msgspec.json.encode(value).decode()
            case _:
                flat[prefix + name] = str(value)
    return flat
