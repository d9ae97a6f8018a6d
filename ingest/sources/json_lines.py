"""JSON Lines: one object per line. Nested objects become columns such as `user.id`, lists stay JSON."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from ingest.record import ROW, BrokenRow, RawRows
from ingest.sources.detect import Compression
from ingest.sources.text_lines import TextLines, is_text, shown

REJECTED_KEYS = frozenset({"file", "row", "field", "reason", "raw"})
"""A line of exactly these is a rejected row of an earlier import: its `raw` is the row to replay."""
LOOK_AHEAD = 1000


class JsonLinesSource:
    """Rows are numbered from 0, blank lines not counted; `columns` are those of the first thousand rows."""

    def __init__(self, path: Path, compression: Compression, encoding: str) -> None:
        self._how = path, compression, encoding
        self._decoder = msgspec.json.Decoder(float_hook=str)
        self._lines = TextLines(*self._how)
        found: dict[str, None] = {}
        for line in islice(self._lines, LOOK_AHEAD):
            found.update(dict.fromkeys((self._row(line) if is_text(line) else None) or ()))
        self._lines.close()
        self.columns = list(found)
        self.total = path.stat().st_size

    def position(self) -> int:
        return self._lines.position()

    def batches(self, size: int, start: int = 0) -> Iterator[RawRows]:
        self._lines = TextLines(*self._how)
        numbered = enumerate(line for line in self._lines if not line.isspace())
        try:
            fresh = islice(numbered, start, None)
            while batch := list(islice(fresh, size)):
                yield self._raw_rows(batch)
        finally:
            self._lines.close()

    def _raw_rows(self, batch: list[tuple[int, str]]) -> RawRows:
        rows: list[dict[str, str | None]] = []
        numbers: list[int] = []
        broken: list[BrokenRow] = []
        names = dict.fromkeys(self.columns)
        for number, line in batch:
            if not is_text(line):
                broken.append(BrokenRow(number, "has bytes that are not in the file's encoding", shown(line)))
                continue
            row = self._row(line)
            if row is None:
                broken.append(BrokenRow(number, "is not a JSON object", shown(line)))
                continue
            rows.append(row)
            numbers.append(number)
            names.update(dict.fromkeys(row))
        data = {name: pl.Series([row.get(name) for row in rows], dtype=pl.String) for name in names}
        frame = pl.DataFrame({ROW: pl.Series(numbers, dtype=pl.Int64), **data})
        return RawRows(batch[0][0], batch[-1][0] + 1, frame, broken)

    def _row(self, line: str) -> dict[str, str | None] | None:
        try:
            row = self._decoder.decode(line)
        except msgspec.DecodeError:
            return None
        if isinstance(row, dict) and row.keys() == REJECTED_KEYS:
            row = row["raw"]
        return _flattened(row) if isinstance(row, dict) else None


def _flattened(row: dict[str, Any], prefix: str = "") -> dict[str, str | None]:
    flat: dict[str, str | None] = {}
    for name, value in row.items():
        match value:
            case dict():
                flat.update(_flattened(value, f"{prefix}{name}."))
            case None | str():
                flat[prefix + name] = value
            case bool():
                flat[prefix + name] = "true" if value else "false"
            case list():
                flat[prefix + name] = msgspec.json.encode(value).decode()
            case _:
                flat[prefix + name] = str(value)
    return flat
