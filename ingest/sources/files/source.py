"""Files as a source: a reader for each format, and what the readers have in common."""

import hashlib
from collections.abc import Generator, Iterator
from copy import copy
from pathlib import Path
from typing import Protocol

from ingest.sources.files.delimited import DelimitedReader
from ingest.sources.files.detect import Format, compression_of, encoding_of, format_of, head_of
from ingest.sources.files.json_lines import JsonLinesReader
from ingest.sources.files.parquet import ParquetReader
from ingest.sources.rows import RawRows
from recsys.errors import InvalidInput
from recsys.stores.event_log.cursors import Cursor
from recsys.stores.event_log.protocol import IMPORT_PREFIX


class FileReader(Protocol):
    """Reads one format. `total` is what `position()` reaches at the end: bytes on disk, or rows."""

    columns: list[str]
    total: int

    def position(self) -> int:
        """Return how far the file has been read: bytes on disk, or rows."""
        ...

    def batches(self, size: int, start: int = 0) -> Iterator[RawRows]:
        """Yield rows from number `start` on, `size` at a time. Raises `InvalidInput` for a damaged file."""
        ...


class FileSource:
    """A `Source` of one file of any known format; its cursor is the number of rows before it.

    It is named by its content: a copy is the same source, and a changed file another one.
    """

    def __init__(self, path: Path, size: int, max_columns: int, encoding: str, delimiter: str | None) -> None:
        """Open the file for batches of at most `size` rows.

        Raises `InvalidInput` for an unreadable or unknown file, or one of more than `max_columns` columns.
        """
        self.path = path
        self._size = size
        self._stamp = _stamp(path)
        self.reader = _open_reader(path, encoding, delimiter, max_columns)
        self.columns = self.reader.columns
        with path.open("rb") as file:
            self._digest = hashlib.file_digest(file, "sha256")

    def for_purpose(self, purpose: bytes) -> "FileSource":
        """Return this source under another partition: a file that is read for something else is imported anew."""
        source = copy(self)
        source._digest = self._digest.copy()
        source._digest.update(purpose)
        return source

    @property
    def digest(self) -> str:
        """The SHA-256 of content and purpose, in 16 hexadecimal digits."""
        return self._digest.hexdigest()[:16]

    @property
    def partition(self) -> str:
        """See `Source.partition`."""
        return IMPORT_PREFIX + self.digest

    def batches(self, after: Cursor | None) -> Generator[tuple[Cursor, RawRows]]:
        """See `Source.batches`. A file that has changed since it was opened is refused."""
        start = 0 if after is None else after
        if not isinstance(start, int) or isinstance(start, bool) or start < 0:
            raise InvalidInput("cursor", f"{start!r} is no number of rows of {self.path}")
        self._check_unchanged()
        for rows in self.reader.batches(self._size, start):
            self._check_unchanged()
            yield rows.end, rows
        self._check_unchanged()

    def _check_unchanged(self) -> None:
        if _stamp(self.path) != self._stamp:
            raise InvalidInput(str(self.path), "has changed while it was imported: import it again")


def _stamp(path: Path) -> tuple[int, int, int]:
    """What is another when a file was replaced, or written to: inode, size and time of the last change."""
    try:
        status = path.stat()
    except OSError as error:
        raise InvalidInput(str(path), f"cannot be read: {error.strerror}") from error
    return status.st_ino, status.st_size, status.st_mtime_ns


def _open_reader(path: Path, encoding: str, delimiter: str | None, max_columns: int) -> FileReader:
    compression = compression_of(path)
    head = head_of(path, compression)
    kind = format_of(path, head)
    if kind is Format.PARQUET:
        return ParquetReader(path, compression, max_columns)
    encoding = encoding_of(head, encoding)
    if kind is Format.JSON_LINES:
        return JsonLinesReader(path, compression, encoding, max_columns)
    return DelimitedReader(path, compression, encoding, delimiter, max_columns)
