"""Parquet, a slice of rows at a time."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from ingest.record import ROW, RawRows
from ingest.sources.detect import DAMAGE, Compression, decompressed
from recsys.errors import InvalidInput


class ParquetSource:
    """Every value becomes the text it would be in a CSV file, so that both mean the same."""

    def __init__(self, path: Path, compression: Compression) -> None:
        self._path = path
        self._unpacked: tempfile.TemporaryDirectory[str] | None = None
        try:
            self._frame = pl.scan_parquet(path if compression is Compression.NONE else self._unpack(compression))
            self._schema = self._frame.collect_schema()
            self.total = int(self._frame.select(pl.len()).collect().item())
        except (pl.exceptions.PolarsError, *DAMAGE) as error:
            raise InvalidInput(str(path), f"is damaged: {error}") from error
        self.columns = self._schema.names()
        self._done = 0

    def _unpack(self, compression: Compression) -> Path:
        """Parquet is read from its end, so a compressed one must be unpacked first: to disk, not to memory."""
        self._unpacked = tempfile.TemporaryDirectory(prefix="millirec-")
        target = Path(self._unpacked.name) / "unpacked.parquet"
        with self._path.open("rb") as file, target.open("wb") as unpacked:
            shutil.copyfileobj(decompressed(file, compression), unpacked, 1 << 20)
        return target

    def position(self) -> int:
        return self._done

    def batches(self, size: int, start: int = 0) -> Iterator[RawRows]:
        texts = [_as_text(name, dtype) for name, dtype in self._schema.items()]
        try:
            for first in range(start, self.total, size):
                rows = self._frame.slice(first, size).select(texts).collect()
                self._done = first + rows.height
                yield RawRows(
                    first, self._done, rows.with_row_index(ROW, first).with_columns(pl.col(ROW).cast(pl.Int64))
                )
        except pl.exceptions.PolarsError as error:
            raise InvalidInput(str(self._path), f"is damaged: {error}") from error
        finally:
            if self._unpacked is not None:
                self._unpacked.cleanup()


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
