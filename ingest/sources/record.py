"""Raw rows: what every source of an import yields, whatever its format."""

from dataclasses import dataclass, field

import polars as pl

ROW = "#row"
"""The column that numbers raw rows from 0; no source may have a column of this name."""


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """A raw row that could not even be taken apart; `raw` is its text, bytes that are no text replaced."""

    row: int
    reason: str
    raw: str


@dataclass(frozen=True, slots=True)
class RawRows:
    """Rows `start` <= number < `end` of a file: each is either in `frame` or in `broken`.

    Every column of `frame` is text (null where empty) except ROW; so what a row means does not depend
    on the format of the file it came in.
    """

    start: int
    end: int
    frame: pl.DataFrame
    broken: list[BrokenRow] = field(default_factory=list)
