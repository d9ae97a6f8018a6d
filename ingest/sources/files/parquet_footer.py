"""Checks of a Parquet file's footer, before a library reads it.

The footer is Thrift in the compact protocol. A schema that is nested deeply enough ends the process inside the library,
a million columns take it a minute, and a list of a billion equal values lies in a few bytes.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from ingest.sources.rows import MAX_DEPTH, TOO_DEEP, too_many_columns

MAX_FOOTER = 16 << 20
MAX_CHUNK = 1 << 29
"""Bytes of one column of a row group, unpacked."""
MAX_LISTED = 1 << 25
"""Values of one column of a row group beyond one per row."""
MAGIC = b"PAR1"

BOOLEANS, BYTE, NUMBERS, DOUBLE, BINARY, SEQUENCES, MAP, STRUCT = (1, 2), 3, (4, 5, 6), 7, 8, (9, 10), 11, 12


class _Compact:
    """A cursor in Thrift's compact protocol. Raises `IndexError` at the end, `ValueError` for nonsense."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

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
        return _wrong(_Compact(_footer(path)), max_columns)
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


def _wrong(footer: _Compact, max_columns: int) -> str:
    reason = ""
    for number, kind in footer.fields():
        if number == 2 and kind in SEQUENCES:
            reason = _wrong_schema(footer, max_columns)
        elif number == 4 and kind in SEQUENCES:
            reason = _wrong_groups(footer)
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


def _wrong_groups(footer: _Compact) -> str:
    count, _ = footer.sequence()
    for _ in range(count):
        rows = most_values = most_bytes = 0
        for number, kind in footer.fields():
            if number == 1 and kind in SEQUENCES:
                most_values, most_bytes = _largest_chunk(footer)
            elif number == 3 and kind in NUMBERS:
                rows = footer.number()
            else:
                footer.skip(kind)
        if most_bytes > MAX_CHUNK or most_values - rows > MAX_LISTED:
            return (
                f"has a row group with {most_values:,} values in {most_bytes:,} bytes of one column: "
                "write it with smaller row groups"
            )
    return ""


def _largest_chunk(footer: _Compact) -> tuple[int, int]:
    """The most values and the most unpacked bytes of a column."""
    count, _ = footer.sequence()
    largest = {5: 0, 6: 0}
    for _ in range(count):
        for number, kind in footer.fields():
            if number != 3 or kind != STRUCT:
                footer.skip(kind)
                continue
            for inner, inner_kind in footer.fields():
                if inner in largest and inner_kind in NUMBERS:
                    largest[inner] = max(largest[inner], footer.number())
                else:
                    footer.skip(inner_kind)
    return largest[5], largest[6]
