"""Raw rows: what every source yields, and how large they may be, so that no source can fill the memory."""

from dataclasses import dataclass, field, replace

import polars as pl

ROW = "#row"
"""The column that numbers raw rows; no source may have a column of this name."""
MAX_LINE = 1 << 20
"""Characters of one line, bytes of one row; longer rows are rejected, each for itself."""
MAX_DEPTH = 32
"""Objects inside objects, or lists inside lists, of one value."""
MAX_BATCH = 128 << 20
"""Bytes, roughly, of the rows of one batch."""
CELL = 64
"""Bytes, roughly, that a value takes beside its text."""

TOO_LONG = f"is longer than {MAX_LINE:,} characters"
TOO_DEEP = f"is nested more than {MAX_DEPTH} deep"


def too_many_columns(columns: int) -> str:
    """Return the reason to refuse a source or row with more than `columns` columns."""
    return f"has more than {columns:,} columns (MILLIREC_INGEST__IMPORT_COLUMNS)"


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """A raw row that could not even be taken apart; `raw` is its text, bytes that are no text replaced."""

    row: int
    reason: str
    raw: str


@dataclass(frozen=True, slots=True)
class RawRows:
    """Rows `start` <= number < `end`: each is either in `frame` or in `broken`.

    Every column of `frame` is text (null where empty) except ROW, an Int64; so what a row means does not depend
    on what it came from.
    """

    start: int
    end: int
    frame: pl.DataFrame
    broken: list[BrokenRow] = field(default_factory=list)

    def number_from(self, start: int) -> "RawRows":
        """Return the same rows, numbered from `start` on."""
        shift = start - self.start
        if not shift:
            return self
        return RawRows(
            start,
            self.end + shift,
            self.frame.with_columns(pl.col(ROW) + shift),
            [replace(row, row=row.row + shift) for row in self.broken],
        )
