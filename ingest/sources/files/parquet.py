"""Parquet, a slice of rows at a time."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import polars as pl

from ingest.sources.files.detect import DAMAGE, Compression, decompressed
from ingest.sources.files.parquet_footer import reason_against
from ingest.sources.rows import CELL, MAX_BATCH, MAX_LINE, ROW, TOO_LONG, BrokenRow, RawRows
from recsys.errors import InvalidInput
from recsys.scratch import scratch_folder

COPIED = 1 << 20
SHOWN = 1000
"""Characters of each value of a row that is too long."""


class ParquetReader:
    """Every value becomes the text it would be in a CSV file, so that both mean the same."""

    def __init__(self, path: Path, compression: Compression, max_columns: int) -> None:
        """Raises `InvalidInput` for a damaged file, and for what cannot be read in bounded memory."""
        self._path = path
        self._scratch = ExitStack()
        try:
            self._open(path if compression is Compression.NONE else self._unpack(compression), max_columns)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, *DAMAGE) as error:
            self._scratch.close()
            raise InvalidInput(str(path), f"is damaged: {error}") from error
        except InvalidInput:
            self._scratch.close()
            raise
        self._done = 0

    def _open(self, plain: Path, max_columns: int) -> None:
        reason = reason_against(plain, max_columns)
        if reason:
            raise InvalidInput(str(self._path), reason)
        self._frame = pl.scan_parquet(plain)
        self._schema = self._frame.collect_schema()
        self.columns = self._schema.names()
        self.total = int(self._frame.select(pl.len()).collect().item())

    def _unpack(self, compression: Compression) -> Path:
        """Parquet is read from its end, so a compressed one must be unpacked: to disk, of which half stays free."""
        target = self._scratch.enter_context(scratch_folder("parquet")) / "unpacked.parquet"
        room = shutil.disk_usage(target.parent).free // 2
        with self._path.open("rb") as file, target.open("wb") as unpacked:
            packed = decompressed(file, compression)
            while chunk := packed.read(COPIED):
                room -= unpacked.write(chunk)
                if room < 0:
                    raise InvalidInput(
                        str(self._path), f"unpacked takes more than half of what is free in {target.parent}"
                    )
        return target

    def position(self) -> int:
        """Return the number of rows read so far."""
        return self._done

    def batches(self, size: int, start: int = 0) -> Iterator[RawRows]:
        """Yield rows from number `start` on, `size` at most at a time. Raises `InvalidInput` for a damaged file."""
        texts = [_as_text(name, dtype) for name, dtype in self._schema.items()]
        try:
            for first in range(start, self.total, size):
                rows = self._frame.slice(first, size).select(texts).collect()
                if rows.height != min(size, self.total - first):
                    raise InvalidInput(str(self._path), f"is damaged: it ends in row {first + rows.height:,}")
                yield from self._in_parts(rows.with_row_index(ROW, first).with_columns(pl.col(ROW).cast(pl.Int64)))
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise InvalidInput(str(self._path), f"is damaged: {error}") from error
        finally:
            self._scratch.close()

    def _in_parts(self, rows: pl.DataFrame) -> Iterator[RawRows]:
        """Split rows so that their text stays bounded: equal values are stored once, but take room each as text."""
        lengths = rows.select(
            pl.sum_horizontal(pl.lit(0), *(pl.col(name).str.len_bytes().fill_null(0) for name in self.columns))
        ).to_series()
        weights = lengths.clip(upper_bound=MAX_LINE) + sum(len(name) + CELL for name in self.columns)
        parts = (weights.cum_sum() // MAX_BATCH).value_counts(sort=False, name="rows").sort(weights.name)
        at = 0
        for height in parts.get_column("rows"):
            yield self._raw_rows(rows.slice(at, height), lengths.slice(at, height) > MAX_LINE)
            at += height

    def _raw_rows(self, rows: pl.DataFrame, long: pl.Series) -> RawRows:
        cut = rows.filter(long).select(ROW, *(pl.col(name).str.slice(0, SHOWN) for name in self.columns))
        broken = [BrokenRow(row.pop(ROW), TOO_LONG, msgspec.json.encode(row).decode()) for row in cut.to_dicts()]
        start, self._done = int(rows[0, ROW]), int(rows[-1, ROW]) + 1
        return RawRows(start, self._done, rows.filter(~long), broken)


def _as_text(name: str, dtype: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    if isinstance(dtype, pl.Datetime):
        in_utc = column if dtype.time_zone is None else column.dt.convert_time_zone("UTC")
        return in_utc.dt.to_string("%Y-%m-%dT%H:%M:%S%.6f" + ("" if dtype.time_zone is None else "+00:00"))
    if dtype.is_float():
        # Whole numbers that met a null on their way became floats: a customer is 17850, not 17850.0.
        whole = (column == column.round()) & (column.abs() < 1e15)
        return (
            pl.when(whole)
            .then(column.cast(pl.Int64, strict=False).cast(pl.String))
            .otherwise(column.cast(pl.String))
            .alias(name)
        )
    if isinstance(dtype, pl.List):
        quoted = column.list.eval(pl.concat_str(pl.lit('"'), pl.element().cast(pl.String), pl.lit('"')))
        return pl.concat_str(pl.lit("["), quoted.list.join(","), pl.lit("]")).alias(name)
    if isinstance(dtype, pl.Struct):
        return column.struct.json_encode()
    return column.cast(pl.String)
