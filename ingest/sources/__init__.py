"""Sources: files of any format as batches of raw text rows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from ingest.settings import MAX_COLUMNS
from ingest.sources.files.delimited import DelimitedSource
from ingest.sources.files.detect import Format, compression_of, encoding_of, format_of, head_of
from ingest.sources.files.json_lines import JsonLinesSource
from ingest.sources.files.parquet import ParquetSource
from ingest.sources.record import RawRows

__all__ = ["Source", "open_source"]


class Source(Protocol):
    """One file. `total` is what `position()` reaches at the end: bytes on disk, or rows."""

    columns: list[str]
    total: int

    def position(self) -> int:
        """Return how far the file has been read: bytes on disk, or rows."""
        ...

    def batches(self, size: int, start: int = 0) -> Iterator[RawRows]:
        """Yield rows from number `start` on, `size` at a time. Raises `InvalidInput` for a damaged file."""
        ...


def open_source(
    path: Path, encoding: str = "utf-8", delimiter: str | None = None, max_columns: int = MAX_COLUMNS
) -> Source:
    """Open a file of any known format; raises `InvalidInput` for an unreadable or unknown one, or too many columns."""
    compression = compression_of(path)
    head = head_of(path, compression)
    kind = format_of(path, head)
    if kind is Format.PARQUET:
        return ParquetSource(path, compression, max_columns)
    encoding = encoding_of(head, encoding)
    if kind is Format.JSON_LINES:
        return JsonLinesSource(path, compression, encoding, max_columns)
    return DelimitedSource(path, compression, encoding, delimiter, max_columns)
