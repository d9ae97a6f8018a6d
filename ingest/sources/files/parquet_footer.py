"""Checks of a Parquet file's footer and page headers, before a library reads it.

The footer is Thrift in the compact protocol. A schema that is nested deeply enough ends the process inside the library,
a million columns take it a minute, and a list of a billion equal values lies in a few bytes.
"""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from ingest.sources.rows import MAX_DEPTH, TOO_DEEP, too_many_columns

MAX_FOOTER = 16 << 20
MAX_CHUNK = 1 << 29
"""Bytes of one column of a row group, unpacked."""
MAX_GROUP = 1 << 31
"""Bytes of all columns of a row group, unpacked."""
MAX_PAGES = 1 << 20
"""Pages of a file: the header of each is looked at."""
PAGE_HEADER, MAX_PAGE_HEADER = 128, 1 << 20
"""Bytes of a page's header, most often and at most: it may hold the least and the greatest of its values."""
MAX_LISTED = 1 << 25
"""Values of one column of a row group beyond one per row."""
MAGIC = b"PAR1"

GROUP, VALUES, UNPACKED, PACKED, DATA, DICTIONARY = -1, 5, 6, 7, 9, 11
"""Fields of a column's metadata, and the number of its row group."""

BOOLEANS, BYTE, NUMBERS, DOUBLE, BINARY, SEQUENCES, MAP, STRUCT = (1, 2), 3, (4, 5, 6), 7, 8, (9, 10), 11, 12


class _Compact:
    """A cursor in Thrift's compact protocol. Raises `IndexError` at the end, `ValueError` for nonsense."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def at(self) -> int:
        """How many bytes were read."""
        return self._at

    def number(self) -> int:
        """Return the next integer, zigzag-decoded."""
        raw = self._varint()
        return (raw >> 1) ^ -(raw & 1)

    def fields(self) -> Iterator[tuple[int, int]]:
        """Yield number and type of each field of a struct; the caller must consume each value."""
        number = 0
        while header := self._byte():
            number = number + (header >> 4) if header >> 4 else self.number()
            yield number, header & 0x0F

    def sequence(self) -> tuple[int, int]:
        """Return how many values follow, and their type."""
        header = self._byte()
        return (self._varint() if header >> 4 == 0x0F else header >> 4), header & 0x0F

    def skip(self, kind: int, depth: int = 0, *, inside: bool = False) -> None:
        """Skip a value of type `kind`; raises `ValueError` for an unknown type or a value nested too deeply."""
        if depth > MAX_DEPTH:
            raise ValueError(TOO_DEEP)
        if kind in BOOLEANS:
            # Of a field the type is the value; inside a list it takes a byte.
            self._advance(int(inside))
        elif kind == BYTE:
            self._advance(1)
        elif kind in NUMBERS:
            self._varint()
        elif kind == DOUBLE:
            self._advance(8)
        elif kind == BINARY:
            self._advance(self._varint())
        elif kind == STRUCT:
            for _, inner in self.fields():
                self.skip(inner, depth + 1)
        else:
            self._skip_values(kind, depth)

    def _skip_values(self, kind: int, depth: int) -> None:
        if kind in SEQUENCES:
            count, inner = self.sequence()
            kinds = [inner]
        elif kind == MAP:
            count = self._varint()
            both = self._byte() if count else 0
            kinds = [both >> 4, both & 0x0F]
        else:
            raise ValueError(f"a value of type {kind}")
        for _ in range(count):
            for inner in kinds:
                self.skip(inner, depth + 1, inside=True)

    def _byte(self) -> int:
        byte = self._data[self._at]
        self._at += 1
        return byte

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("a number of more than 64 bits")

    def _advance(self, size: int) -> None:
        self._at += size
        if self._at > len(self._data):
            raise IndexError("the footer ends in the middle of a value")


def reason_against(path: Path, max_columns: int) -> str:
    """Return why a Parquet file cannot be read in bounded memory; empty where it can."""
    try:
        chunks: list[dict[int, int]] = []
        return _wrong(_Compact(_footer(path)), max_columns, chunks) or _wrong_pages(path, chunks)
    except (IndexError, ValueError, OSError) as error:
        return f"is damaged: its footer cannot be read: {error}"


def _footer(path: Path) -> bytes:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 8, 0))
        end = file.read(8)
        length = int.from_bytes(end[:4], "little")
        if end[4:] != MAGIC or length > size - 12:
            raise ValueError("it does not end as a Parquet file does")
        if length > MAX_FOOTER:
            raise ValueError(f"it takes {length:,} bytes, more than the {MAX_FOOTER:,} that are read")
        file.seek(size - 8 - length)
        return file.read(length)


def _wrong(footer: _Compact, max_columns: int, chunks: list[dict[int, int]]) -> str:
    reason = ""
    for number, kind in footer.fields():
        if number == 2 and kind in SEQUENCES:
            reason = _wrong_schema(footer, max_columns)
        elif number == 4 and kind in SEQUENCES:
            reason = _wrong_groups(footer, chunks)
        else:
            footer.skip(kind)
        if reason:
            break
    return reason


def _wrong_schema(footer: _Compact, max_columns: int) -> str:
    count, _ = footer.sequence()
    open_groups: list[int] = []
    columns = 0
    for _ in range(count):
        children = 0
        for number, kind in footer.fields():
            if number == 5 and kind in NUMBERS:
                children = footer.number()
            else:
                footer.skip(kind)
        if open_groups:
            open_groups[-1] -= 1
        if children > 0:
            open_groups.append(children)
        else:
            columns += 1
        # Lists and maps take three levels each, and the root one.
        if len(open_groups) > 3 * MAX_DEPTH:
            return TOO_DEEP
        if columns > max_columns:
            return too_many_columns(max_columns)
        while open_groups and open_groups[-1] == 0:
            open_groups.pop()
    return ""


def _wrong_groups(footer: _Compact, chunks: list[dict[int, int]]) -> str:
    count, _ = footer.sequence()
    for group in range(count):
        rows = 0
        own: list[dict[int, int]] = []
        for number, kind in footer.fields():
            if number == 1 and kind in SEQUENCES:
                own = list(_chunks(footer, group))
            elif number == 3 and kind in NUMBERS:
                rows = footer.number()
            else:
                footer.skip(kind)
        values = max((chunk[VALUES] for chunk in own), default=0)
        if reason := _too_large(values - rows, [chunk[UNPACKED] for chunk in own]):
            return reason
        chunks += own
    return ""


def _too_large(listed: int, sizes: Sequence[int]) -> str:
    if listed <= MAX_LISTED and max(sizes, default=0) <= MAX_CHUNK and sum(sizes) <= MAX_GROUP:
        return ""
    return (
        f"has a row group with {max(listed, 0):,} values beyond one per row, {sum(sizes):,} bytes in all "
        f"and {max(sizes, default=0):,} of one column: write it with smaller row groups"
    )


def _chunks(footer: _Compact, group: int) -> Iterator[dict[int, int]]:
    """Yield the numbers of each column's metadata that say what it holds and where."""
    count, _ = footer.sequence()
    for _ in range(count):
        chunk = {GROUP: group} | dict.fromkeys((VALUES, UNPACKED, PACKED, DATA, DICTIONARY), 0)
        for number, kind in footer.fields():
            if number != 3 or kind != STRUCT:
                footer.skip(kind)
                continue
            for inner, inner_kind in footer.fields():
                if inner in chunk and inner_kind in NUMBERS:
                    chunk[inner] = footer.number()
                else:
                    footer.skip(inner_kind)
        yield chunk


def _wrong_pages(path: Path, chunks: Sequence[dict[int, int]]) -> str:
    """Measure row groups by the headers of their pages: memory is taken by those, whatever the footer says."""
    pages = 0
    sizes: dict[int, list[int]] = defaultdict(list)
    with path.open("rb") as file:
        for chunk in chunks:
            at = min(filter(None, (chunk[DATA], chunk[DICTIONARY])), default=0)
            end, unpacked = at + chunk[PACKED], 0
            while at < end:
                length, size, packed = _page(file, at)
                at += length + packed
                unpacked += size
                pages += 1
                if pages > MAX_PAGES:
                    return f"has more than {MAX_PAGES:,} pages: write it with larger ones"
            sizes[chunk[GROUP]].append(unpacked)
    return next(filter(None, (_too_large(0, group) for group in sizes.values())), "")


def _page(file: IO[bytes], at: int) -> tuple[int, int, int]:
    """The length of the page's header, and the bytes that follow unpacked and packed."""
    try:
        return _page_within(file, at, PAGE_HEADER)
    except IndexError:
        return _page_within(file, at, MAX_PAGE_HEADER)


def _page_within(file: IO[bytes], at: int, length: int) -> tuple[int, int, int]:
    file.seek(at)
    header = _Compact(file.read(length))
    sizes = {2: 0, 3: 0}
    for number, kind in header.fields():
        if number in sizes and kind in NUMBERS:
            sizes[number] = header.number()
        else:
            header.skip(kind)
    if min(sizes.values()) < 0:
        raise ValueError("a page of less than no bytes")
    return header.at, sizes[2], sizes[3]
